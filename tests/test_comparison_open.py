"""The tasks without one right answer: what passes, what is judged, and what it is drawn from."""

import json
import os
from pathlib import Path

import pytest

from comparison.cells import FINAL, SEARCH, Cell, Places, cells, validation_of
from comparison.data import MAKERS
from comparison.judge import Judge
from comparison.open_tasks import OPEN, register
from comparison.rows import unlike, words
from comparison.rubric import failures
from comparison.settings import FIRST, SEEDS, UNTRAINED
from comparison.settings import TASKS as STUDIED
from reftune.tasks import TASKS
from tests.tiny_text import byte_level, tiny_llama

ASSETS = Path(os.environ.get("REFTUNE_ASSETS", Path(__file__).parents[2] / "shared"))
needs_assets = pytest.mark.skipif(
    not (ASSETS / "data" / "alpaca").is_dir(), reason="no data (set REFTUNE_ASSETS)"
)


pytestmark = pytest.mark.usefixtures("tasks_as_before")


def asked(instruction: str, answer: str = "") -> dict[str, str]:
    return {"instruction": instruction, "answer": answer}


HORSES = asked("Tell me about horses.", "A horse is a large animal that people ride.")
LONG = " ".join(["horses run over hills and rivers that", *"abcdefghijklmnopqrstuvwx"])


@pytest.mark.parametrize(
    ("text", "row", "wrong"),
    [
        ("Horses are large animals.", HORSES, []),
        ("The animal is large", HORSES, []),  # short: nothing can have cut it
        ("", HORSES, ["empty", "about something else"]),
        ("?!", HORSES, ["empty", "about something else"]),
        (LONG, HORSES, ["cut off"]),
        (LONG + ".", HORSES, []),
        ("The sky is blue.", HORSES, ["about something else"]),
        ("I will tell you about them.", HORSES, ["about something else"]),
        ("a horse can run " * 2, HORSES, []),
        ("a horse can run " * 3, HORSES, ["repeats itself"]),
        ("Horse horse horse horse horse horse.", HORSES, ["repeats itself"]),
        ("Red, blue and green.", asked("Name three colors.", "Red."), []),
        ("1. Red 2. Blue 3. Green", asked("List 3 colors.", "Red."), []),
        ("Red.\nBlue.\nGreen.", asked("Give me three colors.", "Red."), []),
        ("Red and blue.", asked("Name three colors.", "Red."), ["too few items"]),
        ("Red.", asked("Name the color of 3 of these things.", "Red."), []),
        ("What is red?", asked("Write a question about red.", ""), []),
        ("It is red.", asked("Write a question about red.", ""), ["another form"]),
        ("It is red.", asked("Answer this question about red.", ""), []),
        ("Happy", asked("Describe it in one word.", "happy"), []),
        ("So happy", asked("Describe it in one word.", "happy"), ["another form"]),
        ("A dog. It is big.", asked("Put it in a single sentence.", "dog"), ["another form"]),
        ("A dog is big.", asked("Put it in a single sentence.", "dog"), []),
        ("46", asked("Add 12 and 34.", "46"), []),
        ("C", asked("Which is it?", ""), []),  # nothing to hold it against
    ],
)
def test_an_answer_passes_or_what_is_wrong_is_named(text, row, wrong):
    assert failures(text, row) == wrong
    judge = OPEN["alpaca"].judge
    assert judge is not None
    judged = judge(text, row)
    assert judged.right == (not wrong)
    assert judged.found == (", ".join(wrong) or "passes")


def test_near_duplicates_are_known_by_their_words():
    texts = ["Name three colors of cars.", "Name three colours.", "Say: name three colours", "Go."]
    assert unlike(texts, ["name three colors of a car", "Stay"]) == [True, True, False, True]
    assert unlike(["Name the three colors of a car!"], ["name three colors of a car"]) == [False]


def test_naive_bayes_is_what_it_is_by_hand():
    rows = [{"text": "good good film", "label": 1}] * 60 + [{"text": "bad film", "label": 0}] * 60
    judge = Judge.fit(rows)
    # 120 words of each kind and 3 known ones, a count more for each.
    assert judge.weights == {"bad": -4.111, "film": 0.0, "good": 4.111}
    assert judge.rows == 120
    assert judge.log_odds("a good film, GOOD") == pytest.approx(4.111)
    assert judge.is_positive("good")
    assert not judge.is_positive("bad")
    assert not judge.is_positive("film")
    assert not judge.is_positive("")
    assert judge.accuracy_on([{"text": "good", "label": 1}, {"text": "good", "label": 0}]) == 0.5


def test_the_judge_of_the_comparison_tells_praise_from_blame():
    judge, judged = Judge.load(), OPEN["sentiment"].judge
    assert judged is not None
    assert judged("A wonderful, moving film with a great cast.", {"opening": "bad"}).right
    assert not judged("A dull waste of time, and the worst acting.", {"opening": "great"}).right
    assert 0.6 < judge.accuracy["fragments"] < judge.accuracy["reviews"] < 0.9


def test_emoji_alone_are_right():
    judge = OPEN["emoji-answers"].judge
    assert judge is not None
    assert judge("🐴🌾 🏇", {}).right
    assert not judge("🐴 horse", {}).right
    assert not judge("", {}).right


@pytest.mark.long
@needs_assets
@pytest.mark.parametrize("task", ["alpaca", "emoji-answers"])
def test_held_out_instructions_are_not_trained_on(task):
    sets = MAKERS[task](ASSETS / "data", 1000)
    train, validation, test = (
        [row["instruction"] for row in sets[split]] for split in ("train", "validation", "test")
    )
    assert len(train) == {"alpaca": 1000, "emoji-answers": 10}[task]
    assert len(validation) >= 50
    assert len(test) >= 150
    held_out = [*validation, *test]
    assert len({" ".join(words(one)) for one in held_out}) == len(held_out)
    assert all(unlike([one], train) == [True] for one in held_out[::10])


@needs_assets
def test_reviews_that_are_gone_on_with_are_new_to_the_judge(monkeypatch):
    def reviews(folder, name):
        return [
            {"text": f"{name} {n} " + "word " * 60 + "end", "label": n % 2} for n in range(3000)
        ]

    monkeypatch.setattr("comparison.open_sets.reviews", reviews)
    monkeypatch.setattr("comparison.judge.reviews", reviews)
    fitted = []
    monkeypatch.setattr(
        "comparison.judge.Judge.fit",
        lambda rows: fitted.extend(row["text"] for row in rows) or Judge({}, {}, len(rows)),
    )
    from comparison.judge import measured

    measured(Path())
    sets = MAKERS["sentiment"](Path(), 500)
    assert {name: len(rows) for name, rows in sets.items()} == {
        "train": 500,
        "validation": 80,
        "test": 160,
    }
    openings = {" ".join(text.split()[:12]) for text in fitted}
    used = [row["opening"] for rows in sets.values() for row in rows]
    assert len(set(used)) == len(used)
    assert not openings & set(used)
    assert all(row["label"] for row in sets["train"])
    assert {row["label"] for row in sets["validation"]} == {0, 1}
    assert all(row["opening"].startswith("test") for row in sets["test"])


def test_a_loss_is_searched_downwards():
    def result(**scores: tuple[str, float]) -> dict:
        said = {name: {"metric": of, "value": value} for name, (of, value) in scores.items()}
        return {"seeds": [{"scores": said}]}

    low, high = (
        result(validation=("accuracy", right), validation_loss=("loss", loss))
        for right, loss in ((0.1, 1.5), (0.9, 1.6))
    )
    broken = result(validation=("accuracy", 1.0), validation_loss=("loss", float("nan")))
    assert max((broken, low, high), key=validation_of) is low
    assert validation_of(result(validation=("accuracy", 0.5))) == 0.5
    assert validation_of({"seeds": [{"validation": 0.7, "scores": {}}]}) == 0.7


def open_cell(form: str, method: str) -> Cell:
    [cell] = [c for c in cells() if (c.studied.form, c.compared.name) == (form, method)]
    return cell


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny base model, and rows of a task, in place of the real ones."""
    model = tmp_path / "decoder"
    tiny_llama(byte_level()).save_pretrained(model)
    byte_level().save_pretrained(model)
    data = tmp_path / "data"
    data.mkdir()
    for split, count in (("train", 6), ("validation", 2), ("test", 3)):
        lines = [json.dumps(asked(f"Name {n}.", "A fox.")) + "\n" for n in range(count)]
        (data / f"{split}.jsonl").write_text("".join(lines))
    monkeypatch.setattr("comparison.cells.write_sets", lambda *given: data)
    monkeypatch.setattr("reftune.experiments.fitting.can_draw", lambda: False)
    return Places(tmp_path, tmp_path, tmp_path / "out", tmp_path / "records")


def test_the_base_model_is_scored_without_a_training(small):
    cell = open_cell("alpaca", UNTRAINED.name)
    assert cell.why_not(small.base_models) is None
    result = cell.run(small)
    folder = cell.folder(small.out) / FINAL
    assert json.loads(cell.file(small.records).read_text()) == result
    [seed] = result["seeds"]
    assert seed["trainable"] == 0
    assert {one["metric"] for one in seed["scores"].values()} == {"accuracy", "loss"}
    answers = folder / "seed-0" / "answers" / "test.jsonl"
    written = answers.stat().st_mtime_ns
    assert cell.run(small) == result
    assert answers.stat().st_mtime_ns == written
    cell.file(small.records).unlink()
    answers.write_text("left by a run of another model\n")
    assert cell.run(small) == result


@pytest.mark.long
def test_a_task_with_two_scores_is_run_once_per_rate_and_seed(small):
    cell = open_cell("alpaca", "LoReFT, rank 1")
    result = cell.run(small, SEEDS[:1])
    assert [seed["seed"] for seed in result["seeds"]] == list(SEEDS[:1])
    folder, losses = cell.folder(small.out), {}
    for tried in (folder / SEARCH).glob("*/result.json"):
        seed = json.loads(tried.read_text())["seeds"][0]
        losses[float(tried.parent.name)] = seed["scores"]["validation loss"]["value"]
    assert losses.keys() > set(cell.compared.rates)
    assert result["experiment"]["training"]["lr"] == min(losses, key=lambda rate: losses[rate])


def test_the_tasks_are_added_once_and_every_decoder_method_is_compared_on_them():
    register()
    register()
    assert set(OPEN) < set(TASKS)
    for form in OPEN:
        names = [c.compared.name for c in cells() if c.studied.form == form]
        assert names[0] == UNTRAINED.name
        assert {"LoReFT", "LoRA", "full finetuning"} < set(names)


def test_a_comparison_that_is_stopped_early_has_the_first_methods_on_every_task():
    order = list(cells())
    rest = [cell for cell in order if cell.studied.name not in FIRST]
    trained = [cell for cell in rest if cell.is_trained]
    tasks = {one.name for one in STUDIED} - set(FIRST)
    assert {cell.studied.name for cell in trained[: len(tasks)]} == tasks
    assert {cell.compared.name for cell in trained[: len(tasks)]} == {"LoReFT"}
    assert len(order) == len({cell.folder(Path()) for cell in order})
