"""A running call of `generate`, which alone sees the whole prompt.

Its forward passes may get a chunk of the prompt each, or only what a cache does not hold yet.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class GenerateCall:
    """One running call of `generate`.

    Args:
        tokens: `(batch, width)` bool, the prompt as it was handed over; `None` until the first
            forward pass where `generate` makes the start tokens itself.
        seen: columns that went through the model, for caches that know it only on the device.
    """

    tokens: Tensor | None
    seen: int


def begin_call(
    root: Any, args: tuple, kwargs: dict[str, Any], prompt_mask: Tensor | None
) -> GenerateCall:
    """Return what a call of `generate` says of its prompt.

    Where the caller gives no attention mask, the padding is inferred as `generate` does it, and
    put into `kwargs`, so that both agree.

    Raises:
        ValueError: the attention mask or the prompt mask has the wrong shape.
    """
    call = dict(zip(("inputs", "generation_config"), args, strict=False)) | kwargs
    shown = next(
        (call[n] for n in ("inputs_embeds", "inputs", "input_ids") if call.get(n) is not None), None
    )
    scale = _wanted(root, call, "guidance_scale")
    if scale not in (None, 1, 1.0):
        raise ValueError(
            f"guidance_scale={scale}: expected none with an adapter, because the unconditional "
            "passes have no prompt to edit"
        )
    if root.config.is_encoder_decoder or shown is None:
        if prompt_mask is not None:
            raise ValueError(
                f"prompt_mask {tuple(prompt_mask.shape)}: expected none, because the model makes "
                "its first tokens itself"
            )
        return GenerateCall(None, 0)
    cache = call.get("past_key_values")
    seen = 0 if cache is None else int(cache.get_seq_length())
    mask = call.get("attention_mask")
    if mask is None and seen == 0:
        mask = kwargs["attention_mask"] = _padding_mask(root, shown, call)
    if mask is None:
        width = shown.shape[1] if shown.shape[1] > seen else seen + shown.shape[1]
        mask = torch.ones(shown.shape[0], width, device=shown.device)
    if mask.dim() != 2:
        raise ValueError(f"attention_mask {tuple(mask.shape)}: expected (batch, seq)")
    tokens = mask.bool()
    if prompt_mask is not None and prompt_mask.shape != tokens.shape:
        raise ValueError(
            f"prompt_mask {tuple(prompt_mask.shape)}: expected {tuple(tokens.shape)}, as the prompt"
        )
    return GenerateCall(tokens if prompt_mask is None else tokens & prompt_mask.bool(), seen)


def _padding_mask(root: Any, shown: Tensor, call: dict[str, Any]) -> Tensor:
    """Return 0 at pad tokens, unless the pad token is also the end of a text."""
    ones = torch.ones(shown.shape[:2], dtype=torch.long, device=shown.device)
    pad, end = _wanted(root, call, "pad_token_id"), _wanted(root, call, "eos_token_id")
    ends = end if isinstance(end, list | tuple) else [end]
    if shown.dim() != 2 or pad is None or pad in ends:
        return ones
    return shown.ne(pad).long()


def _wanted(root: Any, call: dict[str, Any], name: str) -> Any:
    """Return a setting as `generate` finds it: an argument, the given config's, or the model's."""
    given = (call.get(name), getattr(call.get("generation_config"), name, None))
    found = [value for value in given if value is not None]
    return found[0] if found else getattr(root.generation_config, name, None)
