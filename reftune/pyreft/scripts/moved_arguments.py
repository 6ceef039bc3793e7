"""What transformers 4 took as arguments and transformers 5 does not, and what stands for it now.

Published scripts for pyreft were written for transformers 4.3x to 4.45. A row here says what an old
argument is called today and puts it there. Nothing here changes transformers; see
`reftune.pyreft.scripts.old_transformers`.
"""

import inspect
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from transformers import BitsAndBytesConfig

_told: set[str] = set()


def tell(old: str, now: str) -> None:
    """Warn that something has moved, once in a process.

    Args:
        old: what was written, such as `"TrainingArguments(evaluation_strategy=)"`.
        now: the rest of the sentence, which names what to write today.
    """
    if old in _told:
        return
    _told.add(old)
    level, frame = 1, inspect.currentframe()
    # The warning points at the line of the script, behind our frames and those of transformers.
    ours = ("reftune.", "transformers.")
    while frame and (
        frame.f_globals.get("__name__", "").startswith(ours)
        or frame.f_code.co_filename == "<string>"  # the __init__ of a data class
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{old}: {now}", FutureWarning, stacklevel=level)


def forget() -> None:
    """Tell everything once more."""
    _told.clear()


class Moved(NamedTuple):
    """An argument that `TrainingArguments` no longer takes.

    Attributes:
        kind: its type, by which a command line is read.
        now: what to write today.
        settle: puts a value where it belongs now, in the arguments that are being made.
    """

    kind: Any
    now: str
    settle: Callable[[Any, Any], None]


def _renamed(kind: Any, new: str) -> Moved:
    return Moved(kind, f"transformers 5 calls it {new}=", lambda args, v: setattr(args, new, v))


def _where_true(new: str, settle: Callable[[Any], None]) -> Moved:
    return Moved(
        bool, f"in transformers 5 it is {new}", lambda args, v: settle(args) if v else None
    )


def _dropped(kind: Any, reason: str) -> Moved:
    return Moved(kind, f"transformers 5 has no such argument, {reason}", lambda args, v: None)


def _warm_up(args: Any, ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise ValueError(f"warmup_ratio={ratio}: expected a part of the training, from 0 to 1")
    if not args.warmup_steps:  # which went first in transformers 4 too
        # From 1 on it is a number of steps.
        args.warmup_steps = min(ratio, math.nextafter(1, 0))


def _log_to(args: Any, folder: str) -> None:
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)


def _organization(args: Any, name: str) -> None:
    own = args.hub_model_id or os.path.basename(os.path.normpath(args.output_dir or "trainer"))
    args.hub_model_id = f"{name}/{own.rpartition('/')[2]}"


def _entry(kind: Any, group: str, key: str) -> Moved:
    """Return an argument that is an entry of a dict now."""

    def settle(args: Any, value: Any) -> None:
        entries = getattr(args, group)
        if value and (entries is None or isinstance(entries, Mapping)):
            setattr(args, group, {**(entries or {}), key: value})

    return Moved(kind, f'in transformers 5 it is {group}={{"{key}": ...}}', settle)


def _include_inputs(args: Any) -> None:
    args.include_for_metrics = [*args.include_for_metrics, "inputs"]


_PRECISION = "half precision is torch's own autocast"
TRAINING_ARGUMENTS: dict[str, Moved] = {
    "evaluation_strategy": _renamed(str | None, "eval_strategy"),
    "per_gpu_train_batch_size": _renamed(int | None, "per_device_train_batch_size"),
    "per_gpu_eval_batch_size": _renamed(int | None, "per_device_eval_batch_size"),
    "push_to_hub_model_id": _renamed(str | None, "hub_model_id"),
    "push_to_hub_token": _renamed(str | None, "hub_token"),
    "torchdynamo": _renamed(str | None, "torch_compile_backend"),
    "push_to_hub_organization": Moved(
        str | None, "transformers 5 takes it within hub_model_id=", _organization
    ),
    "warmup_ratio": Moved(
        float | None, "transformers 5 takes it as warmup_steps=, below 1 a part of all", _warm_up
    ),
    "logging_dir": Moved(
        str | None, "transformers 5 reads the variable TENSORBOARD_LOGGING_DIR instead", _log_to
    ),
    "no_cuda": _where_true("use_cpu=True", lambda args: setattr(args, "use_cpu", True)),
    "adafactor": _where_true('optim="adafactor"', lambda args: setattr(args, "optim", "adafactor")),
    "group_by_length": _where_true(
        'train_sampling_strategy="group_by_length"',
        lambda args: setattr(args, "train_sampling_strategy", "group_by_length"),
    ),
    "include_inputs_for_metrics": _where_true('include_for_metrics=["inputs"]', _include_inputs),
    "include_tokens_per_second": _where_true(
        'include_num_input_tokens_seen="all"',
        lambda args: setattr(args, "include_num_input_tokens_seen", "all"),
    ),
    "dispatch_batches": _entry(bool, "accelerator_config", "dispatch_batches"),
    "split_batches": _entry(bool, "accelerator_config", "split_batches"),
    "fsdp_min_num_params": _entry(int | None, "fsdp_config", "min_num_params"),
    "fsdp_transformer_layer_cls_to_wrap": _entry(
        str | None, "fsdp_config", "transformer_layer_cls_to_wrap"
    ),
    "overwrite_output_dir": _dropped(bool, "as train(resume_from_checkpoint=) alone decides"),
    "save_safetensors": _dropped(bool, "as it always writes safetensors"),
    "use_mps_device": _dropped(bool, "as it finds the device itself"),
    "fp16_backend": _dropped(str | None, f"as {_PRECISION}"),
    "half_precision_backend": _dropped(str | None, f"as {_PRECISION}"),
    "fp16_opt_level": _dropped(str | None, f"as {_PRECISION}"),
    "jit_mode_eval": _dropped(bool, "but torch_compile="),
    "use_ipex": _dropped(bool, "but torch_compile="),
    "use_legacy_prediction_loop": _dropped(bool, "as there is one loop"),
    "past_index": _dropped(int | None, "as no such model is left"),
    "tpu_num_cores": _dropped(int | None, "as the launcher decides"),
    "tpu_metrics_debug": _dropped(bool, 'but debug="tpu_metrics_debug"'),
    "mp_parameters": _dropped(str | None, "as SageMaker's launcher decides"),
    "ray_scope": _dropped(str | None, "as ray decides"),
    "sharded_ddp": _dropped(str | None, "but fsdp="),
    "xpu_backend": _dropped(str | None, "but ddp_backend="),
}


def settle_training_arguments(args: Any) -> None:
    """Put the old arguments that were given where they belong now; they stay readable.

    Args:
        args: `TrainingArguments`, before they are checked, or later, if some were assigned.
    """
    settled = vars(args).setdefault("_settled", {})
    for name, moved in TRAINING_ARGUMENTS.items():
        value = getattr(args, name, None)
        if value is not None and value != settled.get(name):
            tell(f"TrainingArguments({name}=)", moved.now)
            moved.settle(args, value)
            settled[name] = value
    if args.optim == "adamw_hf":
        tell('TrainingArguments(optim="adamw_hf")', 'transformers 5 has "adamw_torch" instead')
        args.optim = "adamw_torch"


def settle_tokenizer(kwargs: dict[str, Any]) -> None:
    """Put a trainer's `tokenizer` where it belongs now."""
    if "tokenizer" in kwargs:
        tell("Trainer(tokenizer=)", "transformers 5 calls it processing_class=")
        tokenizer = kwargs.pop("tokenizer")
        kwargs.setdefault("processing_class", tokenizer)


def settle_loading(kwargs: dict[str, Any], is_model: bool) -> None:
    """Put old arguments of `from_pretrained` where they belong now.

    Args:
        kwargs: those given.
        is_model: whether a model is loaded, or else a config or a tokenizer.

    Raises:
        ValueError: the model is to be quantized in two ways.
    """
    if "use_auth_token" in kwargs:
        tell("from_pretrained(use_auth_token=)", "transformers 5 calls it token=")
        token = kwargs.pop("use_auth_token")
        kwargs.setdefault("token", token)
    if "resume_download" in kwargs:
        tell("from_pretrained(resume_download=)", "the hub always resumes; leave it out")
        kwargs.pop("resume_download")
    flash = kwargs.pop("use_flash_attention_2", None)
    if flash is not None:
        new = 'attn_implementation="flash_attention_2"'
        tell("from_pretrained(use_flash_attention_2=)", f"in transformers 5 it is {new}")
        if flash and is_model:
            kwargs.setdefault("attn_implementation", "flash_attention_2")
    _settle_quantization(kwargs, is_model)


def _settle_quantization(kwargs: dict[str, Any], is_model: bool) -> None:
    asked = {name: kwargs.pop(name) for name in ("load_in_8bit", "load_in_4bit") if name in kwargs}
    for name in asked:
        new = f"quantization_config=BitsAndBytesConfig({name}=True)"
        tell(f"from_pretrained({name}=)", f"in transformers 5 it is {new}, and nothing for False")
    known = inspect.signature(BitsAndBytesConfig.__init__).parameters
    details = [name for name in kwargs if name.startswith(("llm_int8_", "bnb_4bit_"))]
    further = {name: kwargs.pop(name) for name in details if name in known}
    if not (is_model and any(asked.values())):
        return
    if kwargs.get("quantization_config") is not None:
        raise ValueError(
            f"from_pretrained: {', '.join(name for name, v in asked.items() if v)}=True and a "
            "quantization_config: expected one of them"
        )
    kwargs["quantization_config"] = BitsAndBytesConfig(**asked, **further)


class AdamW(torch.optim.AdamW):
    """`transformers.AdamW` of transformers 4, with its defaults, as torch's."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        no_deprecation_warning: bool = False,
    ):
        tell("transformers.AdamW", "transformers 5 has none; it is torch.optim.AdamW")
        if not correct_bias:
            tell("transformers.AdamW(correct_bias=False)", "torch.optim.AdamW always corrects")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
