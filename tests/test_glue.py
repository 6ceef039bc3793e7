"""GLUE as the paper ran it: files, halves, metrics, and the recipes' every value."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig, set_seed

from reftune.experiments.experiment import load_experiment, recipe_names
from reftune.tasks import TASKS, ClassificationTask
from reftune.tasks.glue import GLUE
from reftune.tasks.halves import halves
from reftune.tasks.metrics import matthews, measure, pearson
from reftune.tasks.sets import load_set, load_validation
from tests.tiny_text import SHARED

ORDER = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
PREFIX = (1, 3, 3, 3, 11, 11, 3, 3)
# Tables 9 and 10 of arXiv 2404.03592v3, in the order above; rates in 1e-4.
PAPER = {
    "base": {
        "dropout": (0.05, 0.10, 0.05, 0.20, 0.05, 0.05, 0.05, 0.05),
        "lr": (6, 6, 3, 4, 9, 6, 9, 6),
        "warmup": (0.06, 0.1, 0, 0.005, 0.1, 0, 0, 0.03),
        "epochs": (40, 40, 40, 60, 20, 40, 60, 60),
    },
    "large": {
        "dropout": (0.05, 0.05, 0.20, 0.20, 0.05, 0.05, 0.05, 0.05),
        "lr": (6, 6, 3, 1, 9, 6, 6, 8),
        "warmup": (0, 0.10, 0.06, 0.20, 0.10, 0.06, 0, 0.20),
        "epochs": (20, 20, 30, 30, 20, 20, 30, 30),
    },
}
SHAPES = {"base": (768, 12, 12, 18_444), "large": (1024, 24, 16, 49_176)}
METRICS = {"cola": "matthews", "stsb": "pearson"}
LABELS = {"mnli": 3, "stsb": 1}
# A row of each task as its own files have it: folder, file, header, cells, texts, label.
FILES = {
    "mnli": (
        "MNLI",
        "dev_matched",
        "index\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        '0\t(x)\tA "b.\tC\tneutral\tcontradiction',
        ('A "b.', "C"),
        2,
    ),
    "sst2": ("SST-2", "dev", "sentence\tlabel", 'a "charming\t1', ('a "charming',), 1),
    "mrpc": (
        "MRPC",
        "dev",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t7\t8\tHe said " .\tShe .',
        ('He said " .', "She ."),
        1,
    ),
    "cola": ("CoLA", "dev", None, "gj04\t0\t*\tThey drank the.", ("They drank the.",), 0),
    "qnli": (
        "QNLI",
        "dev",
        "index\tquestion\tsentence\tlabel",
        "0\tWho?\tHe.\tnot_entailment",
        ("Who?", "He."),
        1,
    ),
    "qqp": (
        "QQP",
        "dev",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "5\t1\t2\tHow?\tWhy?\t0",
        ("How?", "Why?"),
        0,
    ),
    "rte": ("RTE", "dev", "index\tsentence1\tsentence2\tlabel", "0\tA\tB\tentailment", "AB", 0),
    "stsb": (
        "STS-B",
        "dev",
        "index\tgenre\tsentence1\tsentence2\tscore",
        "0\tnews\tA\tB\t3.800",
        "AB",
        3.8,
    ),
}


@pytest.mark.parametrize("task", ORDER)
def test_glues_own_files_are_read_as_they_are(tmp_path, task):
    folder, file, header, cells, texts, label = FILES[task]
    (tmp_path / "glue" / folder).mkdir(parents=True)
    lines = [cells] if header is None else [header, cells]
    path = tmp_path / "glue" / folder / f"{file}.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for place in (tmp_path / "glue", tmp_path / "glue" / folder):
        rows = load_validation(GLUE[task], place)
        assert rows is not None
        (row,) = rows.rows
        assert tuple(GLUE[task].question(row, "row").values()) == tuple(texts)
        labels = GLUE[task].labels([], (), "")
        assert labels.of(GLUE[task].answer(row, "row"), "row") == label
        assert labels.outputs == LABELS.get(task, 2)


@pytest.mark.parametrize("task", ORDER)
def test_rows_of_the_hubs_form_mean_the_same(task):
    one = GLUE[task]
    cells = {name[0]: "text" for name in (one.text, one.text_pair) if name}
    label = 2.5 if task == "stsb" else 1
    assert len(one.question(cells, "row")) == len(cells)
    assert one.labels([], (), "").of(one.answer({**cells, "label": label}, "row"), "") == label


def test_torn_lines_are_left_out_and_counted(tmp_path):
    header, cells = FILES["qqp"][2:4]
    (tmp_path / "train.tsv").write_text(f"{header}\n{cells}\n7\t1\t2\tHow\n{cells}\n")
    rows = load_set(GLUE["qqp"], tmp_path, "train", "train")
    assert (len(rows.rows), rows.dropped) == (2, 1)


@pytest.mark.parametrize(("rows", "choosing"), [(277, 138), (5000, 2500), (5001, 1000), (9, 4)])
def test_the_halves_are_those_of_random_split_after_the_seed(rows, choosing):
    for seed in (42, 46):
        set_seed(seed)
        sizes = [rows - choosing, choosing]
        scored, chose = torch.utils.data.random_split(range(rows), sizes)
        assert halves(rows, seed) == (chose.indices, scored.indices)
    one, other = halves(rows, 42)
    assert sorted(one + other) == list(range(rows))
    assert halves(rows, 42) != halves(rows, 43)


def test_one_row_is_not_halved():
    with pytest.raises(ValueError, match="1 rows"):
        halves(1, 42)


def test_matthews_is_that_of_the_table_of_four():
    draw = np.random.default_rng(0)
    for _ in range(20):
        found, answers = draw.integers(0, 2, (2, 30)).tolist()
        pairs = list(zip(found, answers, strict=True))
        tp, tn, fp, fn = (pairs.count(pair) for pair in ((1, 1), (0, 0), (1, 0), (0, 1)))
        root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        assert matthews(found, answers) == pytest.approx((tp * tn - fp * fn) / root)
        assert matthews(found, answers) == pytest.approx(np.corrcoef(found, answers)[0, 1])


def test_matthews_of_more_classes_is_gorodkins_sum():
    found, answers = np.random.default_rng(1).integers(0, 3, (2, 40))
    table = np.zeros((3, 3))
    np.add.at(table, (answers, found), 1)
    right, total = table.trace(), table.sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    over = right * total - rows @ columns
    under = np.sqrt((total**2 - columns @ columns) * (total**2 - rows @ rows))
    assert matthews(found.tolist(), answers.tolist()) == pytest.approx(over / under)


def test_pearson_is_numpys():
    found, answers = np.random.default_rng(2).normal(size=(2, 25))
    expected = np.corrcoef(found, answers)[0, 1]
    assert pearson(found.tolist(), answers.tolist()) == pytest.approx(expected)


def test_what_does_not_vary_scores_nothing():
    assert matthews([1, 1, 1, 1], [0, 1, 1, 0]) == 0
    assert pearson([0.1] * 7, [0.3, 1, 2, 3, 4, 5, 6]) == 0
    score = measure("accuracy", [1, 1, 1, 1], [0, 1, 1, 1])
    assert (score["value"], score["total"]) == (0.75, 4)
    assert score["interval"][0] < 0.75 < score["interval"][1]
    assert measure("pearson", [1.0, 2.0], [1.0, 2.0])["interval"] is None


def test_there_is_a_recipe_for_every_task_and_size():
    assert {name for name in recipe_names() if name.startswith("glue-")} == {
        f"glue-{size}-{task}" for size in PAPER for task in ORDER
    }


@pytest.mark.parametrize("size", PAPER)
@pytest.mark.parametrize("task", ORDER)
def test_a_recipe_says_what_the_paper_says(task, size):
    experiment, place = load_experiment(f"glue-{size}-{task}"), ORDER.index(task)
    said = {name: values[place] for name, values in PAPER[size].items()}
    assert experiment.adapter == {
        "intervention": "loreft",
        "r": 1,
        "layers": "all",
        "positions": f"f{PREFIX[place]}",
        "init": "paper",
        "dropout": said["dropout"],
        "dropout_on": "state",
    }
    recipe = experiment.recipe(42)
    assert recipe.lr == pytest.approx(said["lr"] * 1e-4)
    assert (recipe.epochs, recipe.warmup) == (said["epochs"], said["warmup"])
    assert (recipe.batch_size, recipe.accumulation, recipe.weight_decay) == (32, 1, 0)
    assert (recipe.max_length, recipe.schedule) == (256, "linear")
    assert experiment.seeds == (42, 43, 44, 45, 46)
    assert experiment.task == task
    assert experiment.model == f"FacebookAI/roberta-{size}"
    assert experiment.dtype == "bfloat16"
    one = experiment.its_task
    assert isinstance(one, ClassificationTask)
    assert one.halves
    assert one.metric == METRICS.get(task, "accuracy")
    assert "2404.03592" in experiment.source


@pytest.mark.parametrize("size", SHAPES)
def test_a_recipe_trains_as_many_numbers_as_the_paper_without_the_head(size):
    width, layers, heads, published = SHAPES[size]
    config = RobertaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=2,
    )
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    experiment = load_experiment(f"glue-{size}-cola")
    method = experiment.its_method()
    with torch.device("meta"):
        attached = method.attach(model, "SEQ_CLS")
    assert method.count(attached) == published
    trained = sum(p.numel() for p in attached.parameters() if p.requires_grad)
    assert trained - published == width * width + width + 2 * width + 2
    for task in ORDER:
        assert load_experiment(f"glue-{size}-{task}").trainable == published


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
@pytest.mark.parametrize(
    ("task", "train", "validation"),
    [
        ("cola", 8551, 1043),
        ("sst2", 67349, 872),
        ("rte", 2490, 277),
        ("stsb", 5749, 1500),
        ("mrpc", None, 408),
        ("qnli", None, 5463),
    ],
)
def test_the_real_sets_have_the_form(task, train, validation):
    one = TASKS[task]
    assert isinstance(one, ClassificationTask)
    held_out = load_validation(one, SHARED / "data" / "glue")
    assert held_out is not None
    assert len(held_out.rows) == validation
    sets = [held_out]
    if train is not None:
        sets.append(load_set(one, SHARED / "data" / "glue", "train", "train"))
        assert len(sets[1].rows) == train
    for rows in sets:
        labels = [one.labels([], (), "").of(one.answer(row, ""), "") for row in rows.rows]
        assert len(set(labels)) >= 2
        assert all(text for row in rows.rows for text in one.question(row, "").values())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_a_set_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="no set train of qnli"):
        load_set(GLUE["qnli"], SHARED / "data" / "glue", "train", "train")
