"""Where a transformers model keeps its layers and their components, and how wide they are.

A site is one tensor of the forward pass: what comes out of a module or what goes into it. The
table `reftune.architectures.ARCHITECTURES` names, for every stack of layers of a model type, two
projections from which all components follow. A model type that is not in it still has
`block_output` and `block_input` (its layers are found by their number) and every module by dotted
path.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from reftune.architectures import ARCHITECTURES, LayerStack
from reftune.config import ReftConfig


@dataclass(frozen=True)
class Site:
    """One edited tensor.

    Args:
        module: path, from the root, of the module that it comes out of or goes into.
        side: which of the two.
        width: size of one edit: of the tensor's last dimension, or of one head.
        heads: number of heads in the tensor if only some are edited, otherwise 0.
    """

    module: str
    side: Literal["input", "output"]
    width: int
    heads: int = 0


COMPONENTS = (
    "block_output",
    "block_input",
    "attention_output",
    "attention_value_output",
    "mlp_output",
    "mlp_activation",
)


BLOCK_COMPONENTS = ("block_output", "block_input")


def transformers_root(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the path of the outermost transformers model in `model`, and it; or `model` itself."""
    for path, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            return path, module
    return "", model


def find_sites(model: nn.Module, config: ReftConfig) -> list[Site]:
    """Return the sites that a config selects in a model, in the order of the layers.

    Raises:
        ValueError: the model has no such layer, component, head or module.
    """
    root_path, root = transformers_root(model)
    stack_name, component = _split_stack(root, config.component)
    if component in COMPONENTS:
        stack = _layer_stack(root, stack_name)
        name, side = _module_of(root, stack, component)
        found = [(_join(layer, name), side) for layer in _layer_paths(root, stack, config)]
    else:
        found = _dotted(root, component, config)
    sites = []
    for path, side in found:
        width, heads = _shape(root, path, side, config)
        sites.append(Site(_join(root_path, path), side, width, heads))
    return sites


def model_shape(model: nn.Module) -> tuple[int | None, int | None]:
    """Return the hidden size and the number of layers that a transformers model states, if any."""
    _, root = transformers_root(model)
    if not isinstance(root, PreTrainedModel):
        return None, None
    config = root.config.get_text_config()
    return config.hidden_size, config.num_hidden_layers


def layer_indices(model: nn.Module, config: ReftConfig) -> list[int]:
    """Return what `config.layers` means in this model, without negative indices.

    Raises:
        ValueError: an index is out of range or named twice, or the layers are not known.
    """
    _, root = transformers_root(model)
    stack = _layer_stack(root, _split_stack(root, config.component)[0])
    count = len(list(_submodule(root, _join(_base_path(root), stack.layers)).children()))
    if config.layers == "all":
        return list(range(count))
    for index in config.layers:
        if not -count <= index < count:
            raise ValueError(
                f"layer {index} of {count}: expected an index from {-count} to {count - 1}"
            )
    indices = [index % count for index in config.layers]
    if len(set(indices)) < len(indices):
        raise ValueError(f"layers={config.layers!r}: expected each layer at most once")
    return indices


def is_within_layers(model: nn.Module, config: ReftConfig) -> bool:
    """Say whether a config selects by `layers`, not by the full path of one module."""
    _, root = transformers_root(model)
    _, component = _split_stack(root, config.component)
    return component in COMPONENTS or not _has_submodule(root, _side_of(component)[0])


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _has_submodule(root: nn.Module, path: str) -> bool:
    try:
        root.get_submodule(path)
    except AttributeError:
        return False
    return True


def _submodule(root: nn.Module, path: str) -> nn.Module:
    if not _has_submodule(root, path):
        raise ValueError(f"{type(root).__name__} has no module {path!r}")
    return root.get_submodule(path)


def _base_path(root: nn.Module) -> str:
    prefix = getattr(root, "base_model_prefix", "")
    return prefix if prefix and _has_submodule(root, prefix) else ""


def _split_stack(root: nn.Module, component: str) -> tuple[str, str]:
    """Split `"encoder.block_output"` into the name of its stack and the component."""
    name, _, rest = component.partition(".")
    is_pair = getattr(getattr(root, "config", None), "is_encoder_decoder", False)
    if name in ("encoder", "decoder") and rest in COMPONENTS:
        return name, rest
    if is_pair and component in COMPONENTS:
        raise ValueError(
            f"component {component!r}: {type(root).__name__} has an encoder and a decoder; "
            f'expected "encoder.{component}" or "decoder.{component}"'
        )
    if is_pair and name in ("encoder", "decoder"):
        return name, component
    return "", component


def _layer_stack(root: nn.Module, name: str) -> LayerStack:
    """Return the row of the table; for a type that is not in it, a list as long as it has layers."""
    config = getattr(root, "config", None)
    model_type = getattr(config, "model_type", None)
    if model_type in ARCHITECTURES:
        stacks = ARCHITECTURES[model_type]
        if name not in stacks:
            raise ValueError(f"{type(root).__name__} has no {name}: its layers are one stack")
        return stacks[name]
    count = config.get_text_config().num_hidden_layers if isinstance(root, PreTrainedModel) else 0
    base = root.get_submodule(_base_path(root))
    lists = [
        path
        for path, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if len(lists) != 1 or name:
        raise ValueError(
            f"the layers of {type(root).__name__} are not known: expected a component given as a "
            "dotted module path, or a row for its model type in reftune.sites.ARCHITECTURES"
        )
    return LayerStack(lists[0], attention="")


def _layer_paths(root: nn.Module, stack: LayerStack, config: ReftConfig) -> list[str]:
    layers = _join(_base_path(root), stack.layers)
    return [f"{layers}.{index}" for index in layer_indices(root, config)]


def _module_of(
    root: nn.Module, stack: LayerStack, component: str
) -> tuple[str, Literal["input", "output"]]:
    """Return the module of a layer that owns a component ("" for the layer), and the side."""
    side = "input" if component in ("block_input", "attention_value_output", "mlp_activation") else "output"
    name = ""
    if component.startswith("attention"):
        name = stack.attention
    elif component == "mlp_output":
        name = stack.mlp or stack.mlp_block
    elif component == "mlp_activation":
        name = stack.mlp
    if not name and component not in BLOCK_COMPONENTS:
        raise ValueError(
            f"component {component!r}: {type(root).__name__} has none that is known; expected "
            "block_output, block_input or a dotted module path"
        )
    return name, side


def _side_of(component: str) -> tuple[str, Literal["input", "output"]]:
    path, _, last = component.rpartition(".")
    if path and last in ("input", "output"):
        return path, last  # type: ignore[return-value]
    return component, "output"


def _dotted(
    root: nn.Module, component: str, config: ReftConfig
) -> list[tuple[str, Literal["input", "output"]]]:
    path, side = _side_of(component)
    if _has_submodule(root, component):  # a module may itself be called "output", as BERT's is
        return [(component, "output")]
    if _has_submodule(root, path):
        return [(path, side)]
    stack = _layer_stack(root, _split_stack(root, config.component)[0])
    found = []
    for layer in _layer_paths(root, stack, config):
        whole = _join(layer, component)
        found.append((whole, "output") if _has_submodule(root, whole) else (_join(layer, path), side))
        if not _has_submodule(root, found[-1][0]):
            raise ValueError(
                f"component {component!r}: expected one of {', '.join(COMPONENTS)}, or a module "
                f"path from {type(root).__name__} or within its layers"
            )
    return found


def _shape(root: nn.Module, path: str, side: str, config: ReftConfig) -> tuple[int, int]:
    """Return the width of an edit at a site, and how many heads the site has if they are chosen."""
    module = root.get_submodule(path)
    if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential):
        raise ValueError(f"module {path!r} is a container: expected a module inside it")
    width = config.width or _linear_width(module, side) or model_shape(root)[0]
    if width is None:
        raise ValueError(f"module {path!r} does not tell its width: expected ReftConfig(width=...)")
    if config.heads is None:
        return width, 0
    base = root.config.get_text_config()
    head_dim = getattr(base, "head_dim", None) or getattr(base, "d_kv", None)
    head_dim = head_dim or base.hidden_size // base.num_attention_heads
    if width % head_dim:
        raise ValueError(f"heads={config.heads}: width {width} of {path!r} is no multiple of {head_dim}")
    for head in config.heads:
        if not 0 <= head < width // head_dim:
            raise ValueError(f"head {head} of {width // head_dim} at {path!r}: out of range")
    return head_dim, width // head_dim


def _linear_width(module: nn.Module, side: str) -> int | None:
    if isinstance(module, Conv1D):
        return module.nx if side == "input" else module.nf
    # Quantized linears are no nn.Linear, but have its two attributes.
    return getattr(module, "in_features" if side == "input" else "out_features", None)
