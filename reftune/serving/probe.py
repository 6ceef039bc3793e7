"""Proof at the start that edits act on the right tokens: an edited answer held against the formula.

A version of the engine that no longer calls what this package relies on would answer without any
edit, and nothing would say so.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from reftune.config import ReftConfig
from reftune.hooking import Edit, edit_output
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


NEW_TOKENS = 3
# Answers to prompts, each with an adapter or without, that share the engine's steps.
Ask = Callable[[list[tuple[list[int], ServedAdapter | None]], int], list[list[Token]]]


def probe(model: PreTrainedModel, length: int, ask: Ask) -> None:
    """Hold some tokens of the engine, with an edit and without, against plain forward passes.

    The first and the last token of a prompt are edited, each by an edit of its own.

    Args:
        model: without the engine's hooks.
        length: of the longest prompt; longer than a step, so that it is read in two.
        ask: gives the engine's likeliest answers of some tokens.

    Raises:
        EngineError: the engine says something else.
    """
    text = model.config.get_text_config()
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(text.vocab_size, (length,), generator=draws).tolist()
    [site] = find_sites(model, ReftConfig(layers=[text.num_hidden_layers // 2]))
    vectors = torch.randn(2, site.width, generator=draws) * _size(model, ids, site)
    adapter = _adapter(site, vectors)
    # Of two lengths, so that steps have tokens of several of them.
    asked = [(prompt, one) for prompt in (ids, ids[: length // 3 + 1]) for one in (adapter, None)]
    tolerance = TOLERANCES.get(model.dtype, HALF_TOLERANCE)
    for (prompt, one), tokens in zip(asked, ask(asked, NEW_TOKENS), strict=True):
        answer = [token.id for token in tokens]
        told = torch.tensor([float("nan") if t.logprob is None else t.logprob for t in tokens])
        edited = _logprobs(model, prompt, answer, site, None if one is None else vectors)
        if not torch.allclose(told, edited, rtol=0, atol=tolerance):
            raise EngineError(
                f"a probe of the engine gave an answer log probabilities of {told.tolist()}: "
                f"expected {edited.tolist()}, as a forward pass gives; transformers' continuous "
                f"batching cannot serve {type(model).__name__} with adapters"
            )
        plain = _logprobs(model, prompt, answer, site, None)
        if one is not None and (plain - edited).abs().max() <= tolerance:
            raise EngineError(
                f"an edit at {site.module} does not change what {type(model).__name__} says, so "
                "that nothing is proved; expected a model whose layers matter"
            )


def _adapter(site: Site, vectors: Tensor) -> ServedAdapter:
    edits = tuple(
        LowRank(torch.zeros(1, site.width), torch.ones(1), vector[None]) for vector in vectors
    )
    where = Where(Positions(first=1, last=1), tied=False, decode="none")
    return ServedAdapter("probe", where, LINEAR, {site: edits})


def _size(model: nn.Module, ids: list[int], site: Site) -> float:
    """Return how large hidden states are at a site."""
    seen: list[Tensor] = []

    def look(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    _forward(model, ids, site, look)
    return seen[0].float().square().mean().sqrt().item()


def _logprobs(
    model: nn.Module, prompt: list[int], answer: list[int], site: Site, vectors: Tensor | None
) -> Tensor:
    """Return the log probabilities of an answer, with vectors added to the prompt's ends."""

    def add(hidden: Tensor) -> Tensor:
        moved = hidden.float()
        if vectors is not None:
            for place, vector in zip((0, len(prompt) - 1), vectors, strict=True):
                moved[:, place] += vector.to(moved.device)
        return moved.to(hidden.dtype)

    logits = _forward(model, prompt + answer[:-1], site, lambda h: add(h.clone()))
    logprobs = logits[len(prompt) - 1 :].float().log_softmax(-1).cpu()
    return logprobs.gather(1, torch.tensor(answer)[:, None])[:, 0]


@torch.no_grad()
def _forward(model: nn.Module, ids: list[int], site: Site, edit: Edit) -> Tensor:
    """Return the logits of a text, `(tokens, vocabulary)`, with a site edited."""
    handle = model.get_submodule(site.module).register_forward_hook(
        lambda module, args, output: edit_output(module, output, edit)
    )
    try:
        return model(torch.tensor([ids], device=next(model.parameters()).device)).logits[0]
    finally:
        handle.remove()
