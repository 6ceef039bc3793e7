"""The frozen model and its batches: the same numbers in every worker, whatever its environment."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

WEIGHTS = "weights-{}.safetensors"
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}


def fill(model: LlamaForCausalLM, seed: int) -> None:
    """Give a model random weights where it is, in the order of their names."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() > 1:
                weight.normal_(0, weight.shape[-1] ** -0.5, generator=generator)
                if "embed_tokens" in name:
                    weight.mul_(weight.shape[-1] ** 0.5 * 0.2)


def write_weights(arguments: dict[str, Any], folder: str, name: str, seed: int) -> None:
    """Make the weights of a shape, in float32, unless they are there."""
    path = Path(folder) / WEIGHTS.format(name)
    if not path.exists():
        model = LlamaForCausalLM(LlamaConfig(**arguments, tie_word_embeddings=False))
        fill(model, seed)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def load_base(
    arguments: dict[str, Any], folder: str, name: str, device: str, seed: int
) -> LlamaForCausalLM:
    """Return the frozen model.

    On a CPU its tensors are those of the file, mapped into memory, which all workers share. On a
    GPU they are drawn there: the same generator gives the same numbers, and 16 GB need no file.
    """
    marks: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = LlamaConfig(**arguments, **marks, tie_word_embeddings=False, use_cache=False)
    if device == "cpu":
        with torch.device("meta"):
            empty = LlamaForCausalLM(config)
        weights = load_file(Path(folder) / WEIGHTS.format(name))
        empty.load_state_dict(weights, assign=True)
        _restore_buffers(empty, config)
        model = empty
    else:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(DTYPES[device])
        with torch.device(device):
            model = LlamaForCausalLM(config)
        torch.set_default_dtype(dtype)
        _restore_buffers(model, config)
        fill(model, seed)
    model.requires_grad_(False)
    return model.eval()


def _restore_buffers(model: LlamaForCausalLM, config: LlamaConfig) -> None:
    """Compute the rotary frequencies anew, in float32: they are in no file.

    Older transformers have them in every layer too.
    """
    device = model.lm_head.weight.device
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RotaryEmbedding"):
                setattr(module, name, type(child)(config=config).to(device))


def make_batch(
    vocabulary: int, rows: int, prompt: int, completion: int, seed: int, device: str
) -> dict[str, Tensor]:
    """Return rows without padding: random ids, and labels on the completion.

    Returns:
        `input_ids`, `attention_mask` and `labels`, int64, `(rows, prompt + completion)`.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (rows, prompt + completion), generator=generator)
    labels = ids.clone()
    labels[:, :prompt] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}
