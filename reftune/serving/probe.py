"""Proof at the start that edits act on the right tokens: an edited answer held against the formula.

A version of the engine that no longer calls what this package relies on would answer without any
edit, and nothing would say so.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from reftune.config import ReftConfig
from reftune.hooking import edit_output
from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.adapters import ServedAdapter
from reftune.serving.errors import EngineError
from reftune.serving.lowering import LINEAR, LowRank
from reftune.serving.requests import Token
from reftune.sites import Site, find_sites

# Log probabilities of the engine and of a plain forward pass agree to this, in nats.
TOLERANCES = {torch.float32: 1e-2, torch.float64: 1e-2}
HALF_TOLERANCE = 0.5


Ask = Callable[[list[int], ServedAdapter | None], Token]


def probe(model: PreTrainedModel, length: int, ask: Ask) -> None:
    """Hold one token of the engine, with an edit and without, against a plain forward pass.

    The first and the last token of the prompt are edited, each by an edit of its own.

    Args:
        model: without the engine's hooks.
        length: of the prompt; longer than a step, so that it is read in two.
        ask: gives the engine's likeliest token after a prompt.

    Raises:
        EngineError: the engine says something else.
    """
    draws = torch.Generator().manual_seed(0)
    prompt = torch.randint(model.config.get_text_config().vocab_size, (length,), generator=draws)
    middle = model.config.get_text_config().num_hidden_layers // 2
    [site] = find_sites(model, ReftConfig(layers=[middle]))
    vectors = torch.randn(2, site.width, generator=draws)
    vectors *= _size(model, prompt, site)
    plain, edited = (_logprobs(model, prompt, site, v) for v in (None, vectors))
    adapter = _adapter(site, vectors)
    tolerance = TOLERANCES.get(model.dtype, HALF_TOLERANCE)
    for what, expected, with_what in (("plain", plain, None), ("edited", edited, adapter)):
        token = ask(prompt.tolist(), with_what)
        wanted = expected[token.id].item()
        if token.logprob is None or abs(token.logprob - wanted) > tolerance:
            raise EngineError(
                f"a probe of the engine gave its {what} answer a log probability of "
                f"{token.logprob}: expected {wanted:.4f}, as a forward pass gives; this version "
                "of transformers cannot serve adapters of this model"
            )
    if (plain - edited).abs().max() <= tolerance:
        raise EngineError(
            f"an edit at {site.module} does not change what {type(model).__name__} says, so that "
            "nothing can be proved; expected a model whose layers matter"
        )


def _adapter(site: Site, vectors: Tensor) -> ServedAdapter:
    edits = tuple(
        LowRank(torch.zeros(1, site.width), torch.ones(1), vector[None]) for vector in vectors
    )
    where = Where(Positions(first=1, last=1), tied=False, decode="none")
    return ServedAdapter("probe", where, LINEAR, {site: edits})


def _size(model: nn.Module, prompt: Tensor, site: Site) -> float:
    """Return how large hidden states are at a site."""
    seen: list[Tensor] = []

    def look(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    owner = model.get_submodule(site.module)
    handle = owner.register_forward_hook(lambda m, args, output: edit_output(m, output, look))
    with torch.no_grad():
        model(prompt[None].to(next(model.parameters()).device))
    handle.remove()
    return seen[0].float().square().mean().sqrt().item()


def _logprobs(model: nn.Module, prompt: Tensor, site: Site, vectors: Tensor | None) -> Tensor:
    """Return what follows a prompt, `(vocabulary,)`, with vectors added to its first and last."""

    def add(hidden: Tensor) -> Tensor:
        if vectors is None:
            return hidden
        moved = hidden.float()
        for place, vector in zip((0, -1), vectors, strict=True):
            moved[:, place] += vector.to(moved.device)
        return moved.to(hidden.dtype)

    owner = model.get_submodule(site.module)
    handle = owner.register_forward_hook(
        lambda m, args, output: edit_output(m, output, lambda h: add(h.clone()))
    )
    with torch.no_grad():
        logits = model(prompt[None].to(next(model.parameters()).device)).logits[0, -1]
    handle.remove()
    return logits.float().log_softmax(-1).cpu()
