"""Between pyreft's representations and the library's config: how each says where a model is edited.

pyvene hooks the whole attention or MLP where the library hooks its last projection, and names one
module per layer where a config names a component and the layers.
"""

import re
from collections.abc import Iterable

from torch import nn

from reftune.anatomy import Anatomy, join
from reftune.architectures import ARCHITECTURES, Side
from reftune.pyreft.checkpoints.reading import SavedEdit
from reftune.pyreft.config import RepresentationConfig
from reftune.pyreft.sites import ACTIVATIONS, find_site

# Model types whose attention and MLP give what their last projection gives.
PLAIN = {
    *("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3", "phi3", "olmo", "olmo2"),
    *("gpt2", "gpt_neox"),
}
# Where the layers are in the models whose component names pyvene knows.
PYVENE_LAYERS = ("model.layers", "transformer.h", "gpt_neox.layers", "layers", "h")
_PYVENE_NAMES: dict[tuple[str, str], str] = {
    ("", "output"): "block_output",
    ("", "input"): "block_input",
    **{(name, "output"): "attention_output" for name in ("self_attn", "attn", "attention")},
    **{(name, "input"): "attention_input" for name in ("self_attn", "attn", "attention")},
    ("self_attn.o_proj", "output"): "attention_output",
    ("self_attn.o_proj", "input"): "attention_value_output",
    ("attn.c_proj", "output"): "attention_output",
    ("attn.c_proj", "input"): "attention_value_output",
    ("attention.dense", "output"): "attention_output",
    ("attention.dense", "input"): "attention_value_output",
    ("mlp", "output"): "mlp_output",
    ("mlp", "input"): "mlp_input",
    ("mlp.down_proj", "output"): "mlp_output",
    ("mlp.c_proj", "output"): "mlp_output",
    ("mlp.dense_4h_to_h", "output"): "mlp_output",
    ("mlp.act_fn", "output"): "mlp_activation",
    ("mlp.act", "output"): "mlp_activation",
    ("self_attn.q_proj", "output"): "query_output",
    ("self_attn.k_proj", "output"): "key_output",
    ("self_attn.v_proj", "output"): "value_output",
}
_WRAPPED = "base_model.model."  # in front of a path in a model that PEFT has wrapped


def place_of(model: nn.Module, edit: SavedEdit) -> tuple[int | None, str, int | None]:
    """Return where an edit is, in the library's words.

    Args:
        model: the base model; its weights are not read.
        edit: of a checkpoint.

    Returns:
        The index of the layer and the component, as `ReftConfig` takes them; the layer is `None` if
        the component is one module of the whole model. And the width of what is edited, `None` if
        the model does not tell it.

    Raises:
        ValueError: the model has no such layer, component or module.
    """
    anatomy = Anatomy(model)
    component = edit.component
    if "." in component and component.startswith(_WRAPPED):
        component = component.removeprefix(_WRAPPED)
    prefix = anatomy.base_path
    if "." in component and prefix and not component.startswith(f"{prefix}."):
        component = f"{prefix}.{component}"  # saved with the bare model, without its head
    site = find_site(model, RepresentationConfig(edit.layer or 0, component, edit.unit))
    path = next((name for name, module in model.named_modules() if module is site.owner), "")
    if not path:
        raise ValueError(f"component {component!r} is no module within {anatomy.name}")
    inner = path.rpartition(".")[2] in ACTIVATIONS and "." in component
    index, name = _named(anatomy, path, site.side)
    return index, name, None if inner else site.width


def _named(anatomy: Anatomy, path: str, side: Side) -> tuple[int | None, str]:
    """Return the layer of a module and the component that it is within it."""
    model_type = getattr(anatomy.config, "model_type", "")
    for name in ARCHITECTURES.get(model_type, {"": None}):
        stack = anatomy.stack(name)
        layers = join(anatomy.base_path, stack.layers)
        if not path.startswith(f"{layers}."):
            continue
        index, _, part = path.removeprefix(f"{layers}.").partition(".")
        whole = model_type in PLAIN and side == "output"
        if not part:
            component = f"block_{side}"
        elif part == stack.attention or (whole and part == stack.attention.rpartition(".")[0]):
            component = "attention_output" if side == "output" else "attention_value_output"
        elif part == stack.mlp or (whole and part == stack.mlp.rpartition(".")[0]):
            component = "mlp_output" if side == "output" else "mlp_activation"
        else:
            component = part if side == "output" else f"{part}.input"
        return int(index), join(name, component)
    return None, path if side == "output" else f"{path}.input"


def representation_of(path: str, side: Side) -> tuple[int, str]:
    """Return layer and component of a module, as pyreft takes them.

    Args:
        path: of the module, from the model, such as `"model.layers.8"`.
        side: what goes into it, or what comes out.

    Returns:
        The index of the layer and a name of pyvene's; or 0 and a path such as
        `"roberta.encoder.layer[3].output"`, where it has none.
    """
    match = re.fullmatch(r"(?P<layers>.*?)\.(?P<index>\d+)(?:\.(?P<part>.+))?", path)
    index = int(match["index"]) if match else 0
    if match and match["layers"] in PYVENE_LAYERS:
        name = _PYVENE_NAMES.get((match["part"] or "", side))
        if name:
            return index, name
    return index, re.sub(r"\.(\d+)", r"[\1]", path) + f".{side}"


def layers_within(edits: Iterable[SavedEdit]) -> list[int]:
    """Return the indices of the layers that edits name, also those within a path."""
    found = []
    for edit in edits:
        if "." in edit.component:
            found += [int(index) for index in re.findall(r"\[(-?\d{1,9})\]", edit.component)]
        else:
            found.append(edit.layer or 0)
    return found
