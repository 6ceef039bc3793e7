"""Adapters that change much, on tiny models, and batches to try them on."""

import copy

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from reftune import ReftConfig
from reftune.attached import layers_of
from tests.reference import Edit, Reference
from tests.tiny_models import CAUSAL, TinyModel

PROMPTS = [[5], [6, 7], [8, 9, 10, 11], list(range(12, 23)), [30, 31, 32]]
COMPLETION = [40, 41, 42]
TOLERANCE = {"atol": 2e-4, "rtol": 1e-4}
LLAMA = CAUSAL[0]
IDS = torch.tensor([PROMPTS[3]])
GREEDY = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def pair(architecture: TinyModel, seed: int = 0, **config):
    """Return a model with an adapter that changes much, and its reference on a copy of the base."""
    base = architecture.build(seed)
    reference_model = copy.deepcopy(base)
    settings = {"layers": [0, 2], "r": 3, "init": "paper", **config}
    model = get_peft_model(base, ReftConfig(task_type="CAUSAL_LM", **settings)).eval()
    edits = {}
    with torch.no_grad():
        for path, module in base.named_modules():
            if path.endswith(".intervention"):
                edit = module.reft_edits["default"]
                edit.source.mul_(4)
                edit.bias.normal_(std=2)
                parts = (2 * edit.weight, edit.source, edit.bias)  # they begin with length ½
                tied = edit.weight.dim() == 2
                chosen = [
                    Edit(*(p.detach() if tied else p.detach()[i] for p in parts)) for i in (0, 1)
                ]
                edits[path.removesuffix(".intervention")] = tuple(chosen)
    reference = Reference(
        reference_model, edits, settings["positions"], settings.get("decode", "none")
    )
    return model, reference


def padded(rows: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width)
    for row, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        ids[row, place], mask[row, place] = torch.tensor(tokens), 1
    return {"input_ids": ids, "attention_mask": mask.long()}


def logits(model: nn.Module, **inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**(inputs or {"input_ids": IDS})).logits


def shake(model: nn.Module, adapter: str = "default", seed: int = 0) -> None:
    """Make an adapter change much."""
    torch.manual_seed(seed)
    for layer in layers_of(model):
        if adapter in layer.reft_edits:
            for parameter in layer.reft_edits[adapter].parameters():
                nn.init.normal_(parameter)


def adapted(**config) -> PeftModel:
    model = get_peft_model(LLAMA.build(), ReftConfig(task_type="CAUSAL_LM", **config)).eval()
    shake(model)
    return model


def build(overrides: dict) -> nn.Module:
    config = LLAMA.config()
    for name, value in overrides.items():
        setattr(config, name, value)
    return type(LLAMA.build())(type(config)(**config.to_diff_dict() | overrides)).eval()
