"""Logits of a training step are computed for whoever reads them, and for nobody else."""

import copy
from contextlib import nullcontext

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import Trainer, TrainingArguments
from transformers.modeling_outputs import CausalLMOutputWithPast

from reftune.deferred_logits import Deferred
from reftune.labelled_loss import logits_everywhere
from tests.distributed.ranks import on_ranks
from tests.labelled_steps import batch, trained


def refuse(self):
    raise AssertionError("the logits of all tokens were computed")


@pytest.fixture
def nobody_reads(monkeypatch):
    """Make it an error to compute deferred logits."""
    monkeypatch.setattr(Deferred, "computed", refuse)


def outputs(model=None):
    """Return what one step gives, deferred and not."""
    model = model or trained()
    with logits_everywhere():
        expected = model(**batch())
    return model(**batch()), expected


@pytest.mark.parametrize(
    "read",
    [
        lambda output: output.logits,
        lambda output: output["logits"],
        lambda output: output[1],
        lambda output: output[:2][1],
        lambda output: output.to_tuple()[1],
        lambda output: output.get("logits") * 1,
        lambda output: dict(output.items())["logits"][:],
        lambda output: torch.cat([list(output.values())[1]]),
    ],
)
def test_every_way_to_read_gives_all_logits_and_their_gradients(read):
    model = trained()
    given, whole = map(read, outputs(model))
    assert type(given) is torch.Tensor
    torch.testing.assert_close(given, whole)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients, expected = (
        torch.autograd.grad(logits.square().mean(), parameters) for logits in (given, whole)
    )
    torch.testing.assert_close(gradients, expected)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_logits_are_computed_once_also_without_gradients_around():
    output, expected = outputs()
    with torch.no_grad():
        first = output.logits
    assert first.requires_grad
    assert output.logits is first
    assert isinstance(output, CausalLMOutputWithPast)
    assert list(output) == list(expected)
    assert len(output) == len(expected)
    assert "logits" in output


def test_metadata_and_casts_do_not_compute(nobody_reads):
    output, expected = outputs()
    deferred = dict(output.items())["logits"]
    assert deferred.shape == expected.logits.shape
    assert (deferred.dim(), deferred.size(1)) == (3, 7)
    assert (deferred.dtype, deferred.device) == (torch.float32, expected.logits.device)
    leaves, structure = tree_flatten(output)
    again = tree_unflatten(leaves, structure)
    assert type(again) is type(output)
    converted = convert_outputs_to_fp32(lambda: output)()
    assert type(converted) is type(output)
    with pytest.raises(AssertionError, match="all tokens were computed"):
        _ = converted.logits


KEPT = []  # a process group that goes while a thread of its own works would wait for it for ever


def half_precision_step(unused: bool) -> tuple[torch.dtype, bool]:
    """Do a step of distributed training, and return the dtype of logits and whether all learn."""
    Deferred.computed = refuse
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    model = trained(modules_to_save=["lm_head"])
    wrapped = DistributedDataParallel(model, find_unused_parameters=unused)
    KEPT.append(wrapped)
    forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(wrapped.forward))
    output = forward(**batch())
    output.loss.backward()
    learned = all(p.grad is not None for p in model.parameters() if p.requires_grad)
    return dict(output.items())["logits"].dtype, learned


@pytest.mark.parametrize("unused", [True, False])
def test_distributed_training_in_half_precision_reads_nothing(unused):
    assert on_ranks(half_precision_step, unused, ranks=1) == [(torch.float32, True)]


def train(tmp_path, everywhere: bool, **options) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train with the plain Trainer; return the losses and the adapter."""
    inputs = batch()
    rows = [{name: inputs[name][row] for name in inputs} for row in range(3)]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=3,
        learning_rate=0.05,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    torch.manual_seed(0)
    model = trained()
    trainer = Trainer(model, arguments, train_dataset=rows)
    with logits_everywhere() if everywhere else nullcontext():
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    adapter = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return losses, copy.deepcopy(adapter)


@pytest.mark.parametrize("half", [False, True])
def test_the_plain_trainer_reads_nothing_and_trains_the_same(half, tmp_path, nobody_reads):
    alone = train(tmp_path, False, bf16=half)
    everywhere = train(tmp_path, True, bf16=half)
    atol = 2e-2 if half else 1e-4
    torch.testing.assert_close(alone, everywhere, atol=atol, rtol=1e-2 if half else 1e-4)
    assert alone[0][-1] < alone[0][0]
