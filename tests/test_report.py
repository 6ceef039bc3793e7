"""The page says what the files say, whatever is in them, and needs nothing but itself."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from reftune.cli import report as command
from reftune.report.figures import GROUND, INK
from reftune.report.page import write_page
from reftune.report.reading import read_folder
from tests.report_runs import write_run, write_training

HOSTILE = '<script>alert("$x$")&amp;'


class Page(HTMLParser):
    """The tables of a page by caption, its tags, and its text without tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict]] = []
        self.text, self._rows, self._within = "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._within = tag if tag in ("caption", "td", "th", "strong", "span") else ""
        if tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "caption":
            self._rows = self.tables[""] = []

    def handle_endtag(self, tag):
        if tag in ("td", "th", "caption"):
            self._within = ""

    def handle_data(self, data):
        self.text += data
        if self._within == "caption":
            self.tables[data] = self.tables.pop("")
        elif self._within:
            self._rows[-1][-1] += data

    def cell(self, table: str, line: str, column: str) -> str:
        header, *lines = self.tables[table]
        (found,) = [one for one in lines if one[0] == line]
        return found[header.index(column)]


def page_of(folder) -> Page:
    return Page(write_page(read_folder(folder), "Runs"))


def run(*arguments: str) -> int:
    """Run the command as the tool does, but let its errors through."""
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(one) for one in arguments]))


def expected(result: dict, name: str, factor: float = 100) -> str:
    """Compute a cell from the file."""
    values = factor * np.array([one["scores"][name]["value"] for one in result["seeds"]])
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def test_the_tables_say_what_the_files_say(tmp_path):
    sets = {"boolq": "accuracy", "piqa": "accuracy", "AddSub": "accuracy"}
    results = {
        name: write_run(tmp_path / key, "mixed", key, sets=sets, leaked=("AddSub",))
        for key, name in (("loreft", "LoReFT"), ("lora", "LoRA"), ("dora", "DoRA"))
    }
    page = page_of(tmp_path)
    table = "mixed · roberta-base"
    for column, name in (("boolq", "boolq"), ("piqa", "piqa"), ("AddSub*", "AddSub")):
        means = {
            method: np.mean([one["scores"][name]["value"] for one in result["seeds"]])
            for method, result in results.items()
        }
        for method, result in results.items():
            star = " ★" if means[method] == max(means.values()) else ""
            assert page.cell(table, method, column) == expected(result, name) + star
    for method, result in results.items():
        clean = np.array(
            [[one["scores"][n]["value"] for n in ("boolq", "piqa")] for one in result["seeds"]]
        ).mean(1)
        told = f"{100 * clean.mean():.1f} ± {100 * clean.std(ddof=1):.1f}"
        assert page.cell(table, method, "average").removesuffix(" ★") == told
        seconds = np.mean([one["train_seconds"] for one in result["seeds"]])
        assert page.cell(table, method, "training time") == f"{seconds:.3g} s"
        memory = max(one["memory_bytes"] for one in result["seeds"])
        shown = f"{memory / 1e9:.3g} GB" if memory > 1e9 else f"{memory / 1e6:.0f} MB"
        assert page.cell(table, method, "memory") == shown
        trained = result["seeds"][0]["trainable"]
        assert page.cell(table, method, "trained parameters") == f"{trained:,}"


def test_glue_has_a_table_and_a_picture_of_the_mean_over_tasks(tmp_path):
    tasks = {"cola": "matthews", "stsb": "pearson", "rte": "accuracy"}
    results = {
        (task, key): write_run(tmp_path / task / key, task, key, sets={task: metric})
        for task, metric in tasks.items()
        for key in ("loreft", "lora", "bitfit")
        if (task, key) != ("rte", "bitfit")
    }
    page = page_of(tmp_path)
    table = "GLUE · roberta-base"
    assert page.tables[table][0][1:4] == ["CoLA", "RTE", "STS-B"]
    for key, name in (("loreft", "LoReFT"), ("lora", "LoRA")):
        means = [
            np.mean([one["scores"][task]["value"] for one in results[task, key]["seeds"]])
            for task in tasks
        ]
        assert page.cell(table, name, "mean").removesuffix(" ★") == f"{100 * np.mean(means):.1f}"
    assert page.cell(table, "BitFit", "RTE") == page.cell(table, "BitFit", "mean") == "–"
    (picture,) = [a for t, a in page.tags if t == "svg" and a["aria-label"].startswith("GLUE")]
    mean = page.cell(table, "LoRA", "mean").removesuffix(" ★")
    assert f"LoRA: 294,912 parameters, {mean} ±" in picture["aria-label"]
    assert "BitFit" not in picture["aria-label"]
    assert "for want of some of these tasks: BitFit" in page.text


def test_best_is_the_lowest_loss_and_nobody_where_the_metric_is_not_known(tmp_path):
    for number, level in enumerate((2.5, 3.5, 4.5)):
        options = {"r": number}
        given = {"sets": {"test": "loss"}, "level": level, "options": options}
        write_run(tmp_path / f"loss{number}", "text", "loreft", **given)
        given["sets"] = {"test": "wonder"}
        write_run(tmp_path / f"other{number}", "unknown", "loreft", **given)
    page = page_of(tmp_path)
    for task, best in (("text", ["LoReFT (r 0)"]), ("unknown", [])):
        lines = page.tables[f"{task} · roberta-base"][1:]
        assert [one[0] for one in lines if "★" in one[1]] == best


def test_runs_that_differ_in_seeds_alone_are_one_line_and_others_are_told_apart(tmp_path):
    first = write_run(tmp_path / "a", "rte", "lora", seeds=(1, 2))
    second = write_run(tmp_path / "b", "rte", "lora", seeds=(3,))
    write_run(tmp_path / "c", "rte", "lora", seeds=(1,))
    write_run(tmp_path / "d", "rte", "loreft", options={"r": 1})
    write_run(tmp_path / "e", "rte", "loreft", options={"r": 4, "layers": [1]})
    page = page_of(tmp_path)
    table = "RTE · roberta-base"
    both = {"seeds": first["seeds"] + second["seeds"]}
    assert page.cell(table, "LoRA in a", "rte").removesuffix(" ★") == expected(both, "rte")
    assert page.cell(table, "LoRA in a", "seeds") == "1, 2, 3"
    names = {one[0] for one in page.tables[table][1:]}
    assert names == {
        "LoRA in a",
        "LoRA in c",
        "LoReFT (layers default, r 1)",
        "LoReFT (layers [1], r 4)",
    }


def test_hostile_text_is_text(tmp_path):
    given = {"sets": {HOSTILE: "accuracy"}, "model": HOSTILE, "options": {HOSTILE: HOSTILE}}
    given["logs"] = True
    write_run(tmp_path / "a", HOSTILE, HOSTILE, **given)
    given["options"] = {HOSTILE: "\ud800 \x00 😀"}
    folder = tmp_path / HOSTILE
    write_run(folder, HOSTILE, HOSTILE, **{**given, "sets": {"x": HOSTILE}})
    write_run(tmp_path / "c", HOSTILE, HOSTILE, **given)
    answers = tmp_path / "a" / "seed-42" / "answers" / "x.scored.jsonl"
    answers.write_text(json.dumps({"output": HOSTILE, "right": True}) + '\n{"torn')
    text = write_page(read_folder(tmp_path), HOSTILE)
    page = Page(text)
    assert "<script" not in text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "link", "img", "object"})
    assert page.text.count(HOSTILE) > 10
    check_pictures(text)


def check_pictures(text: str) -> None:
    """Pictures are well-formed, ids are the document's own, and all that is meant is there."""
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        root = ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1))
        assert root.get("role") == "img"
        assert root.get("aria-label")
    ids = [given["id"] for _, given in Page(text).tags if "id" in given]
    assert len(ids) == len(set(ids))
    meant = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
    assert {"".join(one) for one in meant} <= set(ids)


def test_a_page_is_one_file_that_fetches_nothing(tmp_path):
    for key in ("loreft", "lora", "probe"):
        write_run(tmp_path / key, "rte", key, logs=True)
    write_training(tmp_path / "own")
    text = write_page(read_folder(tmp_path), "Runs")
    assert "http" not in text
    assert "@import" not in text
    for tag, given in Page(text).tags:
        assert "src" not in given
        assert given.get("href", "#").startswith("#"), tag
    # Letters and axes take the page's colours, so that they are seen on its dark ground too.
    pictures = text[text.index("<svg") :]
    assert INK not in pictures
    assert GROUND not in pictures
    assert "currentColor" in pictures
    assert text.count("<svg") == 5  # one of scores, three of runs, one of the training
    check_pictures(text)
    assert text == write_page(read_folder(tmp_path), "Runs")


GOOD = {"seed": 1, "trainable": 1, "scores": {}}
NAMED = {"task": "rte", "model": "m"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"experiment": {"ta', "torn"),
        ("[" * 100_000, "torn"),
        ("[1, 2]", "expected an object"),
        ('{"score": 3}', "experiment None"),
        (json.dumps({"experiment": {"task": "rte"}}), "model None"),
        (json.dumps({"experiment": NAMED, "seeds": []}), "seeds []"),
        (json.dumps({"experiment": NAMED, "seeds": [GOOD, GOOD]}), "different ones"),
        (json.dumps({"experiment": NAMED, "seeds": [{**GOOD, "trainable": -1}]}), "trainable -1"),
        (
            json.dumps({"experiment": NAMED, "seeds": [{**GOOD, "scores": {"a": {"value": 1}}}]}),
            "metric None",
        ),
    ],
)
def test_what_cannot_be_read_is_a_line_and_the_rest_is_there(tmp_path, capsys, content, told):
    write_run(tmp_path / "good", "rte", "lora")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text(content)
    assert run(tmp_path) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'report.html'}\n"
    assert printed.err.count("\n") == 1
    assert '"bad"' in printed.err
    assert told in printed.err
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert '"bad"' in page.text
    assert "RTE · roberta-base" in page.tables


def test_torn_logs_and_unfinished_runs_are_told(tmp_path, capsys):
    write_run(tmp_path / "run", "rte", "lora", seeds=(1, 2), logs=True)
    log = tmp_path / "run" / "seed-1" / "training.jsonl"
    log.write_text("not JSON\n")
    torn = tmp_path / "run" / "seed-2" / "training.jsonl"
    torn.write_text(torn.read_text()[:-20])
    write_training(tmp_path / "weights")
    (tmp_path / "weights" / "adapter_model.safetensors").write_bytes(b"torn")
    write_run(tmp_path / "begun", "rte", "lora", logs=True)
    (tmp_path / "begun" / "result.json").rename(tmp_path / "begun" / "experiment.json")
    found = read_folder(tmp_path)
    assert [one.name for one in found.runs] == ["run"]
    assert list(found.curves["run"]) == ["seed 2"]
    assert not found.trainings
    told = " ".join(found.problems)
    assert len(found.problems) == 3
    assert all(word in told for word in ('"run", seed 1', '"weights"', '"begun": not finished'))
    write_page(found, "Runs")


def test_the_trials_of_a_search_are_no_trainings(tmp_path, capsys):
    write_training(tmp_path / "mine")
    write_training(tmp_path / "search" / "repeats" / "default" / "seed-1")
    (tmp_path / "search" / "search.json").write_text("{}")
    (tmp_path / "search" / "result.json").write_text('{"best": {}}')
    found = read_folder(tmp_path)
    assert [one.name for one in found.trainings] == ["mine"]
    assert found.problems == (
        '"search": a search of `reftune tune`, which has a picture of its own',
    )


def test_a_score_that_is_no_number_is_shown_and_never_the_best(tmp_path):
    write_run(tmp_path / "good", "rte", "lora")
    write_run(tmp_path / "bad", "rte", "loreft", level=float("nan"))
    page = page_of(tmp_path)
    assert page.cell("RTE · roberta-base", "LoReFT", "rte") == "not a number"
    assert all("★" not in one for line in page.tables["RTE · roberta-base"] for one in line)


def test_samples_are_the_first_ones_and_right_or_wrong(tmp_path):
    write_run(tmp_path / "run", "rte", "lora")
    labels = tmp_path / "run" / "seed-42" / "answers" / "labels.jsonl"
    lines = [{"index": i, "found": "yes", "answer": "yes" if i else "no"} for i in range(3)]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = Page(write_page(read_folder(tmp_path), "Runs", samples=6))
    for i in range(8):
        assert (f"Is {i} even, seed 42?" in page.text) == (f"answer {i}" in page.text) == (i < 6)
    assert page.text.count("✓ right") == 4 + 2
    assert page.text.count("✗ wrong") == 2 + 1
    assert "Samples" not in write_page(read_folder(tmp_path), "Runs", samples=0)


def test_trainings_of_their_own_are_a_table(tmp_path):
    write_training(tmp_path / "a" / "whole")
    write_training(tmp_path / "broken", finished=False)
    page = page_of(tmp_path)
    table = "Folders of reftune train"
    assert page.cell(table, "a/whole", "parameters") == "64"
    assert page.cell(table, "a/whole", "steps") == "120"
    assert page.cell(table, "broken", "state") == "interrupted"
    log = (tmp_path / "broken" / "training.jsonl").read_text().splitlines()
    last = [json.loads(line)["loss"] for line in log if '"loss"' in line][-1]
    assert page.cell(table, "broken", "last loss") == f"{last:.4g}"


def test_wrong_input_is_an_error_that_repeats_it(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"has nothing to report: expected result\.json"):
        run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere.* expected one with runs"):
        run(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; expected a folder"):
        run(tmp_path / "file")
    write_run(tmp_path / "run", "rte", "lora")
    with pytest.raises(ValueError, match="--samples -1: expected 0 or more"):
        run(tmp_path, "--samples", "-1")
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        run(tmp_path, "--out", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run(tmp_path, "--out", tmp_path / "x" / "y.html")
    monkeypatch.setattr("reftune.report.figures.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"matplotlib and jinja2: pip install 'reftune\[plots\]'"):
        run(tmp_path)
    assert not (tmp_path / "report.html").exists()
