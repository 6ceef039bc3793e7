"""The search for a setting: what it tries, keeps, stops, resumes and reports."""

import json
import math
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from peft import PeftModel

from reftune.encoding import IGNORED
from reftune.recipe import TrainingRecipe, encode_for
from reftune.stopping import StopAtStepEnd, TrainingInterrupted
from reftune.tuning import TuningPlan, TuningResult, tune
from reftune.tuning.layer_choices import layers_named
from reftune.tuning.report import margin
from reftune.tuning.setting import Setting
from reftune.tuning.space import LAST, NAMES
from reftune.tuning.study import STARTS
from reftune.tuning.workbench import Outcome, Workbench
from tests.tiny_text import byte_level, tiny_llama

TOKENIZER = byte_level()
ROWS = Dataset.from_list(
    [{"prompt": f"What is {i}?", "completion": "The fox " * (i % 3 + 1)} for i in range(8)]
)
HELD_OUT = Dataset.from_list(
    [{"prompt": f"What is {i}?", "completion": "The fox " * (i % 3 + 1)} for i in range(20, 26)]
)
RECIPE = TrainingRecipe(epochs=12, batch_size=4)  # 24 updates: rungs of 4 and 12 epochs


def search(out: Path, **plan: Any) -> TuningResult:
    plan = {"trials": 8, "at_once": 4, "seeds": 2, "recipe": RECIPE, **plan}
    return tune(tiny_llama(TOKENIZER), TOKENIZER, ROWS, HELD_OUT, out, TuningPlan(**plan))


def trials_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def loss_by_hand(adapter: Path) -> float:
    """The mean over labelled tokens, row by row and without padding."""
    model = PeftModel.from_pretrained(tiny_llama(TOKENIZER), str(adapter)).eval()
    encoded, _ = encode_for(model.get_base_model(), TOKENIZER, HELD_OUT, RECIPE)
    losses: list[torch.Tensor] = []
    for row in encoded.to_list():
        labels = torch.tensor(row["labels"])[1:]
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
        logits = model(**inputs).logits[0, :-1].detach()
        each = torch.nn.functional.cross_entropy(logits, labels.clamp(min=0), reduction="none")
        losses += [each[labels != IGNORED]]
    return float(torch.cat(losses).mean())


def pretended_loss(setting: Setting, epochs: float, seed: int) -> float:
    """A loss that falls with the epochs and has its lowest value at one rate and rank."""
    rank, rate = math.log2(setting.r / 8), math.log10(setting.lr / 5e-3)
    return 1 + rank**2 / 10 + rate**2 + setting.dropout + 1 / epochs + seed % 7 / 100


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Trainings that take no time; the folders of those that were made."""
    made: list[Path] = []

    def run(self: Workbench, trainings: Any) -> list[Outcome]:
        for one in trainings:
            one.folder.mkdir(parents=True, exist_ok=True)
            made.append(one.folder)
        return [
            Outcome(pretended_loss(one.setting, one.epochs, one.seed), 10 * one.setting.r, 1.0)
            for one in trainings
        ]

    monkeypatch.setattr(Workbench, "run", run)
    monkeypatch.setattr(Workbench, "loss", lambda self, folder: 9.0)
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuningResult]:
    out = tmp_path_factory.mktemp("tune") / "search"
    return out, search(out, trials=6, at_once=6)


def test_the_best_is_the_complete_trial_with_the_lowest_loss(done) -> None:
    out, result = done
    complete = [trial for trial in trials_of(out) if trial["state"] == "complete"]
    best = min(complete, key=lambda trial: trial["loss"])
    assert result.best.trial == best["trial"]
    assert result.best_loss == best["loss"]
    assert vars(result.best.setting) == {name: best[name] for name in NAMES}
    [job] = yaml.safe_load((out / "best.yaml").read_text())
    assert job["layers"] == result.best.setting.layer_list
    assert [job[name] for name in ("r", "lr", "untied")] == [
        best["r"],
        best["lr"],
        not best["tied"],
    ]
    assert job["epochs"] == RECIPE.epochs
    assert loss_by_hand(out / "best") == pytest.approx(best["loss"], rel=1e-5)


def test_every_trial_is_told_once_and_stopped_ones_had_fewer_epochs(tmp_path, pretended) -> None:
    result = search(tmp_path, trials=16)
    trials = trials_of(tmp_path)
    assert [trial["trial"] for trial in trials] == list(range(16))
    assert result.trials == Counter(trial["state"] for trial in trials)
    assert result.trials["pruned"] > 0
    for trial in trials:
        rungs = {"complete": 2, "pruned": 1}[trial["state"]]
        assert trial["epochs"] == [4, 12][rungs - 1]
        setting = Setting(**{name: trial[name] for name in NAMES})
        losses = [pretended_loss(setting, epochs, 42) for epochs in (4, 12)[:rungs]]
        assert trial["rung_losses"] == losses
        assert trial["loss"] == losses[-1]


def test_where_is_decided_first_and_the_training_last(tmp_path, pretended) -> None:
    search(tmp_path, trials=16)
    trials = trials_of(tmp_path)
    assert [trial["phase"] for trial in trials] == ["where"] * 12 + ["training"] * 4
    for trial in trials[:12]:
        assert (trial["dropout"], trial["warmup"], trial["weight_decay"]) == (0, 0.1, 0)
    complete = [trial for trial in trials[:12] if trial["state"] == "complete"]
    best = min(complete, key=lambda trial: trial["loss"])
    for trial in trials[12:]:
        assert all(trial[name] == best[name] for name in ("layers", "positions", "r", "tied"))
    late = {tuple(trial[name] for name in ("lr", *LAST)) for trial in trials[12:]}
    assert len(late) > 1


def test_the_defaults_are_tried_first(tmp_path, pretended) -> None:
    search(tmp_path, trials=4)
    tried = [tuple(trial[name] for name in NAMES) for trial in trials_of(tmp_path)]
    starts = [vars(start) | {"layers": layers_named(start.layers, 2)} for start in STARTS]
    assert tried == [tuple(start[name] for name in NAMES) for start in starts]


def test_of_one_batch_the_best_third_goes_on(tmp_path, pretended) -> None:
    search(tmp_path / "a", trials=7, at_once=7)
    trials = sorted(trials_of(tmp_path / "a"), key=lambda trial: trial["rung_losses"][0])
    assert [trial["state"] for trial in trials] == ["complete"] * 3 + ["pruned"] * 4
    search(tmp_path / "b", trials=3, rungs=1)
    assert {trial["state"] for trial in trials_of(tmp_path / "b")} == {"complete"}


def test_the_noise_is_that_of_other_seeds(done) -> None:
    out, result = done
    seeds = [43, 44]
    default = [loss_by_hand(out / "repeats" / "default" / f"seed-{seed}") for seed in seeds]
    name = f"trial-{result.best.trial:04d}"
    best = [loss_by_hand(out / "repeats" / name / f"seed-{seed}") for seed in seeds]
    assert result.default.losses == pytest.approx(default, rel=1e-5)
    assert result.best.losses == pytest.approx(best, rel=1e-5)
    variances = statistics.variance(default), statistics.variance(best)
    assert result.noise == pytest.approx(math.sqrt(statistics.mean(variances)), rel=1e-2)
    assert result.better == (result.default.mean - result.best.mean > 2 * result.noise)
    reach = result.best.mean + margin(result.noise, 2)
    cheapest = result.cheapest
    assert cheapest == result.best or cheapest.mean <= reach
    assert cheapest.parameters <= result.best.parameters
    told = json.loads((out / "result.json").read_text())
    assert told["best"]["losses"] == list(result.best.losses)
    assert (out / "tune.png").read_bytes().startswith(b"\x89PNG")


class Killed(BaseException):
    """As good as SIGKILL for what is on disk."""


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_killed_search_goes_on(tmp_path, monkeypatch, pretended, at) -> None:
    search(tmp_path / "whole")
    whole = trials_of(tmp_path / "whole")
    run, calls = Workbench.run, []

    def killed(self: Workbench, trainings: Any) -> Any:
        calls.append(trainings)
        outcomes = run(self, trainings)
        if len(calls) == at:
            raise Killed
        return outcomes

    pretended.clear()
    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "run", killed)
        with pytest.raises(Killed):
            search(tmp_path / "parts")
    lost = [one.folder for one in calls[-1]]
    with (tmp_path / "parts" / "study.journal").open("a") as journal:
        journal.write('{"op_code": 4, "tri')  # torn, as a kill leaves it
    result = search(tmp_path / "parts")
    trials = trials_of(tmp_path / "parts")
    assert [trial["trial"] for trial in trials] == list(range(8))
    assert sum(result.trials.values()) == 8
    keep = ("state", "rung_losses", *NAMES)
    for one, other in zip(trials[:4], whole[:4], strict=True):  # the sampler may go on otherwise
        assert [one[name] for name in keep] == [other[name] for name in keep]
    twice = [folder for folder, count in Counter(pretended).items() if count > 1]
    assert twice == lost  # all others were kept


def test_a_search_that_has_ended_can_have_more_trials(tmp_path, pretended) -> None:
    search(tmp_path)
    trials, made = trials_of(tmp_path), len(pretended)
    search(tmp_path)
    assert trials_of(tmp_path) == trials
    assert all("repeats" in folder.parts for folder in pretended[made:])
    result = search(tmp_path, trials=10)
    assert trials_of(tmp_path)[:8] == trials
    assert sum(result.trials.values()) == 10


def test_a_signal_between_trainings_ends_a_search(tmp_path, monkeypatch, pretended) -> None:
    search(tmp_path / "whole")
    whole = list(pretended)
    pretended.clear()

    def asked(self: Any) -> bool:  # while the last trial's loss was computed
        return sum("repeats" not in folder.parts for folder in pretended) >= len(of_trials)

    of_trials = [folder for folder in whole if "repeats" not in folder.parts]
    with monkeypatch.context() as patched:
        patched.setattr(StopAtStepEnd, "asked", property(asked, lambda self, value: None), False)
        with pytest.raises(TrainingInterrupted, match="8 of 8 trials have ended"):
            search(tmp_path / "parts")
    assert not [folder for folder in pretended if "repeats" in folder.parts]
    assert search(tmp_path / "parts").trials == search(tmp_path / "whole").trials


def test_only_the_adapter_of_the_best_trial_is_kept(tmp_path, pretended) -> None:
    result = search(tmp_path)
    kept = {path.name for path in (tmp_path / "trials").iterdir()}
    assert kept == {f"{result.best.trial:04d}"}


def test_trainings_that_had_ended_are_not_done_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Workbench, "loss", lambda self, folder: (_ for _ in ()).throw(Killed()))
    once = {"recipe": TrainingRecipe(epochs=1), "trials": 2}
    with pytest.raises(Killed):
        search(tmp_path, **once)
    monkeypatch.undo()
    weights = tmp_path / "trials" / "0000" / "rung-0" / "adapter_model.safetensors"
    kept = weights.stat().st_mtime_ns
    seen = []
    loss = Workbench.loss

    def looking(self: Workbench, folder: Path | None) -> float:
        if folder == weights.parent:
            seen.append(weights.stat().st_mtime_ns)
        return loss(self, folder)

    monkeypatch.setattr(Workbench, "loss", looking)
    search(tmp_path, **once)
    assert seen[0] == kept
    assert len(seen) == 1


def test_a_space_is_obeyed(tmp_path, pretended) -> None:
    said = {
        "layers": [1, "last-third", [0, 1]],
        "positions": ["l2", "f1+l3"],
        "r": 3,
        "lr": {"from": "1e-3", "to": 2e-3},
        "intervention": ["direft", "red"],
        "dropout": {"from": 0.1, "to": 0.2},
        "warmup": 0,
    }
    search(tmp_path, space=said, trials=10, rungs=1)
    trials = trials_of(tmp_path)
    assert len(trials) == 10
    for trial in trials:
        assert trial["layers"] in ("1", "all")
        assert trial["positions"] in ("l2", "f1+l3")
        assert (trial["r"], trial["warmup"]) == (3, 0)
        assert 1e-3 <= trial["lr"] <= 2e-3
        assert trial["intervention"] in ("direft", "red")
        assert 0.1 <= trial["dropout"] <= 0.2
        assert trial["tied"] or trial["positions"] == "f1+l3"
    for name in ("layers", "positions", "intervention", "lr", "dropout"):
        assert len({trial[name] for trial in trials}) > 1, name


def test_a_space_of_few_settings_has_few_trials(tmp_path, pretended) -> None:
    fixed = {name: getattr(Setting(), name) for name in NAMES} | {"r": [1, 2]}
    search(tmp_path, space=fixed, trials=9, rungs=1)
    assert len(trials_of(tmp_path)) == 2


def test_what_only_one_position_can_learn_is_found(tmp_path) -> None:
    """After the last layer no token reads the first one's state, so its edit changes no loss."""
    said = {"layers": -1, "positions": ["f1", "l1"], "lr": 0.02}
    result = search(tmp_path, space=said, trials=6, at_once=6, rungs=1)
    trials = trials_of(tmp_path)
    assert trials[0]["positions"] == "f1"
    idle = [trial["loss"] for trial in trials if trial["positions"] == "f1"]
    assert idle == pytest.approx([result.base_loss] * len(idle), rel=1e-5)
    assert result.best.setting.positions == "l1"
    assert result.best.mean < result.base_loss - 0.1


def test_a_diverged_trial_is_never_the_best(tmp_path, monkeypatch, pretended) -> None:
    run = Workbench.run

    def some(self: Workbench, trainings: Any) -> list[Outcome]:
        ranks = [one.setting.r for one in trainings]
        outcomes = run(self, trainings)
        nan = [replace(one, loss=math.nan) for one in outcomes]
        return [n if r == 8 else o for n, o, r in zip(nan, outcomes, ranks, strict=True)]

    monkeypatch.setattr(Workbench, "run", some)
    result = search(tmp_path / "some", space={"r": [8, 2]}, trials=12)
    for trial in trials_of(tmp_path / "some"):
        assert (trial["state"] == "diverged") == (trial["r"] == 8) == (trial["loss"] is None)
    assert result.trials["diverged"] > 0
    assert result.best.setting.r == 2
    with pytest.raises(ValueError, match="none of 2 trials ended with a loss"):
        search(tmp_path / "all", space={"r": 8}, trials=2)


def test_the_base_model_is_left_as_it_was(tmp_path) -> None:
    model = tiny_llama(TOKENIZER)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = TuningPlan(trials=2, seeds=2, recipe=TrainingRecipe(epochs=1))
    tune(model, TOKENIZER, ROWS, HELD_OUT, tmp_path, plan)
    assert not model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_minutes_end_a_search(tmp_path, pretended) -> None:
    search(tmp_path, minutes=1e-9, trials=1000)
    assert len(trials_of(tmp_path)) == 4  # one batch: there must be a result


def test_wrong_searches(tmp_path, done, pretended) -> None:
    out, _ = done
    with pytest.raises(ValueError, match=r"another recipe: epochs 12, not 7"):
        search(out, recipe=TrainingRecipe(epochs=7, batch_size=4))
    with pytest.raises(ValueError, match=r"another space: r \[4, 8, 16, 2, 1\], not \[2\]"):
        search(out, space={"r": 2})
    model = tiny_llama(TOKENIZER)
    plan, other = TuningPlan(recipe=RECIPE), tiny_llama(TOKENIZER).bfloat16()
    with pytest.raises(ValueError, match="another dtype"):
        tune(other, TOKENIZER, ROWS, HELD_OUT, out, plan)
    with pytest.raises(ValueError, match="another rows; expected the same"):
        tune(model, TOKENIZER, HELD_OUT, HELD_OUT, out, TuningPlan(recipe=RECIPE))
    with pytest.raises(ValueError, match="3 held-out rows: expected at least 4"):
        tune(model, TOKENIZER, ROWS, HELD_OUT.select(range(3)), tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        search(tmp_path / "full")
    assert not (tmp_path / "new").exists()
    for wrong in ({"trials": 0}, {"minutes": 0.0}, {"seeds": 1}, {"rungs": 0}, {"at_once": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} 0|seeds 1"):
            TuningPlan(**wrong)
