"""Loading the base model of an experiment, with the head that its task needs."""

from dataclasses import dataclass
from typing import Any

from peft import PeftModel, PromptLearningConfig
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from reftune.assets import TINY_CHAT
from reftune.device import pick_device
from reftune.dtypes import loading_options
from reftune.tasks.labels import Labels

BUNDLED = "tiny-chat"


@dataclass(frozen=True)
class Base:
    """A base model, without anything on it, and its tokenizer.

    Attributes:
        model: the model.
        tokenizer: of the same model.
        drawn: names of the parameters of a head that was drawn, as the model was saved without.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    drawn: frozenset[str] = frozenset()


def load_language_model(name: str, dtype: str) -> Base:
    """Load a causal language model.

    Args:
        name: a folder, a hub id, or `tiny-chat`, the model that comes with reftune.
        dtype: of `reftune.dtypes.DTYPES`; `auto` is the one that it was saved in.

    Raises:
        ValueError: there is no such model, or it is of another kind.
    """
    model, tokenizer = _load(AutoModelForCausalLM, name, dtype)
    return Base(model.to(pick_device()).eval(), tokenizer)


def load_classifier(name: str, dtype: str, labels: Labels, trained: bool = False) -> Base:
    """Load a model with a head for some labels.

    Args:
        name: as for `load_language_model`.
        dtype: as for `load_language_model`.
        labels: what is predicted.
        trained: whether the model must have been saved with a head; otherwise a head that is
            missing is drawn from torch's global generator.

    Raises:
        ValueError: there is no such model, or it was saved with a head for another number of
            labels, or without one where it must have one.
    """
    kind = "regression" if not labels.names else "single_label_classification"
    names = {"id2label": dict(enumerate(labels.names))} if labels.names else {"num_labels": 1}
    whole = {"problem_type": kind, "output_loading_info": True, **names}
    (model, info), tokenizer = _load(AutoModelForSequenceClassification, name, dtype, **whole)
    if trained and info["missing_keys"]:
        raise ValueError(
            f'model "{name}" lacks {", ".join(sorted(info["missing_keys"]))[:100]}; expected a '
            "model with a trained head, or an adapter with one"
        )
    base = Base(model.to(pick_device()).eval(), tokenizer, frozenset(info["missing_keys"]))
    if base.tokenizer.pad_token is None:  # padding is masked, so any token will do
        base.tokenizer.pad_token = base.tokenizer.eos_token or base.tokenizer.unk_token
    if base.model.config.pad_token_id is None:  # by which decoders find the last token of a row
        base.model.config.pad_token_id = base.tokenizer.pad_token_id
    return base


def _load(kind: Any, name: str, dtype: str, **more: Any) -> tuple[Any, Any]:
    path = str(TINY_CHAT) if name == BUNDLED else name
    try:
        options = loading_options(kind, path, dtype)
        return (
            kind.from_pretrained(path, **options, **more),
            AutoTokenizer.from_pretrained(path),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f'model "{name}" cannot be loaded ({reason})') from error


def virtual_tokens(model: Any) -> int:
    """Return how many places of a row are taken by a prompt or prefix that is trained."""
    config = model.active_peft_config if isinstance(model, PeftModel) else None
    return config.num_virtual_tokens if isinstance(config, PromptLearningConfig) else 0


def room(model: Any, wanted: int) -> int:
    """Return how many tokens of a row a model has positions for, and no more than are wanted.

    Args:
        model: with what a method has put on it; prompts that are trained take places of their own.
        wanted: tokens.
    """
    taken = virtual_tokens(model)
    limits = [getattr(model.config, "max_position_embeddings", None) or wanted + taken]
    for name, module in model.named_modules():
        # RoBERTa counts positions from behind the padding index.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min(wanted, min(limits) - taken)


def longest_row(base: Base, wanted: int) -> int:
    """Return how many tokens of a row model and tokenizer take, and no more than are wanted."""
    return min(room(base.model, wanted), base.tokenizer.model_max_length)
