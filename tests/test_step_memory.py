"""The memory of a training step is what a count by hand says, and measuring changes nothing."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments, set_seed

from reftune import ReftConfig
from reftune.attached import reuse_of
from reftune.experiments.memory import StepMemory
from reftune.reuse import without_reuse
from tests.adapters import LLAMA

WIDTH, INNER, OUT, RANK, FLOAT = 6, 10, 3, 2, 4


class Perceptron(nn.Module):
    """Two matrices with a tanh between them, and a squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, INNER, bias=False)
        self.second = nn.Linear(INNER, OUT, bias=False)

    def forward(self, inputs: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.second(self.first(inputs).tanh())
        return {"loss": nn.functional.mse_loss(outputs, wanted)}


def points(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(count, width, generator=generator) for width in (WIDTH, OUT)]
    return [{"inputs": x, "wanted": y} for x, y in zip(*draw, strict=True)]


def trained(tmp_path, model, rows, callbacks=(), **settings) -> Trainer:
    """Train without a checkpoint; the log has the loss of every step."""
    common = {"per_device_train_batch_size": 4, "max_steps": 4, "learning_rate": 0.01}
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        **{**common, **settings},
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks))
    trainer.train()
    return trainer


def measured(tmp_path, model, rows, **settings) -> int:
    memory = StepMemory()
    trained(tmp_path, model, rows, [memory], **settings)
    assert memory.bytes is not None
    return memory.bytes


def by_hand(saved_per_row: int, *trained_matrices: int) -> int:
    """Count a step of four rows: what they save, and per matrix itself, gradient and AdamW's state.

    Of AdamW's state, the number of steps is one float of each matrix.
    """
    return FLOAT * (4 * saved_per_row + sum(4 * size + 1 for size in trained_matrices))


FULL = by_hand(WIDTH + INNER + 2 * OUT, WIDTH * INNER, INNER * OUT)
# The first matrix is frozen, so neither its inputs are saved nor the result of tanh for itself.
LORA = by_hand(INNER + RANK + 2 * OUT, INNER * RANK, RANK * OUT)


def lora() -> nn.Module:
    return get_peft_model(Perceptron(), LoraConfig(r=RANK, target_modules=["second"]))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_step_of_full_finetuning_is_counted_to_the_byte(tmp_path, steps):
    assert measured(tmp_path, Perceptron(), points(16), max_steps=steps) == FULL


def test_a_step_of_lora_is_counted_to_the_byte_and_is_less(tmp_path):
    assert measured(tmp_path, lora(), points(16)) == LORA < FULL


def test_without_a_state_of_the_optimizer_there_is_none_to_count(tmp_path):
    sizes = WIDTH * INNER, INNER * OUT
    got = measured(tmp_path, Perceptron(), points(16), optim="sgd")
    assert got == FULL - FLOAT * sum(2 * size + 1 for size in sizes)


def test_accumulated_micro_batches_are_not_there_at_once(tmp_path):
    """The largest counts: here the first of 4 rows, the second of which has 1."""
    settings = {"gradient_accumulation_steps": 2}
    assert measured(tmp_path, Perceptron(), points(5), **settings) == FULL
    assert measured(tmp_path, Perceptron(), points(16), **settings) == FULL


def test_a_training_after_another_is_measured_anew(tmp_path):
    memory = StepMemory()
    trained(tmp_path, Perceptron(), points(16), [memory])
    trained(tmp_path, lora(), points(16), [memory])
    assert memory.bytes == LORA


class Failing(Perceptron):
    """Fails in its second forward pass, as one does that runs out of memory."""

    calls = 0

    def forward(self, inputs: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        result = super().forward(inputs, wanted)
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return result


def test_a_step_that_failed_leaves_nothing_behind(tmp_path):
    memory, model = StepMemory(), Failing()
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(tmp_path, model, points(16), [memory])
    assert memory.bytes is None
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    trained(tmp_path, model, points(16), [memory])
    assert memory.bytes == FULL
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


@pytest.mark.parametrize(
    "settings",
    [{"gradient_checkpointing": True}, {"label_smoothing_factor": 0.1}, {"torch_compile": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_what_cannot_be_counted_is_refused(tmp_path, settings):
    (name,) = settings
    model = LLAMA.build()
    with pytest.raises(ValueError, match=f"{name}=.*: expected none"):
        trained(tmp_path, model, sentences(), [StepMemory()], **settings)


def sentences() -> list[dict[str, torch.Tensor]]:
    """Rows of which most is prompt."""
    rows = torch.randint(5, 90, (16, 30), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row.where(torch.arange(30) > 25, -100)} for row in rows]


def reft(**fields) -> nn.Module:
    set_seed(0)
    fields = {"layers": [1, 2], "r": 2, "positions": "l2", "dropout": 0.2, **fields}
    return get_peft_model(LLAMA.build(), ReftConfig(task_type="CAUSAL_LM", **fields))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_ends_with_the_same_bits(tmp_path, accumulation):
    """With reuse, the loss at labelled tokens, and dropout."""
    memory, ends = StepMemory(), []
    for callbacks in ([], [memory]):
        settings = {"gradient_accumulation_steps": accumulation, "max_steps": 6}
        model = reft()
        trainer = trained(tmp_path, model, sentences(), callbacks, **settings)
        (reuse,) = reuse_of(model)
        assert reuse.reason is None
        losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
        assert len(losses) == 6
        ends.append((losses, [p.detach().clone() for p in model.parameters()]))
    (plain_losses, plain), (losses, watched) = ends
    assert losses == plain_losses
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert memory.bytes


def test_the_count_of_a_reft_is_the_same_every_time_and_less_with_reuse(tmp_path):
    counts = [measured(tmp_path, reft(), sentences()) for _ in range(2)]
    assert counts[0] == counts[1]
    with without_reuse():
        plain = measured(tmp_path, reft(), sentences())
    full = measured(tmp_path, LLAMA.build(), sentences())
    assert counts[0] < plain < full
