"""Every edit of the family as rows of a few matrices, so that edits of different adapters stack.

With `u = A h + b`, an edit moves `h` by `u B`, or, with an activation f, by `(f(u) − C h) B`. Rows
of zeros change nothing, so edits of different ranks have one shape. RED has no such form; it is
`s ⊙ h + t`, where ones and zeros change nothing. An edit of one attention head is an edit of all of
them that is zero elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reftune.config import ReftConfig
from reftune.interventions import INTERVENTIONS, Rotated
from reftune.orthonormal import orthonormal
from reftune.sites import Site

LINEAR, SCALED = "linear", "scaled"


@dataclass(frozen=True, eq=False)
class LowRank:
    """`h + (f(A h + b) − C h) B`; without `C` f is linear.

    Attributes:
        A, B, C: `(rank, width)`.
        b: `(rank,)`.
    """

    A: Tensor
    b: Tensor
    B: Tensor
    C: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scaling:
    """`s ⊙ h + t`.

    Attributes:
        s, t: `(width,)`.
    """

    s: Tensor
    t: Tensor


Lowered = LowRank | Scaling


def tensors_of(edit: Lowered) -> dict[str, Tensor]:
    """Return the tensors of an edit by name."""
    return {name: tensor for name, tensor in vars(edit).items() if tensor is not None}


def packed(edits: Mapping[Site, Sequence[Lowered]]) -> dict[Site, tuple[Lowered, ...]]:
    """Return the same edits in one piece of memory.

    A thousand adapters of many small tensors, made among larger ones that are gone, would keep
    twice the memory that they need.
    """
    every = [tensor for of in edits.values() for edit in of for tensor in tensors_of(edit).values()]
    places = iter(
        torch.cat([tensor.flatten() for tensor in every]).split([t.numel() for t in every])
    )

    def moved(edit: Lowered) -> Lowered:
        views = {name: next(places).view(t.shape) for name, t in tensors_of(edit).items()}
        return replace(edit, **views)

    return {site: tuple(moved(edit) for edit in of) for site, of in edits.items()}


def kind_of(config: ReftConfig) -> str:
    """Return what must be equal for edits to stack: how `u` is made into a change.

    Raises:
        ValueError: the edit is not one of reftune's own, or more than edits is trained.
    """
    if config.modules_to_save:
        raise ValueError(
            f"modules_to_save={config.modules_to_save}: expected none, because a server has one "
            "base model for all"
        )
    if config.intervention not in _FORMS:
        raise ValueError(
            f"intervention {config.intervention!r}: expected one of {', '.join(_FORMS)}"
        )
    return SCALED if config.intervention == "red" else config.act_fn or LINEAR


def lowered(config: ReftConfig, site: Site, tensors: Mapping[str, Tensor]) -> tuple[Lowered, ...]:
    """Return the edits of one site: one, or those of the first and of the last positions.

    Args:
        config: of the adapter.
        site: where it edits.
        tensors: the edit's parameters by name, as they are stored.

    Raises:
        ValueError: they are not the parameters of this edit, have other shapes, or are not finite.
    """
    given = {name: tensor.float() for name, tensor in tensors.items()}
    endless = [name for name, tensor in given.items() if not tensor.isfinite().all()]
    if endless:
        raise ValueError(f"{site.module}: {', '.join(endless)} are not finite: expected numbers")
    expected = _shapes(config, site)
    found = {name: tuple(tensor.shape) for name, tensor in given.items()}
    if found != expected:
        raise ValueError(f"{site.module} has tensors {found}: expected {expected}")
    if issubclass(INTERVENTIONS[config.intervention], Rotated):
        given["weight"] = orthonormal(given["weight"])
    parts = [given] if config.tied else [_part(given, place) for place in (0, 1)]
    return tuple(_whole(config, site, part) for part in parts)


def _shapes(config: ReftConfig, site: Site) -> dict[str, tuple[int, ...]]:
    stack = (() if config.tied else (2,)) + ((len(config.heads),) if config.heads else ())
    matrix, vector = (*stack, config.r, site.width), (*stack, config.r)
    names = _FORMS[config.intervention]
    shapes = {"matrix": matrix, "vector": vector, "width": (*stack, site.width)}
    return {name: shapes[shape] for name, shape in names.items()}


# The parameters of every edit, and their shapes.
_FORMS: dict[str, dict[str, str]] = {
    "loreft": {"weight": "matrix", "source": "matrix", "bias": "vector"},
    "noreft": {"weight": "matrix", "source": "matrix", "bias": "vector"},
    "direft": {"weight": "matrix", "source": "matrix", "bias": "vector"},
    "direft_orthonormal": {"weight": "matrix", "source": "matrix", "bias": "vector"},
    "consreft": {"weight": "matrix", "bias": "vector"},
    "lobireft": {"weight": "matrix", "bias": "vector"},
    "red": {"weight": "width", "bias": "width"},
    "steering_vector": {"weight": "width"},
}


def _part(given: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    return {name: tensor[place] for name, tensor in given.items()}


def _whole(config: ReftConfig, site: Site, given: Mapping[str, Tensor]) -> Lowered:
    """Lower an edit, of the chosen heads or of the whole width."""
    if not config.heads:
        return _form(config, given)
    width = site.width * site.heads
    edits = [_form(config, _part(given, place)) for place in range(len(config.heads))]
    places = [slice(head * site.width, (head + 1) * site.width) for head in config.heads]
    if isinstance(edits[0], Scaling):
        s, t = torch.ones(width), torch.zeros(width)
        for edit, place in zip(edits, places, strict=True):
            assert isinstance(edit, Scaling)
            s[place], t[place] = edit.s, edit.t
        return Scaling(s, t)
    return _joined([edit for edit in edits if isinstance(edit, LowRank)], places, width)


def _joined(edits: list[LowRank], places: list[slice], width: int) -> LowRank:
    """Put edits of parts of the width below each other."""

    def spread(name: str) -> Tensor:
        rows = []
        for edit, place in zip(edits, places, strict=True):
            matrix: Tensor = getattr(edit, name)
            wide = torch.zeros(len(matrix), width)
            wide[:, place] = matrix
            rows.append(wide)
        return torch.cat(rows)

    C = None if edits[0].C is None else spread("C")
    return LowRank(spread("A"), torch.cat([edit.b for edit in edits]), spread("B"), C)


def _form(config: ReftConfig, given: Mapping[str, Tensor]) -> Lowered:
    """Write an edit's formula, see `reftune.interventions`, in the common form."""
    name, R = config.intervention, given["weight"]
    if name == "red":
        return Scaling(R, given["bias"])
    if name == "steering_vector":
        return LowRank(torch.zeros_like(R)[None], torch.tensor([float(config.scale)]), R[None])
    b = given["bias"]
    if name == "consreft":
        return LowRank(-R, b, R)
    if name == "lobireft":
        return LowRank(torch.zeros_like(R), b, R)
    W, active = given["source"], config.act_fn is not None
    if name in ("loreft", "noreft"):
        return LowRank(W, b, R, R) if active else LowRank(W - R, b, R)
    return LowRank(W, b, R, torch.zeros_like(R) if active else None)
