"""The examples for TRL's trainers do what they say, on a tiny model."""

from functools import cache
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from reftune.labelled_loss import logits_everywhere
from tests.tiny_text import byte_level
from tests.trl_runs import EXAMPLES, OWN, base_model, run_example, write_folder

pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")

ALONE = [name for name in OWN if name != "lora_and_reft"]
IDS = byte_level()("What is 3? Say it.", return_tensors="pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("trl"))


@pytest.fixture(scope="module")
def trained(folder):
    """Return a function that runs an example once and gives its trainer."""
    return cache(lambda name: run_example(folder, folder / f"{name}-out", name))


def logs(trainer, key: str) -> list[float]:
    return [float(entry[key]) for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_known_here(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    assert path.stem in OWN


@pytest.mark.parametrize("name", ALONE)
def test_only_the_adapter_is_trained_and_what_is_saved_gives_the_same(name, trained, folder):
    trainer = trained(name)
    base, saved = base_model(folder, name), Path(trainer.args.output_dir)
    weights = trainer.model.get_base_model().state_dict()
    for key, tensor in base.state_dict().items():
        if not key.startswith("score"):
            assert torch.equal(weights[key], tensor), key
    learning = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert all("reft_edits" in n or "score.modules_to_save" in n for n in learning)
    biases = [
        p for n, p in trainer.model.named_parameters() if n.endswith("reft_edits.default.bias")
    ]
    assert len(biases) == 2
    assert all(bias.abs().sum() > 0 for bias in biases)  # they begin as zeros
    assert [path.name for path in saved.glob("*.safetensors")] == ["adapter_model.safetensors"]
    with torch.no_grad():
        plain = base(**IDS).logits
        loaded = PeftModel.from_pretrained(base, saved).eval()
        expected = trainer.model.eval()(**IDS).logits
        assert torch.equal(loaded(**IDS).logits, expected)
    assert not torch.allclose(plain, expected)


@pytest.mark.parametrize("name", ["sft", "sft_packed", "dpo", "kto", "reward"])
def test_the_loss_falls(name, trained):
    losses = logs(trained(name), "loss")
    assert len(losses) == 8
    assert sum(losses[-2:]) < sum(losses[:2])


def test_sft_trains_the_same_as_with_the_logits_of_all_tokens(trained, folder, tmp_path):
    with logits_everywhere():
        other = run_example(folder, tmp_path, "sft")
    for key in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
        assert logs(trained("sft"), key) == pytest.approx(logs(other, key), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "margin"),
    [("dpo", "rewards/margins"), ("kto", "rewards/margins"), ("reward", "margin")],
)
def test_the_better_answers_come_to_be_preferred(name, margin, trained):
    margins = logs(trained(name), margin)
    if name != "reward":  # whose head is random
        assert margins[0] == 0
    assert min(margins[-2:]) > max(0, margins[0])


def test_grpo_begins_at_its_reference_and_leaves_it(trained):
    divergences = logs(trained("grpo"), "kl")
    assert divergences[0] == pytest.approx(0, abs=1e-6)
    assert divergences[-1] > 1e-3


def test_a_lora_and_a_reft_are_trained_together_and_found_again(trained, folder):
    with pytest.warns(UserWarning, match="second time"):
        trainer = trained("lora_and_reft")
    model, base = trainer.model.eval(), base_model(folder)
    with torch.no_grad():
        plain, expected = base(**IDS).logits, model(**IDS).logits
        with model.disable_adapter():  # what DPO takes for its reference
            assert torch.equal(model(**IDS).logits, plain)
        lora = PeftModel.from_pretrained(
            base, f"{trainer.args.output_dir}/low_rank", adapter_name="low_rank"
        )
        low_rank = lora.eval()(**IDS).logits
        del base.peft_config
        both = PeftModel.from_pretrained(base, trainer.args.output_dir).eval()
        assert torch.equal(both(**IDS).logits, expected)
    assert not torch.allclose(plain, low_rank)
    assert not torch.allclose(low_rank, expected)
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {"lora_" in n for n in learned} == {True, False}
    assert all("lora_" in n or "reft_edits" in n for n in learned)
