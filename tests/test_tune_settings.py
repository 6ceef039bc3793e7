"""What a search may choose, what it keeps of it, and what it makes of the losses."""

import math

import pytest
from datasets import Dataset

from reftune import ReftConfig
from reftune.recipe import TrainingRecipe
from reftune.tuning import TuningPlan
from reftune.tuning.held_out import split_rows
from reftune.tuning.importances import importances
from reftune.tuning.layer_choices import layers_named, sensible_choices
from reftune.tuning.picture import pareto
from reftune.tuning.plan import promoted
from reftune.tuning.report import Contender, margin, pooled
from reftune.tuning.setting import Setting
from reftune.tuning.space import Range, default_space, narrowed, read_space, size

ROWS = Dataset.from_list([{"prompt": f"What is {i}?", "completion": "A fox"} for i in range(8)])


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"rank": 4}, "unknown name 'rank'; expected some of layers"),
        ({"r": []}, "r has no values"),
        ({"r": [4, 17]}, "r 17: expected at most 16"),
        ({"r": 0}, "r=0: expected a positive rank"),
        ({"r": True}, "r is True; expected a whole number"),
        ({"r": {"from": 1, "to": 4}}, "expected a value, a list of them, and no range"),
        ({"tied": 1}, "tied is 1; expected true or false"),
        ({"lr": "fast"}, "lr is 'fast'; expected a number"),
        ({"lr": {"from": 0, "to": 1}}, "lr 0.0: expected more than 0"),
        ({"lr": {"from": 2, "to": 1}}, "lr from 2.0 to 1.0 is empty"),
        ({"lr": {"low": 2}}, 'or {"from": low, "to": high}'),
        ({"lr": float("inf")}, "lr inf: expected a finite"),
        ({"dropout": 1.0}, r"expected a probability in \[0, 1\)"),
        ({"layers": 2}, "layer 2: expected -2 to 1"),
        ({"layers": "middle-third"}, "a model of 2 layers has none"),
        ({"layers": "half"}, 'layers "half": expected all, middle'),
        ({"positions": ["l1", "p1"]}, "positions 'p1': expected"),
        ({"intervention": "lora"}, "intervention 'lora': expected one of loreft"),
        ({"tied": False}, "positions 'l1' with tied false"),
    ],
)
def test_a_space_that_has_no_meaning(said, match) -> None:
    with pytest.raises(ValueError, match="space: .*" + match.replace("{", r"\{")):
        narrowed(said, depth=2, width=16)


def test_space_files(tmp_path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("lr: {from: 1e-4, to: 1e-2}\nr: [4, 8]\n")
    space = narrowed(read_space(file), 4, 16)
    assert space["lr"] == Range(1e-4, 1e-2, log=True)
    assert space["r"] == (4, 8)
    assert space["positions"] == default_space(4, 16)["positions"]
    assert size(space) == math.inf
    for text, match in (("- r\n", "expected names and values"), ("[", "not YAML")):
        file.write_text(text)
        with pytest.raises(ValueError, match=match):
            read_space(file)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_space(tmp_path / "none.yaml")


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 12, 32, 80])
def test_layers_by_name_are_layers_of_the_model_and_differ(depth) -> None:
    named = {name: layers_named(name, depth) for name in sensible_choices(depth)}
    assert named["all"] == "all"
    assert len(set(named.values())) == len(named)
    for layers in named.values():
        indices = range(depth) if layers == "all" else list(map(int, layers.split(";")))
        assert list(indices) == sorted(set(indices))
        assert set(indices) <= set(range(depth))
    assert depth < 7 or len(named) == 7
    assert layers_named("middle", 32) == "15"
    assert layers_named("last-third", 12) == "8;9;10;11"
    assert layers_named("-1;0", 12) == "0;11"


def test_a_setting_is_the_default_where_nothing_is_said() -> None:
    config, recipe = Setting().config(), Setting().recipe(TrainingRecipe(), epochs=3, seed=42)
    usual = ReftConfig(task_type="CAUSAL_LM")
    assert config.to_dict() == usual.to_dict()
    assert recipe == TrainingRecipe(save_steps=0)


def test_the_best_third_of_all_that_came_so_far_goes_on() -> None:
    values = {0: 5.0, 1: 1.0, 2: 3.0, 3: 2.0, 4: 9.0, 5: 4.0, 6: 1.0}
    assert promoted(values, [4, 5, 6]) == [6]
    assert promoted(values, [0, 4, 5]) == []
    assert promoted(values, [1, 3, 6]) == [1, 3, 6]
    assert promoted({8: 7.0}, [7, 8]) == [8]  # 7 has no loss that is a number


def test_budgets_leave_out_rungs_that_say_nothing() -> None:
    plan = TuningPlan(recipe=TrainingRecipe(epochs=9))
    assert plan.budgets(72) == [1, 3, 9]
    assert plan.budgets(71) == [3, 9]
    assert plan.budgets(5) == [9]


def test_the_front_is_what_no_trial_is_below() -> None:
    points = [(8, 3.0), (4, 5.0), (4, 4.0), (16, 3.5), (2, 9.0), (16, 1.0), (32, 1.0)]
    records = [{"state": "complete", "parameters": p, "loss": loss} for p, loss in points]
    records.append({"state": "pruned", "parameters": 1, "loss": 0.0})
    front = [(record["parameters"], record["loss"]) for record in pareto(records)]
    below = [
        (p, v)
        for p, v in points
        if not any((q, w) != (p, v) and q <= p and w <= v for q, w in points)
    ]
    assert front == sorted(below)


def test_what_matters_has_the_largest_share() -> None:
    names = ("layers", "positions", "r", "tied", "intervention", "lr", "dropout", "warmup")
    records = []
    for number in range(48):
        given = dict.fromkeys(names, "same") | {"r": 1 << number % 3, "tied": number // 3 % 2 == 0}
        given |= {"lr": 1e-3 * (1 + number // 6), "weight_decay": 0.0, "phase": "where"}
        records.append({**given, "rung_losses": [float(given["r"]) + 1e-3 * (number % 2)]})
    [shares] = importances(records).values()
    assert set(shares) == {"r", "tied", "lr"}
    assert shares["r"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(records[:7]) == {}


def test_a_difference_is_held_against_that_of_two_means() -> None:
    a = Contender(Setting(), None, 1, (1.0, 3.0))
    b = Contender(Setting(), 1, 1, (5.0, 5.0))
    assert pooled([a, b]) == pytest.approx(1.0)
    assert margin(1.0, 2) == pytest.approx(2.0)
    assert margin(1.0, 4, 1) == pytest.approx(2 * math.sqrt(1.25))


def test_held_out_rows_are_a_part(tmp_path) -> None:
    rows, held_out = split_rows(ROWS, 0.25, seed=1)
    assert (len(rows), len(held_out)) == (6, 2)
    assert sorted([*rows["prompt"], *held_out["prompt"]]) == sorted(ROWS["prompt"])
    assert split_rows(ROWS, 0.25, seed=1)[1]["prompt"] == held_out["prompt"]
    assert split_rows(ROWS, 0.25, seed=2)[1]["prompt"] != held_out["prompt"]
    for share in (0.0, 1.0, 0.01, 0.99):
        with pytest.raises(ValueError, match="held out"):
            split_rows(ROWS, share, seed=1)
