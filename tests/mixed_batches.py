"""Models with several adapters, and batches in which every row has its own."""

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor

from reftune import ReftConfig
from reftune.attached import layers_of
from reftune.reuse import without_reuse
from tests.adapters import PROMPTS, logits, padded, shake
from tests.labelled_steps import batch
from tests.tiny_models import CAUSAL, TinyModel

# Alike ones, another rank, and the base model; five rows, as many as there are prompts.
NAMES = ["a", "__base__", "b", "other", "a"]


def with_adapters(
    architecture: TinyModel = CAUSAL[0],
    names: tuple[str, ...] = ("a", "b"),
    others: dict[str, dict] | None = None,
    **fields,
) -> PeftModel:
    """Return a model with alike adapters and others, each of which changes much."""
    configs = dict.fromkeys(names, fields) | (others or {})
    # PEFT's class of causal models does not pass adapter_names on to an MPT.
    task = None if architecture.name == "mpt" else "CAUSAL_LM"
    model = None
    for seed, (name, settings) in enumerate(configs.items()):
        config = ReftConfig(task_type=task, **settings)
        if model is None:
            model = get_peft_model(architecture.build(), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        shake(model, name, seed)
    assert model is not None
    return model.eval()


def row_by_row(model: PeftModel, names: list[str], **inputs: Tensor) -> Tensor:
    """Return the logits of a batch, with every row's adapter for all rows in turn."""
    each = []
    for row, name in enumerate(names):
        if name == "__base__":
            with model.disable_adapter():
                each.append(logits(model, **inputs)[row])
        else:
            model.set_adapter(name)
            each.append(logits(model, **inputs)[row])
    return torch.stack(each)


def check_mixed(model: PeftModel, names: list[str] = NAMES, **tolerance: float) -> None:
    """Hold a batch with an adapter per row against its rows alone."""
    inputs = padded(PROMPTS, "left")
    real = inputs["attention_mask"].bool()
    got = logits(model, **inputs, adapter_names=names)
    expected = row_by_row(model, names, **inputs)
    tolerance = {"atol": 2e-4, "rtol": 1e-3} | tolerance
    torch.testing.assert_close(got[real], expected[real], **tolerance)
    with model.disable_adapter():
        assert not torch.allclose(expected[0], logits(model, **inputs)[0], atol=1e-3)


def train(model: PeftModel, *names: str) -> None:
    """Let adapters be trained, which PEFT does for the active one alone."""
    for layer in layers_of(model):
        for name in names:
            if name in layer.reft_edits:
                layer.reft_edits[name].requires_grad_(True)
    model.train()


def gradients(model: PeftModel, name: str) -> dict[str, Tensor]:
    """Return copies of an adapter's gradients."""
    return {
        f"{place}.{kind}": parameter.grad.clone()
        for place, layer in enumerate(layers_of(model))
        if name in layer.reft_edits
        for kind, parameter in layer.reft_edits[name].named_parameters()
    }


def own_step(model: PeftModel, name: str, names: list[str], side: str = "right"):
    """Return an adapter's loss and gradients in a step with its own rows alone."""
    rows = [row for row, other in enumerate(names) if other == name]
    model.set_adapter(name)
    model.zero_grad()
    torch.manual_seed(1)
    with without_reuse():
        loss = model(**{k: v[rows] for k, v in batch(side).items()}, use_cache=False).loss
        loss.backward()
    return loss.detach(), gradients(model, name)
