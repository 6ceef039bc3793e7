"""What the numbers of a base model are kept in: torch's floating-point dtypes, or 4 or 8 bits.

In 4 and 8 bits are the linear layers alone, by bitsandbytes while the model is loaded; they are the
bases of QLoRA (https://arxiv.org/abs/2305.14314). A head is left as it is.
"""

from importlib.util import find_spec
from typing import Any

FLOATING = ("auto", "float32", "bfloat16", "float16")
QUANTIZED = ("nf4", "int8")
DTYPES = (*FLOATING, *QUANTIZED)


def check_extra(dtype: str) -> None:
    """Make sure that what quantizes is installed, if a dtype needs it.

    Raises:
        ModuleNotFoundError: bitsandbytes is missing; names the extra that brings it.
    """
    if dtype in QUANTIZED and find_spec("bitsandbytes") is None:
        raise ModuleNotFoundError(
            f"dtype {dtype} needs bitsandbytes: pip install 'reftune[quantized]'"
        )


def loading_options(kind: Any, path: str, dtype: str, **config: Any) -> dict[str, Any]:
    """Return what `from_pretrained` is to be given for a dtype.

    Args:
        kind: one of transformers' `AutoModel` classes.
        path: of the model, or its hub id.
        dtype: of `DTYPES`. What is not quantized is then in bfloat16, on a processor in float32,
            as few of them have units for the other.
        config: further fields of the model's configuration.

    Raises:
        ModuleNotFoundError: as `check_extra`.
        ValueError: there is no such dtype, or the model was saved in other bits.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype not in QUANTIZED:
        return {"dtype": dtype}
    check_extra(dtype)
    import torch
    from transformers import AutoConfig, BitsAndBytesConfig

    from reftune.device import pick_device

    described = AutoConfig.from_pretrained(path, **config)
    if getattr(described, "quantization_config", None) is not None:
        raise ValueError(f'model "{path}" was saved in few bits; expected --dtype auto for it')
    device = pick_device()
    floating = torch.float32 if device == "cpu" else torch.bfloat16
    bits = BitsAndBytesConfig(
        load_in_8bit=dtype == "int8",
        load_in_4bit=dtype == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=floating,
        llm_int8_skip_modules=_heads(kind, described),
    )
    where = torch.cuda.current_device() if device == "cuda" else device
    return {"dtype": floating, "quantization_config": bits, "device_map": {"": where}}


def _heads(kind: Any, config: Any) -> list[str]:
    """Return the names of what a model has beside its layers: a head is trained, or tied."""
    import torch

    with torch.device("meta"):
        model = kind.from_config(config)
    return [name for name, _ in model.named_children() if name != model.base_model_prefix]
