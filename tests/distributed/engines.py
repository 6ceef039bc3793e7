"""What each process does under the engines that torch and transformers have, by hand.

A process takes every second row, and the loss is that of all rows over the labelled tokens of all.
"""

import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import get_peft_model
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from reftune import ReftConfig
from reftune.collation import PaddingCollator
from reftune.divided import gathered
from reftune.interventions import LoReFT
from reftune.output_folder import save_adapter
from reftune.recipe import TrainingRecipe, encode_for
from tests.distributed.trainings import ROWS
from tests.tiny_text import byte_level, tiny_llama

TOKENIZER = byte_level()
CPU = torch.device("cpu")


def model_of(base: Any = None, positions: str = "f1+l2") -> Any:
    base = tiny_llama(TOKENIZER) if base is None else base
    torch.manual_seed(1)
    return get_peft_model(base, ReftConfig(layers=[0, 1], r=2, positions=positions, init="paper"))


def encoded() -> Dataset:
    return encode_for(tiny_llama(TOKENIZER), TOKENIZER, Dataset.from_list(ROWS), TrainingRecipe())[
        0
    ]


def here() -> tuple[int, int]:
    """Return which process this is, and of how many."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def batch(rows: Dataset | None = None) -> dict[str, Tensor]:
    """Return the rows of this process."""
    rows = encoded() if rows is None else rows
    rank, ranks = here()
    return PaddingCollator(TOKENIZER)([rows[i] for i in range(rank, len(rows), ranks)])


def mean_loss(model: nn.Module, given: dict[str, Tensor], tokens: int) -> Tensor:
    """Return a loss whose mean over the processes is that of all their rows."""
    return model(**given, num_items_in_batch=tokens).loss * here()[1]


def learn(model: nn.Module, autocast: bool = False) -> list[float]:
    """Make three steps; return the losses, of all processes together."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    rows, losses = encoded(), []
    tokens = sum(label != -100 for row in rows for label in row["labels"])
    model.train()
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = mean_loss(model, batch(rows), tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach().clone()
        if here()[1] > 1:
            distributed.all_reduce(loss, op=distributed.ReduceOp.AVG)
        losses.append(loss.item())
    return losses


def edits(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained tensors."""
    named = model.named_parameters()
    return {name: tensor.detach().clone() for name, tensor in named if tensor.requires_grad}


def answer(model: Any) -> list[int]:
    """Return a greedy continuation of a prompt."""
    given = TOKENIZER(["What is 3?"], return_tensors="pt")
    return model.eval().generate(**given, max_new_tokens=5, do_sample=False)[0].tolist()


def alone(positions: str = "f1+l2") -> tuple[list[float], dict[str, Tensor], list[int]]:
    """Do in one process what the others do in two."""
    model = model_of(positions=positions)
    return learn(model), edits(model), answer(model)


def copied(compiled: bool = False) -> tuple[list[float], dict[str, Tensor], list[int]]:
    """Train under DistributedDataParallel."""
    distributed.init_process_group("gloo")
    model = model_of()
    inner: Any = torch.compile(model, backend="aot_eager") if compiled else model
    return learn(DistributedDataParallel(inner)), edits(model), answer(model)


def with_nothing_to_edit(positions: str) -> list[dict[str, Tensor]]:
    """Return the gradients of a step in which the last process has rows without a prompt.

    One process has the rows of both.
    """
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    model = model_of(positions=positions).train()
    rank, ranks = here()
    ids = torch.arange(10, 22).view(2, 6)
    prompt = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    share = slice(rank, 2, ranks)
    labels = ids.masked_fill(prompt, -100)
    given = {"input_ids": ids, "labels": labels, "prompt_mask": prompt}
    given = {name: tensor[share] for name, tensor in given.items()}
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    mean_loss(wrapped, given, 8).backward()
    return [{name: p.grad for name, p in model.named_parameters() if p.requires_grad}]


def sharded(
    out: Path, leaves: bool = False, checkpointing: bool = False
) -> tuple[list[float], list[int], str]:
    """Train under `fully_shard`, a layer at a time, and write the adapter from one process.

    Args:
        out: where the first process writes it.
        leaves: whether the edits are units of their own, too, as PEFT has it.
        checkpointing: whether layers run again in backward.

    Returns:
        The losses, an answer, and what is said to a process that would write its part.
    """
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (here()[1],))
    base = tiny_llama(TOKENIZER)
    model = model_of(base)
    if checkpointing:
        model.gradient_checkpointing_enable()
    units = [part for part in model.modules() if leaves and isinstance(part, LoReFT)]
    policy = MixedPrecisionPolicy(output_dtype=torch.float32)
    # As accelerate does it: what is around the layers is put away after the forward pass, too.
    for part in (*units, *base.model.layers, model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    losses = learn(model)
    register_fsdp_forward_method(model, "generate")
    said = answer(model)
    try:
        save_adapter(model, out)
        refused = ""
    except ValueError as error:
        refused = str(error)
    state = gathered(model)
    if here()[0] == 0:
        save_adapter(model, out, state=state)
    distributed.barrier()
    return losses, said, refused


def attached_late() -> str:
    """Attach an adapter to a model that is divided; return the warning."""
    distributed.init_process_group("gloo")
    base = tiny_llama(TOKENIZER)
    fully_shard(base.model.layers[0], mesh=init_device_mesh("cpu", (here()[1],)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model_of(base)
    return " ".join(str(warning.message) for warning in caught)


def flattened(leaves: bool) -> tuple[list[float], dict[str, Tensor]]:
    """Train under FSDP1, whose parameters are parts of long ones.

    Args:
        leaves: whether the edits are units of their own, as PEFT has it; or else the layers are.
    """
    from peft.utils.other import fsdp_auto_wrap_policy

    distributed.init_process_group("gloo")
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = LlamaDecoderLayer.__name__
    model = model_of()
    policy = fsdp_auto_wrap_policy(model) if leaves else ModuleWrapPolicy({LlamaDecoderLayer})
    whole = FullyShardedDataParallel(
        model, auto_wrap_policy=policy, use_orig_params=not leaves, device_id=CPU
    )
    losses = learn(whole)
    with FullyShardedDataParallel.summon_full_params(whole, writeback=False):
        trained = edits(whole)
    return losses, {name.replace("_fsdp_wrapped_module.", ""): t for name, t in trained.items()}


def split(folder: str) -> dict[str, Any]:
    """Compute loss, logits, gradients and an answer with matrices that the processes share."""
    plan = {"tp_plan": "auto"} if "RANK" in os.environ else {}
    model = model_of(AutoModelForCausalLM.from_pretrained(folder, **plan)).train()
    given = PaddingCollator(TOKENIZER)([dict(row) for row in encoded()])
    output = model(**given)
    output.loss.backward()
    return {
        "loss": output.loss.detach(),
        "logits": output.logits.detach(),
        "gradients": {name: p.grad for name, p in model.named_parameters() if p.requires_grad},
        "answer": answer(model),
    }


def by_plain_trainer(out: Path, **options: Any) -> dict[str, Tensor]:
    """Train with `transformers.Trainer`, with as many rows as all processes take together."""
    PartialState(cpu=True)
    model = model_of()
    arguments = TrainingArguments(
        str(out),
        per_device_train_batch_size=4 // here()[1],
        num_train_epochs=2,
        learning_rate=0.01,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
        **options,
    )
    rows = encoded().select(range(12))
    Trainer(
        model, arguments, train_dataset=rows, data_collator=PaddingCollator(TOKENIZER).__call__
    ).train()
    model.save_pretrained(out)
    return edits(model)
