"""Tiny models of pyreft's kind, rows for them, and trainers of them."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainingArguments

from reftune.pyreft.config import ReftConfig
from reftune.pyreft.interventions import LoreftIntervention
from reftune.pyreft.model import ReftModel
from reftune.pyreft.trainers import ReftTrainerForCausalLM
from reftune.pyreft.wrapping import get_reft_model
from tests.tiny_models import CAUSAL, ENCODERS

LLAMA = next(one for one in CAUSAL if one.name == "llama")
ROBERTA = next(one for one in ENCODERS if one.name == "roberta")
LENGTH = 7


def edited(tiny: Any = LLAMA, dropout: float = 0.0, **overrides: Any) -> ReftModel:
    base = tiny.build(**overrides)
    torch.manual_seed(1)
    return get_reft_model(
        base,
        ReftConfig(
            representations=[
                {
                    "layer": layer,
                    "component": "block_output",
                    "low_rank_dimension": 2,
                    "intervention": LoreftIntervention(
                        embed_dim=32, low_rank_dimension=2, dropout=dropout
                    ),
                }
                for layer in (0, 2)
            ]
        ),
    )


def rows(count: int = 8, classes: Any = None, **further: Any) -> list[dict[str, Any]]:
    """Rows of equal length, whose prompts are not."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for index in range(count):
        ids = torch.randint(3, 96, (LENGTH,), generator=generator).tolist()
        prompt = 2 + index % 4
        labels = [-100] * prompt + ids[prompt:] if classes is None else classes[index]
        places = [[0, prompt - 1], [1, prompt - 1]]
        row = {"input_ids": ids, "attention_mask": [1] * LENGTH, "labels": labels}
        made.append({**row, "intervention_locations": places, "id": index, **further})
    return made


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    return TrainingArguments(str(folder), **{**defaults, **options})


def trainer_of(folder: Path, kind: Any = ReftTrainerForCausalLM, **given: Any) -> Any:
    options = {name: given.pop(name) for name in list(given) if name not in PARTS}
    defaults = {"train_dataset": rows(), "data_collator": collate}
    model = given.pop("model", None) or edited()
    return kind(model=model, args=arguments(folder, **options), **{**defaults, **given})


PARTS = (
    "model",
    "train_dataset",
    "eval_dataset",
    "data_collator",
    "compute_loss_func",
    "compute_metrics",
    "tokenizer",
)


def trained(model: ReftModel) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def logits_of(model: ReftModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The edited logits, called as pyreft's users call it."""
    places = batch["intervention_locations"].permute(1, 0, 2).tolist()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return model(inputs, unit_locations={"sources->base": (None, places)})[1].logits


def causal_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
