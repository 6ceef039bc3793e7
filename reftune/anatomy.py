"""What a model is made of: its stacks of layers, and the modules that own its components."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from reftune.architectures import ARCHITECTURES, COMPONENTS, LayerStack, Side
from reftune.config import ReftConfig


class Anatomy:
    """What a model is made of, as far as sites need it.

    Args:
        model: any module; its outermost transformers model is the one that counts.

    Attributes:
        path: path of that transformers model in `model`.
        root: it, or `model` itself if there is none.
        config: its configuration, or `None`.
    """

    def __init__(self, model: nn.Module):
        found = ((path, m) for path, m in model.named_modules() if isinstance(m, PreTrainedModel))
        self.path, self.root = next(found, ("", model))
        self.config: Any = self.root.config if isinstance(self.root, PreTrainedModel) else None
        self.text_config: Any = self.config.get_text_config() if self.config else None

    @property
    def name(self) -> str:
        return type(self.root).__name__

    @property
    def is_pair(self) -> bool:
        """Whether it has an encoder and a decoder."""
        return self.config is not None and bool(self.config.is_encoder_decoder)

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """The hidden size and the number of layers, `None` if it does not state them."""
        return (
            getattr(self.text_config, "hidden_size", None),
            getattr(self.text_config, "num_hidden_layers", None),
        )

    @property
    def base_path(self) -> str:
        prefix = getattr(self.root, "base_model_prefix", "")
        return prefix if prefix and self.has(prefix) else ""

    def has(self, path: str) -> bool:
        """Say whether a path leads to a module."""
        try:
            self.root.get_submodule(path)
        except AttributeError:
            return False
        return True

    def split(self, component: str) -> tuple[str, str]:
        """Split `"encoder.block_output"` into the name of its stack and the component.

        Raises:
            ValueError: there are two stacks, and the component does not say which.
        """
        name, _, rest = component.partition(".")
        if name in ("encoder", "decoder") and rest in COMPONENTS:
            return name, rest
        if self.is_pair and name in ("encoder", "decoder") and self._named(component) is None:
            return name, rest
        if self.is_pair and component in COMPONENTS:
            raise ValueError(
                f"component {component!r}: {self.name} has an encoder and a decoder; "
                f'expected "encoder.{component}" or "decoder.{component}"'
            )
        return "", component

    def stack(self, name: str) -> LayerStack:
        """Return a row of the table; for a type without one, a list as long as it has layers.

        Raises:
            ValueError: the layers are not known.
        """
        stacks = ARCHITECTURES.get(getattr(self.config, "model_type", ""))
        if stacks is None:
            path = self._list_of_layers()
            stacks = {} if path is None else {"": LayerStack(path)}
        if name not in stacks or not self.has(join(self.base_path, stacks[name].layers)):
            raise ValueError(
                f"{self.name} has no {name or 'stack of'} layers that are known: expected a "
                "component given as a dotted module path, or a row for its model type in "
                "reftune.architectures.ARCHITECTURES"
            )
        return stacks[name]

    def _list_of_layers(self) -> str | None:
        """Return the path of the list of modules that has as many as there are layers, if one."""
        base = self.root.get_submodule(self.base_path)
        lists = [
            path
            for path, module in base.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == self.shape[1]
        ]
        return lists[0] if len(lists) == 1 else None

    def layer_indices(self, config: ReftConfig) -> list[int] | None:
        """Return what `config.layers` means, without negative indices.

        `None` if the config selects a module by its full path instead.

        Raises:
            ValueError: an index is out of range or named twice, or the layers are not known.
        """
        name, component = self.split(config.component)
        if component not in COMPONENTS and self._named(component) is not None:
            if config.layers != "all":
                raise ValueError(
                    f"layers={config.layers!r}: expected none, as component {component!r} is one "
                    "module of the whole model"
                )
            return None
        layers = self.root.get_submodule(join(self.base_path, self.stack(name).layers))
        count = len(list(layers.children()))
        if isinstance(config.layers, str):
            return list(range(count))
        indices = []
        for index in config.layer_list:
            if not -count <= index < count:
                raise ValueError(
                    f"layer {index} of {count}: expected an index from {-count} to {count - 1}"
                )
            indices.append(index % count)
        if len(set(indices)) < len(indices):
            raise ValueError(f"layers={config.layers!r}: expected each layer at most once")
        return indices

    def modules(self, config: ReftConfig) -> list[tuple[str, Side]]:
        """Return the paths, from `root`, of the modules that own the selected sites.

        Raises:
            ValueError: there is no such component or module.
        """
        name, component = self.split(config.component)
        indices = self.layer_indices(config)
        if indices is None:
            return [self._named(component) or ("", "output")]
        stack = self.stack(name)
        layers = [join(self.base_path, stack.layers, str(index)) for index in indices]
        if component in COMPONENTS:
            part, side = self._part(stack, component)
            return [(join(layer, part), side) for layer in layers]
        found = [self._named(join(layer, component)) for layer in layers]
        if None in found:
            raise ValueError(
                f"component {component!r}: expected one of {', '.join(COMPONENTS)}, or a module "
                f"path from {self.name} or within its layers"
            )
        return [owner for owner in found if owner is not None]

    def _part(self, stack: LayerStack, component: str) -> tuple[str, Side]:
        """Return the path of a component's owner within a layer; empty for the layer itself."""
        fields, side = COMPONENTS[component]
        part = next(filter(None, (getattr(stack, field) for field in fields)), "")
        if fields and not part:
            raise ValueError(
                f"component {component!r}: {self.name} has none that is known; expected "
                "block_output, block_input or a dotted module path"
            )
        return part, side

    def _named(self, path: str) -> tuple[str, Side] | None:
        """Return the module and side of a path that may end in `.input` or `.output`."""
        if self.has(path):  # first, because BERT has modules that are called "output"
            return path, "output"
        owner, _, last = path.rpartition(".")
        if owner and self.has(owner):
            if last == "input":
                return owner, "input"
            if last == "output":
                return owner, "output"
        return None

    def width(self, path: str, side: Side) -> int | None:
        """Return the width of what goes into or comes out of a module, if it can be told."""
        module = self.root.get_submodule(path)
        if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            raise ValueError(f"module {path!r} is a container: expected a module inside it")
        if isinstance(module, Conv1D):
            return module.nx if side == "input" else module.nf
        # Quantized linears are no nn.Linear, but have its two attributes.
        width = getattr(module, "in_features" if side == "input" else "out_features", None)
        return width or self.shape[0]

    def head_width(self, path: str, width: int) -> int:
        """Return the width of a head in what a projection takes or gives, `width` in all."""
        attention = self.root.get_submodule(path.rpartition(".")[0])
        for name in ("v_head_dim", "head_dim", "key_value_proj_dim"):
            size = getattr(attention, name, None)
            if isinstance(size, int) and width % size == 0:
                return size
        own = getattr(self.text_config, "head_dim", None) or getattr(self.text_config, "d_kv", None)
        return own or self.text_config.hidden_size // self.text_config.num_attention_heads


def join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
