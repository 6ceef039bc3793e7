"""The finetuning methods of experiments, by name: ReFT, and those that it is compared with.

`docs/methods.md` says of each what it trains, its options and its source.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
)
from transformers.pytorch_utils import Conv1D

from reftune.config import ReftConfig
from reftune.experiments.methods.bottleneck import Bottlenecks
from reftune.experiments.methods.method import Method
from reftune.experiments.methods.own_method import OwnMethod, every_bias, every_parameter, nothing
from reftune.experiments.methods.peft_method import PeftMethod
from reftune.experiments.methods.reft_and_lora import ReftAndLora

Options = dict[str, Any]
# LoRA's starts that leave the base model's weights alone.
LORA_STARTS = (True, False, "gaussian", "orthogonal")


def _is_decoder(model: Any) -> bool:
    """Say whether a model, whatever its head, is one that decodes with keys and values kept."""
    return "past_key_values" in inspect.signature(model.forward).parameters


def _check_prefix(model: Any, task_type: str) -> None:
    if not _is_decoder(model):
        raise ValueError(
            f"method prefix-tuning on {type(model).__name__}: expected a decoder; the encoders of "
            "transformers 5 take no keys and values from outside"
        )


def _check_prompt(model: Any, task_type: str) -> None:
    if task_type == "SEQ_CLS" and _is_decoder(model):
        raise ValueError(
            f"method prompt-tuning on {type(model).__name__}: expected an encoder or a causal "
            "language model; without token ids a decoder's classification head reads the last "
            "place, be it padding"
        )


def _transposed(model: Any) -> Options:
    """Say how the weights of a model's linear layers lie: those of GPT-2 are `(in, out)`."""
    return {"fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules())}


def _lora_defaults(model: Any) -> Options:
    return {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", **_transposed(model)}


def _norms(model: Any) -> Options:
    """Name every norm that has a weight; PEFT's own table lacks encoders, and norms of Qwen."""
    base = model.base_model
    return {
        "target_modules": [
            name
            for name, module in model.named_modules()
            if type(module).__name__.endswith("Norm")
            and list(module.parameters())
            and any(module is part for part in base.modules())
        ]
    }


def _virtual_tokens(model: Any) -> Options:
    return {"num_virtual_tokens": 20}


def _lora(name: str, options: Options) -> PeftMethod:
    start = options.get("init_lora_weights", True)
    if start not in LORA_STARTS:
        raise ValueError(
            f"method {name}: init_lora_weights {start!r} may change the base model: expected one "
            f"of {', '.join(map(repr, LORA_STARTS))}"
        )
    fixed = {"use_dora": True} if name == "dora" else {}
    return PeftMethod(name, LoraConfig, options, fixed, _lora_defaults)


def _red(name: str, options: Options) -> PeftMethod:
    # Every layer's feed-forward output at all positions, generated ones too: arXiv 2402.15179.
    fixed = {"intervention": "red"}
    place = {"component": "mlp_output", "positions": "all", "decode": "all"}
    return PeftMethod(name, ReftConfig, options, fixed, lambda model: place)


def _reft_and_lora(name: str, options: Options) -> ReftAndLora:
    parts = {"reft", "lora"}
    if not options.keys() <= parts or not all(isinstance(one, dict) for one in options.values()):
        raise ValueError(
            f"method {name}, options {options}: expected options of each under "
            f"{' and '.join(sorted(parts))}"
        )
    lora = _lora("lora", options.get("lora", {}))
    return ReftAndLora(PeftMethod("reft", ReftConfig, options.get("reft", {})), lora)


def _bottleneck(name: str, options: Options) -> OwnMethod:
    known = list(inspect.signature(Bottlenecks).parameters)
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(
            f"method {name}: unknown option {', '.join(unknown)}: expected some of "
            f"{', '.join(known)}"
        )
    return OwnMethod(name, Bottlenecks(**options), options)


def _without_options(choose: Callable, name: str, options: Options) -> OwnMethod:
    if options:
        raise ValueError(f"method {name}: unknown option {', '.join(options)}: expected none")
    return OwnMethod(name, choose)


def _peft(config_class: type, name: str, options: Options, **more: Any) -> PeftMethod:
    return PeftMethod(name, config_class, options, **more)


# Name of a method -> what makes it from the name and options.
METHODS: dict[str, Callable[[str, Options], Method]] = {
    "reft": partial(_peft, ReftConfig),
    "red": _red,
    "lora": _lora,
    "dora": _lora,
    "reft+lora": _reft_and_lora,
    "ia3": partial(_peft, IA3Config, defaults=_transposed),
    "prefix-tuning": partial(
        _peft, PrefixTuningConfig, defaults=_virtual_tokens, check=_check_prefix
    ),
    "prompt-tuning": partial(
        _peft, PromptTuningConfig, defaults=_virtual_tokens, check=_check_prompt
    ),
    "ln-tuning": partial(_peft, LNTuningConfig, defaults=_norms),
    "bottleneck": _bottleneck,
    "bitfit": partial(_without_options, every_bias),
    "probe": partial(_without_options, nothing),
    "full": partial(_without_options, every_parameter),
}


def method_of(name: str, options: dict[str, Any] | None = None) -> Method:
    """Return a method.

    Args:
        name: a name in `METHODS`.
        options: its options; those that are not given have the defaults of `docs/methods.md`.

    Raises:
        ValueError: there is no such method or option, or an option has no meaning.
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r}: expected one of {', '.join(METHODS)}")
    return METHODS[name](name, dict(options or {}))
