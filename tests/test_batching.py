"""However examples are batched, the edits get the gradients that they get from each alone."""

import pytest
import torch
from torch import Tensor, nn
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

from reftune.collation import PaddingCollator
from tests.labelled_steps import trained
from tests.tiny_models import CAUSAL, TinyModel
from tests.tiny_text import byte_level

# Prompts shorter than the edited positions, and longer; completions of one token, and of more. One
# token as a prompt is refused with cu_seq_lens.
LENGTHS = [(2, 3), (3, 2), (11, 1), (2, 4), (6, 3)]
ROWS = [
    {
        "input_ids": list(range(5 + row, 5 + row + prompt + completion)),
        "labels": [-100] * prompt + list(range(40, 40 + completion)),
    }
    for row, (prompt, completion) in enumerate(LENGTHS)
]
LABELS = sum(completion for _, completion in LENGTHS)
WHERE = [
    {"positions": "f2+l2"},
    {"positions": "f2+l2", "tied": False},
    {"positions": "l1"},
    {"positions": "all"},
    {"positions": "f1+l2", "decode": 2, "tied": False},
]
WITHOUT_DROPOUT = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "opt": {"dropout": 0.0},
}
# Their base models in transformers 5.23 attend across the borders that position_ids tell.
IGNORE_BORDERS = ("opt", "falcon", "mpt")
PADDED = {
    "right": PaddingCollator(byte_level(), "right"),
    "left": PaddingCollator(byte_level(), "left"),
    "to a multiple, right": PaddingCollator(byte_level(), "right", pad_to_multiple_of=8),
    "to a multiple, left": PaddingCollator(byte_level(), "left", pad_to_multiple_of=8),
}
PACKED = {
    "packed": DataCollatorWithFlattening(),
    "packed, with cu_seq_lens": DataCollatorWithFlattening(return_flash_attn_kwargs=True),
}


def build(architecture: TinyModel, **fields) -> nn.Module:
    dropout = WITHOUT_DROPOUT.get(architecture.name, {})
    return trained(architecture, dropout, **fields)


def gradients(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    model.zero_grad()
    # With a cache, transformers does not look for the borders of packed rows.
    model(**batch, use_cache=False).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def gradients_alone(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of the mean over all labels, from one example at a time."""
    total: dict[str, Tensor] = {}
    for row, (_, completion) in zip(ROWS, LENGTHS, strict=True):
        batch = {name: torch.tensor([values]) for name, values in row.items()}
        for name, gradient in gradients(model, batch).items():
            total[name] = total.get(name, 0) + gradient * completion / LABELS
    assert all(gradient.abs().max() > 1e-5 for gradient in total.values())
    return total


def check_same(got: dict[str, Tensor], expected: dict[str, Tensor], way: str) -> None:
    for name, gradient in expected.items():
        atol = 1e-4 * gradient.abs().max().item()
        torch.testing.assert_close(got[name], gradient, atol=atol, rtol=1e-3, msg=f"{way}: {name}")


@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_a_batch_has_the_gradients_of_its_examples(architecture, where):
    model = build(architecture, **where)
    expected = gradients_alone(model)
    ways = PADDED if architecture.name in IGNORE_BORDERS else PADDED | PACKED
    for way, collator in ways.items():
        batch = dict(collator(ROWS))
        if architecture.needs_position_ids and "attention_mask" in batch:
            batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        check_same(gradients(model, batch), expected, way)


@pytest.mark.parametrize(
    ("collator", "sampling"),
    [(PACKED["packed"], "sequential"), (PADDED["left"], "group_by_length")],
    ids=["packed", "grouped by length"],
)
def test_the_plain_trainer_steps_along_them(collator, sampling, tmp_path):
    model = build(CAUSAL[0], positions="f2+l2", tied=False)
    expected = gradients_alone(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rate = 1e3  # so that a step is not lost in the rounding of the parameters
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        train_sampling_strategy=sampling,
        max_steps=1,
        optim="sgd",
        learning_rate=rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(model=model, args=arguments, train_dataset=ROWS, data_collator=collator).train()
    after = dict(model.named_parameters())
    moved = {name: (before[name] - after[name].detach()) / rate for name in expected}
    check_same(moved, expected, sampling)
