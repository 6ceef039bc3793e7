"""The shape of a base model, without its weights: from its config, or taken to be like Llama."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

# What transformers' classifiers call their trained heads.
HEADS = ("classifier", "score")
MOST_LAYERS = 500  # of a model that is not known
TASKS = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM"}


def base_model(name: str, head: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a base model on the meta device.

    Args:
        name: a local folder with a `config.json`, or a hub id, of which the config alone is read.
        head: the tensors of a trained head; empty if there is none.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
        ValueError: the folder holds no config of a model.
    """
    folder = Path(name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f'base model "{name}": expected a folder with config.json')
    if not folder.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f'base model "{name}": no such folder')
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        with torch.device("meta"):
            return _build(config, head)
    # The config decides what is built, and how that may fail.
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        if folder.exists():
            raise ValueError(f'base model "{name}" is not known ({reason})') from error
        raise FileNotFoundError(
            f'base model "{name}": no such folder, and the hub gave no such config ({reason})'
        ) from error


def _build(config: Any, head: Mapping[str, Tensor]) -> PreTrainedModel:
    """Build the class that the config names; with a trained head, a classifier of its size."""
    if head:
        config.num_labels = len(list(head.values())[-1])
        return AutoModelForSequenceClassification.from_config(config)
    named = getattr(transformers, (getattr(config, "architectures", None) or [""])[0], None)
    if isinstance(named, type) and issubclass(named, PreTrainedModel):
        return named(config)
    known = type(config) in AutoModelForCausalLM._model_mapping
    return (AutoModelForCausalLM if known else AutoModel).from_config(config)


def assumed_model(layers: list[int], width: int) -> PreTrainedModel:
    """Return a model with Llama's names of modules, all of whose sites have one width.

    Args:
        layers: the indices that it must have.
        width: of its hidden states.

    Raises:
        ValueError: an index counts from the end, or is too high for a model.
    """
    if min(layers, default=0) < 0 or max(layers, default=0) >= MOST_LAYERS:
        raise ValueError(
            f"layers {layers}: expected the base model to be given (--base-model), as they count "
            f"from the end or exceed {MOST_LAYERS}"
        )
    config = LlamaConfig(
        vocab_size=1,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=max(layers, default=0) + 1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=width,
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def task_of(model: PreTrainedModel, head: Mapping[str, Tensor]) -> str | None:
    """Return PEFT's name of what a model does, `None` if it has none.

    A classifier without its trained head has none, either: PEFT would look for one in the adapter.
    """
    name = type(model).__name__
    if name.endswith("ForSequenceClassification"):
        return "SEQ_CLS" if head else None
    if name.endswith("ForConditionalGeneration") and model.config.is_encoder_decoder:
        return "SEQ_2_SEQ_LM"
    return next((task for ending, task in TASKS.items() if name.endswith(ending)), None)
