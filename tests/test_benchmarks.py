"""The benchmark runs with a tiny model, and says what it measured; no times are asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import all_work, chosen
from benchmarks.archive import Archive, open_archive, read
from benchmarks.bars import BARS, Bar
from benchmarks.groups.tutorial import total_seconds
from benchmarks.interleaving import interleave
from benchmarks.lookup import Results
from benchmarks.plans import cpu_plan
from benchmarks.process import Refused
from benchmarks.pythons import find_pythons
from benchmarks.rows import Row, make_rows, paired_ratio

ROOT = Path(__file__).resolve().parents[1]
OURS = ["--python", f"reftune={sys.executable}", "--python", "pyreft=", "--python", "adapters="]


def run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def archive(path: Path, **changed: object) -> Archive:
    about = {"machine": "m", "device": "cpu", "threads": 2, "seed": 0, **changed}
    return open_archive(path, about, {"reftune": {"torch": "2.13.0"}}, fresh=False)


@pytest.mark.slow  # starts many processes
def test_quick_runs_measure_ours_and_add_up(tmp_path):
    quick = ["--quick", "--out", str(tmp_path), "--rounds", "1", *OURS]
    run("benchmarks", *quick, "--only", "iv,generation,orthonormal")
    run("benchmarks", *quick, "--only", "v,tenants,mixed")
    (path,) = tmp_path.glob("*.json")
    results = json.loads(path.read_text())
    assert [row for row in results["rows"] if row["error"]] == []
    measured = {row["group"] for row in results["rows"] if row["method"] == "reftune"}
    assert measured >= {"steps", "generate", "prefill", "decode", "orthonormal", "tutorial"}
    assert measured >= {"mixed", "mixed prefill"}
    methods = {row["method"] for row in results["rows"]}
    assert methods >= {"reftune_reuse", "reftune_no_reuse", "together", "in turn"}
    assert results["runs"]["tenants"]["left out"] == ["pyreft", "adapters"]
    assert {bar["verdict"] for bar in results["bars"]} <= {"met", "not met", "not measured"}
    report = path.with_suffix(".md").read_text()
    assert "pyreft: left out" in report
    run("benchmarks", "--quick", "--out", str(tmp_path), "--report")
    assert path.with_suffix(".md").read_text() == report


@pytest.mark.slow  # loads models
def test_a_step_is_profiled(tmp_path):
    run("benchmarks.profile_step", "i", "--quick", "--out", str(tmp_path))
    (path,) = tmp_path.iterdir()
    assert path.read_text().count("Self CPU time total") == 2


def test_what_is_measured_again_replaces_its_earlier_rows(tmp_path):
    path, order = tmp_path / "cpu.json", ["i", "v"]
    run = {"seconds": 1.0, "rounds": 3, "left out": []}
    for name, value in (("v", 1.0), ("i", 2.0), ("v", 3.0)):
        row = Row("g", name, "reftune", samples={1: value})
        archive(path).replace(name, [row], run, order)
    found = read(path)
    assert [(row.work, row.samples) for row in found.rows] == [("i", {1: 2.0}), ("v", {1: 3.0})]
    assert found.runs == {"v": run, "i": run}


def test_rows_of_another_machine_or_version_are_not_mixed(tmp_path):
    path = tmp_path / "cpu.json"
    archive(path).save()
    with pytest.raises(ValueError, match=r"differs in threads.*--fresh"):
        archive(path, threads=4)
    about = archive(path).about
    with pytest.raises(ValueError, match="versions of reftune"):
        open_archive(path, about, {"reftune": {"torch": "2.14.0"}}, fresh=False)
    assert open_archive(path, about, {"reftune": {}}, fresh=True).rows == []


def test_only_names_settings_and_groups():
    work = all_work(cpu_plan())
    assert list(chosen(work, ["vi"])) == [
        "vi-ii short",
        "vi-ii long",
        "vi-ii pair",
        "vi-iii short",
        "vi-iii long",
        "vi-iii pair",
    ]
    assert list(chosen(work, ["vi-ii pair", "v"])) == ["vi-ii pair", "v"]
    assert list(chosen(work, ["i", "v"])) == ["i short", "i long", "v"]
    assert list(chosen(work, [])) == list(work)
    with pytest.raises(ValueError, match=r"vii.*expected some of"):
        chosen(work, ["vii"])


def test_cases_that_bars_name_are_there():
    names = {case.name for case in cpu_plan().cases}
    assert names >= {"ii long", "iii long", "iv long", "memory long"}
    assert next(case for case in cpu_plan().cases if case.name == "iv long").rows.prompt == 512


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
