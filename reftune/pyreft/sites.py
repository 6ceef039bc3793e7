"""Where a representation of pyreft lies in a model: pyvene's components as modules.

The names that the library has too mean the same tensors, but pyvene hooks the whole attention or
MLP where the library hooks its last projection, and its `mlp_activation` is what the activation
gives, before a gate (pyvene 0.1.8, `pyvene/models/llama/modelings_intervenable_llama.py`).
"""

import re
from typing import Any, NamedTuple

from torch import nn

from reftune.anatomy import Anatomy, join
from reftune.architectures import LayerStack, Side
from reftune.config import ReftConfig
from reftune.pyreft.config import RepresentationConfig

BLOCK: dict[str, Side] = {"block_input": "input", "block_output": "output"}
# Name -> the part of a layer, and the side.
PARTS: dict[str, tuple[str, Side]] = {
    "attention_input": ("attention", "input"),
    "attention_output": ("attention", "output"),
    "attention_value_output": ("projection", "input"),
    "mlp_input": ("mlp", "input"),
    "mlp_output": ("mlp", "output"),
    "mlp_activation": ("activation", "output"),
    "query_output": ("q_proj", "output"),
    "key_output": ("k_proj", "output"),
    "value_output": ("v_proj", "output"),
}
# What scripts enter for models that pyvene does not know: by class and component, a path with a
# place for the layer, and pyvene's name of the hook.
OWN_COMPONENTS: dict[type, dict[str, tuple]] = {}
INPUT_HOOK = "register_forward_pre_hook"
LAST_PROJECTIONS = ("c_proj", "dense", "down_proj", "fc2", "o_proj", "out_proj", "wo")
THIRDS = ("q_proj", "k_proj", "v_proj")
ACTIVATIONS = ("act_fn", "act", "activation_fn", "activation", "intermediate_act_fn")


class Site(NamedTuple):
    """An edited tensor.

    Args:
        owner: the module that it comes out of or goes into.
        side: which of the two.
        width: of the edited states, `None` if it is not known.
        third: which third of the last dimension they are, `None` for all of it.
        shared: whether modules beside the owner are given the same tensor; they see it edited, as
            with pyvene, which edits in place.
    """

    owner: nn.Module
    side: Side
    width: int | None
    third: int | None = None
    shared: bool = False


def find_site(model: nn.Module, representation: RepresentationConfig) -> Site:
    """Return where a representation lies.

    Raises:
        ValueError: the model has no such layer, component or module, or the unit is not `"pos"`.
    """
    component = representation.component
    if representation.unit != "pos":
        raise ValueError(f"unit {representation.unit!r} of component {component!r}: expected 'pos'")
    if "." in component:
        return _by_path(model, component)
    if component in OWN_COMPONENTS.get(type(model), {}):
        path, hook, *_ = OWN_COMPONENTS[type(model)][component]
        path = path % representation.layer if "%s" in path else path
        return _by_path(model, f"{path}.{'input' if hook == INPUT_HOOK else 'output'}")
    anatomy = Anatomy(model)
    index: Any = representation.layer
    if not isinstance(index, int):
        raise ValueError(f"layer {index!r} of component {component!r}: expected an index")
    [(layer, _)] = anatomy.modules(ReftConfig(layers=[index], component="block_output"))
    if component in BLOCK:
        return Site(anatomy.root.get_submodule(layer), BLOCK[component], anatomy.shape[0])
    if component not in PARTS:
        raise ValueError(
            f"component {component!r}: expected one of {', '.join([*BLOCK, *PARTS])}, or a "
            "dotted path such as 'model.layers[8].output'"
        )
    part, side = PARTS[component]
    fused = join(layer, anatomy.stack("").attention.rpartition(".")[0], "c_attn")
    if part in THIRDS and anatomy.has(fused):  # GPT-2 has queries, keys and values in one
        owner = anatomy.root.get_submodule(fused)
        return Site(owner, side, anatomy.shape[0], THIRDS.index(part))
    path = join(layer, _part(anatomy, layer, anatomy.stack(""), part))
    if path == layer:
        raise ValueError(
            f"component {component!r}: {anatomy.name} has none that is known; expected a dotted "
            "path such as 'model.layers[8].mlp.output'"
        )
    inner = part == "activation"
    measured = (join(layer, anatomy.stack("").mlp), "input") if inner else (path, side)
    shared = component in ("attention_input", "mlp_input")
    owner = anatomy.root.get_submodule(path)
    return Site(owner, side, anatomy.width(*measured), shared=shared)


def _part(anatomy: Anatomy, layer: str, stack: LayerStack, part: str) -> str:
    """Return the path of a part of a layer, from the layer; empty if it has none."""
    attention = stack.attention.rpartition(".")[0]
    mlp = stack.mlp_block or stack.mlp.rpartition(".")[0] or stack.mlp
    if part == "attention":
        return attention
    if part == "projection":
        return stack.attention
    if part == "mlp":
        return mlp
    inside = [join(mlp, name) for name in ACTIVATIONS]
    names = inside if part == "activation" and stack.mlp else [join(attention, part)]
    return next((name for name in names if anatomy.has(join(layer, name))), "")


def _by_path(model: nn.Module, component: str) -> Site:
    """Return the site of a path such as `model.layers[8].output`, from the model itself."""
    path, _, last = component.rpartition(".")
    if last not in ("input", "output"):
        raise ValueError(f"component {component!r}: expected a path that ends in .output or .input")
    owner: Any = model
    for name in re.findall(r"[^.\[\]]+", path):
        try:
            owner = owner[int(name)] if re.fullmatch(r"-?\d+", name) else getattr(owner, name)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ValueError(
                f"component {component!r}: {type(model).__name__} has no {name!r} there; expected "
                "a path of its modules such as 'model.layers[8].output'"
            ) from None
    if not isinstance(owner, nn.Module):
        raise ValueError(f"component {component!r} is no module, but {type(owner).__name__}")
    side: Side = "input" if last == "input" else "output"
    linear = getattr(owner, "in_features" if side == "input" else "out_features", None)
    last = re.findall(r"[^.\[\]]+", path)[-1]
    # What goes into a whole layer or a last projection goes nowhere else.
    shared = side == "input" and not last.isdigit() and last not in LAST_PROJECTIONS
    return Site(owner, side, linear or Anatomy(model).shape[0], shared=shared)
