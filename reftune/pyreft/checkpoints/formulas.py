"""What the states of pyreft's six interventions hold: the matrices of their formulas."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reftune.pyreft.checkpoints.pickles import FLOATS
from reftune.pyreft.checkpoints.torch_chart import chart, columns

ORIGINAL = "rotate_layer.parametrizations.weight.original"
BASE = "rotate_layer.parametrizations.weight.0.base"
_CHART = {ORIGINAL, BASE}
_LINEAR = {"learned_source.weight", "learned_source.bias"}
_OWN = {"weight", "bias", "rotate_layer"}
# Class -> the key sets that pyreft 0.1.0 and earlier versions saved for it.
KEYS: dict[str, tuple[set[str], ...]] = {
    "LoreftIntervention": (_OWN, _CHART | _LINEAR),
    "NoreftIntervention": ({"proj_layer.weight"} | _LINEAR,),
    "NodireftIntervention": ({"proj_layer.weight"} | _LINEAR,),
    "DireftIntervention": (_CHART | _LINEAR,),
    "ConsreftIntervention": (_CHART | {"learned_source"},),
    "LobireftIntervention": (_CHART | {"learned_source"},),
}
# Two lists of keys say nothing of the class: LoReFT's own is taken before the other one.
_GUESSES = {name: keys[0] for name, keys in KEYS.items()}
BUFFERS = {"embed_dim", "interchange_dim"}
OPTIONAL = {"proj_layer.bias"}
# How far RᵀR may be from I, by the dtype in which R was kept.
TOLERANCE = {
    torch.float64: 1e-3,
    torch.float32: 1e-3,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}


@dataclass(frozen=True)
class Matrices:
    """The matrices of one edit, float32 (float64 where the file has it).

    Args:
        weight: `(r, d)`: R with orthonormal rows, or W2.
        source: `(r, d)`: W or W1; `None` where the formula has none.
        bias: `(r,)`: b.
        projection_bias: `(r,)`: the bias of `W2 h`, which pyreft's `add_bias` gives; else `None`.
        dtype: of the file, such as `"bfloat16"`: that of the source, or of R where there is none.
    """

    weight: Tensor
    source: Tensor | None
    bias: Tensor
    projection_bias: Tensor | None
    dtype: str


def classes_of(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the classes whose state has these keys: none, one or two."""
    keys = set(state) - BUFFERS
    return [name for name, known in _GUESSES.items() if known <= keys <= known | _extra(name)]


def is_state_of(name: str, state: Mapping[str, Tensor]) -> bool:
    """Say whether a state has the keys of a class of pyreft."""
    keys = set(state) - BUFFERS
    return any(known <= keys <= known | _extra(name) for known in KEYS.get(name, ()))


def matrices(name: str, state: Mapping[str, Tensor], where: str) -> Matrices:
    """Read the state of one of the six classes.

    Args:
        name: the class, a key of `KEYS`.
        state: its state dict, as pyreft saved it.
        where: what errors call the state, such as its file.

    Raises:
        ValueError: it has other keys than those of the class, shapes that do not fit each other,
            another dtype than floats, or an R whose columns are not orthonormal.
    """
    if not is_state_of(name, state):
        expected = " or ".join(str(sorted(known)) for known in KEYS[name])
        raise ValueError(f"{where} holds {sorted(state)}: expected a state of {name}, {expected}")
    for key, tensor in state.items():
        if key not in BUFFERS and tensor.dtype not in FLOATS:
            raise ValueError(f"{where}: {key!r} is of {tensor.dtype}; expected floats")
    wide = {
        key: tensor if tensor.dtype == torch.float64 else tensor.float()
        for key, tensor in state.items()
        if key not in BUFFERS
    }
    if "proj_layer.weight" in wide:
        weight = wide["proj_layer.weight"]
    else:
        weight = _rotation(state, wide, where).mT.contiguous()
    source = wide.get("weight", wide.get("learned_source.weight"))
    found = wide["bias"] if "bias" in wide else wide.get("learned_source.bias")
    bias = wide["learned_source"] if found is None else found
    projection_bias = wide.get("proj_layer.bias")
    _check_shapes(state, where, weight, source, bias, projection_bias)
    kept = next(
        state[key]
        for key in ("weight", "learned_source.weight", "rotate_layer", ORIGINAL)
        if key in state
    )
    return Matrices(weight, source, bias, projection_bias, str(kept.dtype).removeprefix("torch."))


def state_of(name: str, read: Matrices) -> dict[str, Tensor]:
    """Return the state that pyreft's class loads: the inverse of `matrices`.

    Args:
        name: the class, a key of `KEYS`.
        read: its matrices, without a `projection_bias`; R has orthonormal rows.
    """
    if name == "LoreftIntervention":
        assert read.source is not None
        rotation = read.weight.mT.contiguous()
        return {"weight": read.source, "bias": read.bias, "rotate_layer": rotation}
    width = torch.tensor(read.weight.shape[1])
    state = {"embed_dim": width, "interchange_dim": width.clone()}
    if _CHART <= KEYS[name][0]:
        state[ORIGINAL], state[BASE] = chart(read.weight.mT)
    else:
        state["proj_layer.weight"] = read.weight
    if read.source is None:
        return state | {"learned_source": read.bias}
    return state | {"learned_source.weight": read.source, "learned_source.bias": read.bias}


def _extra(name: str) -> set[str]:
    return OPTIONAL if any("proj_layer.weight" in known for known in KEYS[name]) else set()


def _rotation(state: Mapping[str, Tensor], wide: Mapping[str, Tensor], where: str) -> Tensor:
    """Return R's columns `(d, r)`, and refuse those that are not orthonormal."""
    kept = state["rotate_layer"] if "rotate_layer" in state else state[BASE]
    if "rotate_layer" in wide:
        rotation = wide["rotate_layer"]
    else:
        try:
            rotation = columns(wide[ORIGINAL], wide[BASE].to(wide[ORIGINAL].dtype))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if rotation.dim() != 2 or not 0 < rotation.shape[1] <= rotation.shape[0]:
        raise ValueError(
            f"{where}: the rotation is of shape {tuple(rotation.shape)}; expected (d, r), width "
            "by rank, the rank from 1 to the width"
        )
    error = orthonormality_error(rotation)
    if not error <= TOLERANCE[kept.dtype]:
        raise ValueError(
            f"{where}: the columns of the rotation are not orthonormal (RᵀR is off by "
            f"{error:.2g}); expected at most {TOLERANCE[kept.dtype]:g}"
        )
    return rotation


def orthonormality_error(rotation: Tensor) -> float:
    """Return the largest entry of `RᵀR − I`, for columns `(d, r)`."""
    identity = torch.eye(rotation.shape[1], dtype=rotation.dtype)
    return float((rotation.mT @ rotation - identity).abs().max())


def _check_shapes(
    state: Mapping[str, Tensor],
    where: str,
    weight: Tensor,
    source: Tensor | None,
    bias: Tensor,
    projection_bias: Tensor | None,
) -> None:
    """Hold the shapes of one state against each other."""
    shapes = {key: tuple(t.shape) for key, t in state.items() if key not in BUFFERS}
    rank, width = weight.shape if weight.dim() == 2 else (0, 0)
    fits = (
        0 < rank <= width
        and (source is None or source.shape == weight.shape)
        and bias.shape == (rank,)
        and (projection_bias is None or projection_bias.shape == (rank,))
    )
    if not fits:
        raise ValueError(
            f"{where} has the shapes {shapes}, which do not fit each other: expected a rank from 1 "
            "to the width, and the same ones throughout"
        )
    size = state.get("embed_dim")
    if size is not None and (size.numel() != 1 or float(size) != width):
        found = size.tolist() if size.numel() < 9 else tuple(size.shape)
        raise ValueError(f"{where}: 'embed_dim' is {found}; expected the width, {width}")
