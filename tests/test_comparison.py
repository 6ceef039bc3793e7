"""The comparison of methods: what it runs has a meaning, and its page says what the files say."""

import json
import re
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest

from comparison.__main__ import RECORDS, in_order, parse
from comparison.ablations import Variant, variants
from comparison.cells import Cell, cells
from comparison.claim import verdict
from comparison.data import MAKERS
from comparison.judge import Judge
from comparison.method_table import method_table
from comparison.page import write_page
from comparison.rates import is_whole
from comparison.records import read_record, write_reason
from comparison.settings import FIRST, METHODS, SEARCH_SEED, SEEDS, TASKS
from reftune.experiments.methods import method_of
from tests.comparison_records import named, write_result

pytestmark = pytest.mark.usefixtures("tasks_as_before")
measured = pytest.mark.skipif(not any(RECORDS.rglob("*.json")), reason="nothing has been measured")


def test_every_cell_and_variant_is_an_experiment(tmp_path):
    parts = [*cells(), *(variant.cell for variant in variants())]
    for cell in parts:
        for rate in cell.compared.rates:
            experiment = cell.experiment(tmp_path, rate, SEEDS)
            assert method_of(experiment.method, experiment.adapter)
    for places in ("folder", "file"):
        paths = [getattr(part, places)(Path()) for part in (*cells(), *variants())]
        assert len(set(paths)) == len(paths)
    assert {studied.task for studied in TASKS} == set(MAKERS)


def test_the_page_says_what_the_files_say(tmp_path):
    scores = {"LoReFT": [0.81, 0.82, 0.80, 0.83, 0.84], "LoRA": [0.80, 0.81, 0.79, 0.82, 0.83]}
    for method, parameters in (("LoReFT", 14_364), ("LoRA", 258_048)):
        cell = named("SST-2", method)
        write_result(cell.file(tmp_path), cell.compared.rates[1], parameters, scores[method])
    write_reason(named("SST-2", "IA³").file(tmp_path), "it does not fit")
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    deviation = 100 * statistics.stdev(scores["LoReFT"])
    assert f"| LoReFT | 14,364 | **82.0** ± {deviation:.1f} |" in page
    assert "| LoRA | 258,048 | 81.0 ±" in page
    # The differences of the seeds are all one point.
    assert "| SST-2: LoReFT − LoRA | +1.0 | [+1.0, +1.0] | 18.0 | holds |" in page
    assert "| IA³ | SST-2 | it does not fit |" in page
    assert "a machine" in page
    assert (tmp_path / "docs" / "results" / "sst-2.png").stat().st_size > 5_000


def write_two_scores(file: Path, parameters: int, passing: float, losses: list[float]) -> None:
    write_result(file, 3e-3, parameters, [passing] * len(losses))
    said = json.loads(file.read_text())
    for seed, loss in zip(said["seeds"], losses, strict=True):
        seed["scores"] = {
            "test": {"metric": "accuracy", "value": passing, "total": 150},
            "test loss": {"metric": "loss", "value": loss, "total": 3000},
        }
    file.write_text(json.dumps(said))


def test_of_a_loss_less_is_better_on_the_page(tmp_path):
    ours, theirs = [5.00, 5.10, 5.20, 5.30, 5.40], [5.10, 5.20, 5.30, 5.40, 5.50]
    for method, parameters, passing, losses in (
        ("LoReFT", 20_512, 0.5, ours),
        ("LoRA", 491_520, 0.4, theirs),
        ("LoRA, rank 1", 61_440, 0.4, [loss - 0.3 for loss in ours]),
    ):
        file = named("Instructions", method).file(tmp_path)
        write_two_scores(file, parameters, passing, losses)
    base = named("Instructions", "base model").file(tmp_path)
    write_two_scores(base, 0, 0.1, [6.0])
    said = json.loads(base.read_text())
    said["experiment"]["training"] = {}
    for name in ("processor_seconds", "memory_bytes"):
        del said["seeds"][0][name]
    base.write_text(json.dumps(said))
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    heads = "answers that pass, % | interval | held-out loss, nats | interval | seconds"
    assert f"| method | trained | {heads} | memory | rate |" in page
    assert "| base model | 0 | 10.0 |  | 6 |  |  |  |  |" in page
    assert "| LoReFT | 20,512 | **50.0** ± 0.0 | [50.0, 50.0] | 5.2 ± 0.16 | [5.004, 5.396]" in page
    assert "| LoRA, rank 1 | 61,440 | 40.0 ± 0.0 | [40.0, 40.0] | **4.9** ± 0.16 |" in page
    loss = "Instructions (held-out loss, nats)"
    assert f"| {loss}: LoReFT − LoRA | -0.100 | [-0.100, -0.100] | 24.0 | holds |" in page
    assert f"| {loss}: LoReFT − LoRA, rank 1 | +0.300 | [+0.300, +0.300] | 3.0 | fails |" in page
    passing = "Instructions (answers that pass, %)"
    base_passes = json.loads(base.read_text())
    base_passes["seeds"][0]["scores"]["test"]["value"] = 0.45
    base.write_text(json.dumps(base_passes))
    write_page(tmp_path, tmp_path / "again")
    again = (tmp_path / "again" / "RESULTS.md").read_text(encoding="utf-8")
    assert (
        f"| {passing}: LoReFT − LoRA | +10.0 | [+10.0, +10.0] | 24.0 | nothing to reach |" in again
    )
    assert f"| {loss}: LoReFT − LoRA | -0.100 | [-0.100, -0.100] | 24.0 | holds |" in again
    assert f"| {passing}: LoReFT − LoRA | +10.0 | [+10.0, +10.0] | 24.0 | holds |" in page
    assert "held-out loss, nats (less is better)" in page
    pictures = {file.name for file in (tmp_path / "docs" / "results").iterdir()}
    assert pictures == {"instructions-accuracy.png", "instructions-loss.png"}


def test_the_page_says_how_good_the_judge_is(tmp_path):
    cell = named("Positive reviews", "LoReFT")
    write_result(cell.file(tmp_path), 1e-3, 20_512, [0.4, 0.5, 0.4, 0.5, 0.4])
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    accuracy = Judge.load().accuracy
    assert f"right on {100 * accuracy['reviews']:.1f} % of whole ones" in page
    assert f"on {100 * accuracy['fragments']:.1f} % of parts" in page
    assert "| method | trained | judged positive, % | interval |" in page


def test_a_page_of_nothing_is_an_error(tmp_path):
    file = named("SST-2", "one answer to all").file(tmp_path)
    write_result(file, 1e-3, 0, [0.5] * 5)
    said = json.loads(file.read_text())
    said["experiment"]["training"] = {}
    file.write_text(json.dumps(said))
    with pytest.raises(ValueError, match="no finished cell"):
        write_page(tmp_path, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(-0.005, 0.02, "holds"), (-0.05, -0.01, "fails"), (-0.05, 0.02, "open")],
)
def test_the_verdict_is_that_of_the_interval(low, high, says):
    assert verdict(low, high) == says


def test_what_one_answer_or_a_head_reaches_too_is_nothing_to_reach(tmp_path):
    for method, values in (
        ("LoReFT", [0.52, 0.53, 0.52, 0.53, 0.52]),
        ("LoRA", [0.51, 0.53, 0.52, 0.51, 0.52]),
        ("one answer to all", [0.51] * 5),
    ):
        write_result(named("SST-2", method).file(tmp_path), 3e-3, 1 + len(method), values)
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert re.search(r"SST-2: LoReFT − LoRA \|.*nothing to reach", page)
    write_result(named("SST-2", "one answer to all").file(tmp_path), 3e-3, 18, [0.49] * 5)
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert re.search(r"SST-2: LoReFT − LoRA \|.*(holds|open)", page)
    write_result(named("SST-2", "head only").file(tmp_path), 3e-3, 18, [0.52] * 5)
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert re.search(r"SST-2: LoReFT − LoRA \|.*nothing to reach", page)


def test_a_family_is_averaged_over_its_tasks_seed_by_seed(tmp_path):
    one, other = [0.80, 0.82, 0.84, 0.86, 0.88], [0.60, 0.58, 0.56, 0.54, 0.52]
    write_result(named("SST-2", "LoRA").file(tmp_path), 3e-3, 258_048, one)
    write_result(named("CoLA", "LoRA").file(tmp_path), 3e-3, 258_048, other)
    write_result(named("SST-2", "BitFit").file(tmp_path), 3e-3, 100, one)
    write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert "| method | trained | SST-2 | CoLA | mean |" in page
    assert "| LoRA | 258,048 | 84.0 | 56.0 | 70.0 [70.0, 70.0] |" in page
    assert "| BitFit | 100 | 84.0 |  |  |" in page
    [picture] = re.findall(r"\((results/classes\S+\.png)\)", page)
    assert (tmp_path / "docs" / picture).stat().st_size > 5_000


@measured
def test_what_is_kept_is_of_todays_settings():
    kept = {part.file(RECORDS): part for part in in_order()}
    written = sorted(RECORDS.rglob("*.json"))
    assert set(written) <= set(kept)  # nothing that no part of the comparison reads
    for file in written:
        record, part = read_record(file), kept[file]
        cell = part if isinstance(part, Cell) else part.cell
        if record is None or not cell.is_trained:
            continue
        experiment, rates = record["experiment"], cell.compared.rates
        rate = experiment["training"]["lr"]
        today = asdict(cell.experiment(Path(), rate, SEEDS)) | {"model": cell.studied.model}
        assert experiment == json.loads(json.dumps(today)), file
        assert [one["seed"] for one in record["seeds"]] == list(SEEDS)
        assert SEARCH_SEED not in SEEDS
        if isinstance(part, Cell):
            assert is_whole(record["search"], rates, rate), file


@pytest.mark.parametrize("where", [[], ["--assets", "nowhere"]])
def test_sets_that_are_not_there_are_told_at_once(monkeypatch, capsys, where):
    monkeypatch.delenv("REFTUNE_ASSETS", raising=False)
    monkeypatch.setattr("sys.argv", ["comparison", *where])
    with pytest.raises(SystemExit):
        parse()
    assert "expected the folder of the real sets" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["comparison", *where, "--page"])
    assert parse().page


@measured
def test_the_page_is_that_of_what_is_kept(tmp_path):
    write_page(RECORDS, tmp_path)
    page = (RECORDS.parent.parent / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == page
    for picture in re.findall(r"\((results/\S+\.png)\)", page):
        assert (RECORDS.parent.parent / "docs" / picture).exists()


def test_every_method_is_told_as_a_recipe_has_it():
    lines = {line.split(" | ")[0]: line for line in method_table().splitlines() if "`" in line}
    named = {one.name for methods in METHODS.values() for one in methods}
    assert {name.removeprefix("| ").split(" (")[0] for name in lines} == named
    rates = "| 0.0001, 0.001, 0.01, 0.1 |"
    encoder, decoder = lines["| LoReFT"].removeprefix("| LoReFT | `reft` | ").split("; ")
    assert encoder == "encoder: r 4, layers all, positions f3+l3, tied True"
    assert decoder == f"decoder: r 4, layers all, positions f5+l5, tied True {rates}"
    every = lines["| LoReFT, every token (decoder alone)"]
    assert every.endswith(f"r 4, layers all, positions all, decode all {rates}")
    assert "reft (r 4, layers all" in lines["| LoReFT + LoRA"]
    assert lines["| head only (encoder alone)"].endswith(f"| `probe` |  {rates}")


def test_some_tasks_come_whole_with_their_ablations_before_the_others():
    names = [part.studied.name for part in in_order()]
    assert set(names[: len([n for n in names if n in FIRST])]) == set(FIRST)
    assert {type(part) for part in in_order() if part.studied.name == FIRST[0]} == {Cell, Variant}
