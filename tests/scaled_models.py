"""Tiny models of the shapes of `benchmarks.scale`, finetuned in the ways that it knows."""

from dataclasses import replace

import torch
import transformers
from peft import LoraConfig, get_peft_model

from benchmarks.scale.adapters import ENDS, LAST, SUFFIX
from benchmarks.scale.models import Model
from benchmarks.scale.training import Method
from reftune import ReftConfig

DENSE = Model("dense", 64, 4, 8, 2, 8, 160, 200)
MIXTURE = replace(DENSE, name="mixture", experts=4, chosen=2)
LORA = {"q, v": ["q_proj", "v_proj"], "all linear": "all-linear"}


def build(model: Model, **options) -> transformers.PreTrainedModel:
    kind = "Mixtral" if model.is_mixture else "Llama"
    config = getattr(transformers, f"{kind}Config")(**model.config(), **options)
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16)


def finetuned(model: Model, method: Method, **options) -> torch.nn.Module:
    base = build(model, **options)
    if method.is_full:
        return base
    if not method.is_reft:
        targets = LORA[method.name.removeprefix("LoRA r 8, ")]
        return get_peft_model(base, LoraConfig(target_modules=targets, task_type="CAUSAL_LM"))
    (adapter,) = (a for a in (LAST, SUFFIX, ENDS) if a.name == method.name)
    return get_peft_model(base, ReftConfig(task_type="CAUSAL_LM", **adapter.config(model)))
