"""A cell of the comparison: the search of its rate, what is kept of it, what is not trained."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from filelock import FileLock, Timeout

import comparison.cells
from comparison.cells import FINAL, SEARCH, Cell, Places, run_or_go_on
from comparison.rates import is_whole
from comparison.records import weights_digest
from comparison.settings import METHODS, SEEDS
from comparison.untrained import score_one_answer
from reftune.experiments.inputs import read_inputs, settings_of
from reftune.experiments.model_files import version_of
from reftune.tasks.halves import halves
from tests.comparison_records import named

pytestmark = pytest.mark.usefixtures("tasks_as_before")
ROW = {"sentence": "It is good.", "label": 1}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Places with a few rows of a task, and weights that nothing is done with."""
    data = tmp_path / "data"
    (tmp_path / "models" / "encoder").mkdir(parents=True)
    (tmp_path / "models" / "encoder" / "model.safetensors").write_bytes(b"weights")
    data.mkdir()
    for split, count in (("train", 2), ("validation", 3)):
        (data / f"{split}.jsonl").write_text((json.dumps(ROW) + "\n") * count)
    monkeypatch.setattr("comparison.cells.write_sets", lambda *given: data)
    weights_digest.cache_clear()
    return Places(tmp_path / "models", tmp_path, tmp_path / "out", tmp_path / "records")


def runs_of(monkeypatch, cell: Cell, places: Places, values: dict[float, float]) -> list[Any]:
    """Let validation be that of the learning rate; what is asked for is noted."""
    asked: list[Any] = []

    def run(experiment, data, out, test_rows):
        asked.append((out.relative_to(cell.folder(places.out)).parts, experiment.seeds))
        inputs = read_inputs(experiment, data, None, test_rows)
        told = settings_of(experiment, inputs, None, test_rows)
        seed = {"validation": values[experiment.training["lr"]], "scores": {}}
        return {**told, "seeds": [seed]}

    monkeypatch.setattr("comparison.cells.run_experiment", run)
    return asked


def test_the_best_rate_by_validation_is_the_one_that_is_run_and_kept(places, monkeypatch):
    cell = named("SST-2", "LoRA")
    values = {1e-4: 0.5, 1e-3: 0.6, 1e-2: 0.9, 1e-1: 0.7, 3e-2: 0.8}
    asked = runs_of(monkeypatch, cell, places, values)
    record = cell.run(places)
    assert record["experiment"]["training"]["lr"] == 1e-2
    assert record["search"] == {f"{rate:g}": value for rate, value in values.items()}
    searches = [parts for parts, seeds in asked if parts[0] == SEARCH]
    assert searches == [(SEARCH, f"{rate:g}") for rate in values]
    assert asked[-1] == ((FINAL,), SEEDS)
    assert not {*SEEDS} & {seed for parts, seeds in asked[:-1] for seed in seeds}
    assert str(places.base_models) not in cell.file(places.records).read_text()

    asked.clear()
    assert cell.run(places) == record  # kept: nothing is run again
    assert not asked
    (places.base_models / "encoder" / "model.safetensors").write_bytes(b"other weights")
    weights_digest.cache_clear()
    assert cell.run(places)["model_sha256"] != record["model_sha256"]
    assert len(asked) == 6
    (cell.sets(places) / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    assert cell.run(places)["sha256"] != record["sha256"]
    assert len(asked) == 12
    said = json.loads(cell.file(places.records).read_text())
    said["search"].popitem()
    cell.file(places.records).write_text(json.dumps(said))
    assert cell.run(places)["search"].keys() == record["search"].keys()
    assert len(asked) == 18


@pytest.mark.parametrize(
    ("values", "between", "best"),
    [
        ({1e-4: 0.5, 1e-3: 0.6, 1e-2: 0.9, 1e-1: 0.7, 3e-2: 0.8}, 3e-2, 1e-2),
        ({1e-4: 0.8, 1e-3: 0.7, 1e-2: 0.9, 1e-1: 0.6, 3e-3: 0.95}, 3e-3, 3e-3),
        ({1e-4: 0.9, 1e-3: 0.7, 1e-2: 0.7, 1e-1: 0.8, 3e-4: 0.1}, 3e-4, 1e-4),
        ({1e-4: 0, 1e-3: 0.1, 1e-2: 0.7, 1e-1: 0.8, 3e-2: 0.2}, 3e-2, 1e-1),
        # those that have learned nothing go up
        ({1e-4: 0, 1e-3: 0, 1e-2: 0, 1e-1: 0, 3e-2: 0.3}, 3e-2, 3e-2),
        ({1e-4: -math.inf, 1e-3: -9, 1e-2: -2, 1e-1: -math.inf, 3e-3: -3}, 3e-3, 1e-2),
    ],
)
def test_the_rate_between_the_best_and_its_better_neighbour_is_tried_last(
    places, monkeypatch, values, between, best
):
    cell = named("SST-2", "LoRA")
    asked = runs_of(monkeypatch, cell, places, values)
    record = cell.run(places)
    tried = [float(parts[1]) for parts, _ in asked if parts[0] == SEARCH]
    assert tried == [*cell.compared.rates, between]
    assert record["experiment"]["training"]["lr"] == best
    asked.clear()
    cell.run(places)
    assert not asked
    shorter = {rate: value for rate, value in record["search"].items() if float(rate) != between}
    assert not is_whole(shorter, cell.compared.rates, best)
    assert not is_whole(record["search"], cell.compared.rates, 3.0)


@pytest.mark.parametrize(
    ("task", "searched", "rows", "tokens"),
    [
        ("IMDB", "test", 1, None),
        ("OBQA", "validation", 2, None),
        ("Instructions", "validation", 2, 1),
    ],
)
def test_a_search_goes_by_the_validation_set_and_what_nobody_reads_is_short(
    places, monkeypatch, task, searched, rows, tokens
):
    """The sets go through the checks of every experiment, as they are and as they are searched."""
    cell, data = named(task, "LoRA"), places.assets / "data"
    question = {"instruction": "Answer format: answer1/answer2", "answer": "answer1"}
    for number, split in enumerate(("train", "validation", "test"), start=1):
        row = {**question, "text": "It is good.", "label": 1}
        (data / f"{split}.jsonl").write_text((json.dumps(row) + "\n") * number)
    (places.base_models / "decoder").mkdir()
    (places.base_models / "decoder" / "model.safetensors").write_bytes(b"weights")
    asked: list[Any] = []

    def run(experiment: Any, data: Any, out: Any, test_rows: int | None) -> Any:
        inputs = read_inputs(experiment, data, None, test_rows)
        asked.append((inputs, experiment.generation.get("max_new_tokens")))
        told = settings_of(experiment, inputs, None, test_rows)
        good = experiment.training["lr"]
        score = {"metric": "loss", "value": 1 / good} if tokens else {"metric": "", "value": good}
        scores = dict.fromkeys(inputs.tests, score)
        chosen = {"validation": good} if inputs.validation else {}
        return {**told, "seeds": [{**chosen, "scores": scores}]}

    monkeypatch.setattr("comparison.cells.run_experiment", run)
    record = cell.run(places)
    assert record["experiment"]["training"]["lr"] == max(cell.compared.rates)
    *searches, (scored, written) = asked
    assert [len(rows.rows) for rows in scored.tests.values()] == [3]
    assert written != 1
    for inputs, most in searches:
        assert {name: len(rows.rows) for name, rows in inputs.tests.items()} == {searched: rows}
        assert inputs.validation is None or len(inputs.validation.rows) == 2
        assert most == tokens or tokens is None


def test_every_method_has_as_many_rates_a_decade_apart():
    for methods in METHODS.values():
        for one in methods:
            steps = [high / low for low, high in pairwise(one.rates)]
            assert steps == pytest.approx([10, 10, 10])


def test_one_answer_is_the_best_there_is(tmp_path):
    answers = {"validation": [0, 1, 1, 0, 1, 1], "train": [0, 0, 0, 0]}
    for split, labels in answers.items():
        rows = [{"sentence": "It is good.", "label": label} for label in labels]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = named("SST-2", "LoRA").experiment(tmp_path, 1e-3, SEEDS)
    result = score_one_answer(experiment, tmp_path)
    assert [one["seed"] for one in result["seeds"]] == list(SEEDS)
    for one in result["seeds"]:
        scored = [answers["validation"][row] for row in halves(6, one["seed"])[1]]
        best = max(scored.count(0), scored.count(1)) / len(scored)
        assert one["scores"]["sst2"]["value"] == pytest.approx(best)
        assert one["scores"]["sst2"]["total"] == len(scored) == 3
    cola = replace(experiment, task="cola")
    assert score_one_answer(cola, tmp_path)["seeds"][0]["scores"]["cola"]["value"] == 0


def test_one_answer_to_questions_of_commonsense(tmp_path):
    for split, answers in (("train", "12"), ("test", "1223")):
        rows = [
            {
                "instruction": "Which?",
                "input": "",
                "output": f"the correct answer is answer{a}",
                "answer": f"answer{a}",
            }
            for a in answers
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = score_one_answer(named("OBQA", "LoRA").experiment(tmp_path, 1e-3, SEEDS), tmp_path)
    assert {one["scores"]["test"]["value"] for one in result["seeds"]} == {0.5}


def test_one_process_at_a_time_works_on_a_cell(places, monkeypatch):
    """The table and an ablation may ask for the same one: the second gets what the first did."""
    cell = named("SST-2", "LoRA")
    asked = runs_of(monkeypatch, cell, places, dict.fromkeys((*cell.compared.rates, 3e-2), 0.5))
    train, waits = comparison.cells.run_experiment, []

    def run(*given: Any, **more: Any) -> Any:
        try:
            with FileLock(f"{cell.folder(places.out)}.lock", blocking=False):
                waits.append(False)
        except Timeout:
            waits.append(True)
        return train(*given, **more)

    monkeypatch.setattr("comparison.cells.run_experiment", run)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cell.run(places), range(2))
    assert first == second
    assert len(asked) == len(cell.compared.rates) + 2
    assert waits == [True] * len(asked)


def test_trainings_of_other_settings_are_removed(places, monkeypatch):
    cell, data = named("SST-2", "LoRA"), places.assets / "data"
    ran = []
    monkeypatch.setattr(
        "comparison.cells.run_experiment", lambda *given, **more: ran.append(given) or {}
    )
    experiment = cell.experiment(places.base_models, 1e-3, SEEDS)
    out = places.out / "final"
    out.mkdir(parents=True)
    told = settings_of(experiment, read_inputs(experiment, data), None, None)
    told["model"] = version_of(str(places.base_models / "encoder"))
    (out / "experiment.json").write_text(json.dumps(told))
    (out / "seed-1").mkdir()
    run_or_go_on(experiment, data, out)
    assert (out / "seed-1").exists()
    run_or_go_on(replace(experiment, seeds=(7,)), data, out)
    assert not out.exists()
    out.mkdir(parents=True)
    (out / "experiment.json").write_text(json.dumps(told))
    (places.base_models / "encoder" / "model.safetensors").write_bytes(b"other weights")
    run_or_go_on(experiment, data, out)
    assert not out.exists()
    assert len(ran) == 3
