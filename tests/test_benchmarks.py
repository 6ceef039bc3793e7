"""The benchmark runs with a tiny model, and says what it measured; no times are asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bars import BARS, Bar
from benchmarks.groups.tutorial import total_seconds
from benchmarks.interleaving import interleave
from benchmarks.lookup import Results
from benchmarks.process import Refused
from benchmarks.pythons import find_pythons
from benchmarks.rows import Row, make_rows, paired_ratio

ROOT = Path(__file__).resolve().parents[1]
OURS = ["--python", f"reftune={sys.executable}", "--python", "pyreft=", "--python", "adapters="]


@pytest.mark.slow  # starts many processes
def test_quick_run_measures_ours_and_says_what_is_left_out(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path), *OURS]
    command += ["--only", "ii,generation,orthonormal", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    results = json.loads(path.read_text())
    assert [row for row in results["rows"] if row["error"]] == []
    measured = {row["group"] for row in results["rows"] if row["method"] == "reftune"}
    assert measured >= {"steps", "generate", "prefill", "decode", "orthonormal"}
    assert len(results["left out"]) == 2
    assert {bar["verdict"] for bar in results["bars"]} <= {"met", "not met", "not measured"}
    assert "pyreft: left out" in path.with_suffix(".md").read_text()


def test_rounds_are_interleaved_and_the_first_is_not_kept():
    calls = []

    def job(name):
        return lambda number: calls.append((number, name)) or float(number)

    samples = interleave({"a": job("a"), "b": job("b")}, 3, 60.0, {})
    assert samples == {"a": {1: 1.0, 2: 2.0, 3: 3.0}, "b": {1: 1.0, 2: 2.0, 3: 3.0}}
    assert calls[:4] == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_a_refusal_is_a_row_with_its_reason():
    def refuse(number):
        raise Refused("no suffix")

    errors = {}
    samples = interleave({"a": lambda n: 1.0, "b": refuse}, 2, 60.0, errors)
    rows = make_rows("steps", "i short", samples, errors, {"": "a"}, {})
    assert [(row.method, row.error, row.ratio) for row in rows] == [
        ("a", "", 1.0),
        ("b", "no suffix", None),
    ]


def test_ratios_are_within_rounds():
    # The machine became ten times slower; the method is twice as slow throughout.
    assert paired_ratio({1: 2.0, 2: 20.0}, {1: 1.0, 2: 10.0, 3: 10.0}) == 2.0
    assert paired_ratio({1: 2.0}, {2: 1.0}) is None


def test_unfinished_trainings_are_extrapolated_by_their_later_epochs():
    assert total_seconds([5.0, 6.0, 7.0], 7.5, epochs=3) == 7.5
    assert total_seconds([5.0, 6.0, 7.0], 7.5, epochs=13) == 17.5


def test_a_bar_without_its_rows_is_not_measured():
    empty = Results([], "cpu")
    assert {bar.judge(empty)["verdict"] for bar in BARS} == {"not measured"}
    rows = [Row("g", "c", name, samples={1: s}) for name, s in (("reftune", 1.0), ("floor", 2.0))]
    bar = Bar("b", 0.4, "", lambda results: results.ratio("g", "c", "reftune", "floor"), "cpu")
    assert bar.judge(Results(rows, "cpu"))["verdict"] == "not met"
    assert bar.judge(Results(rows, "cuda"))["verdict"] == "not measured"


def test_an_unknown_environment_is_refused():
    with pytest.raises(ValueError, match="expected <name>=<path>"):
        find_pythons(["peft=/usr/bin/python3"])
