"""The edits of a checkpoint as those of one adapter: its config, and its tensors."""

import torch
from peft import get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedModel

from reftune.architectures import COMPONENTS
from reftune.attached import layers_of
from reftune.config import ReftConfig
from reftune.positions import Positions
from reftune.pyreft.checkpoints.saved import Checkpoint, SavedEdit
from reftune.pyreft.conversion.places import place_of
from reftune.pyreft.conversion.unstored import Unstored
from reftune.sites import find_sites

# pyreft's class -> the library's name. The paper's DiReFT is pyreft's *Nodi*reft.
NAMES = {
    "LoreftIntervention": "loreft",
    "NoreftIntervention": "noreft",
    "NodireftIntervention": "direft",
    "DireftIntervention": "direft_orthonormal",
    "ConsreftIntervention": "consreft",
    "LobireftIntervention": "lobireft",
}
# An edit's place: the layer, the component, and the width if it must be said.
Place = tuple[int | None, str, int | None]
Placed = dict[Place, list[SavedEdit]]


def placed_edits(model: PreTrainedModel, checkpoint: Checkpoint, base: str | None) -> Placed:
    """Return the edits by layer, component and the width to be said, in the order of the layers.

    Raises:
        ValueError: the model has no such place, or hidden states of another width there.
    """
    placed: Placed = {}
    for edit in checkpoint.edits:
        try:
            layer, component, width = place_of(model, edit)
        except ValueError as error:
            hint = "" if base else "; without --base-model one like Llama was assumed"
            raise ValueError(f'"{edit.file}": {error}{hint}') from None
        if width not in (None, edit.width):
            raise ValueError(
                f'"{edit.file}" edits hidden states of width {edit.width}: got {base}, in which '
                f"the {component} has width {width}"
            )
        named = component.rpartition(".")[2] in COMPONENTS
        place = layer, component, None if named and width else edit.width
        placed.setdefault(place, []).append(edit)
    return dict(sorted(placed.items(), key=lambda item: item[0][0] or 0))


def config_of(first: SavedEdit, placed: Placed, unstored: Unstored) -> ReftConfig:
    """Return the config of edits at their places.

    Raises:
        ValueError: one config cannot say it, or it contradicts what was given.
    """
    components = sorted({component for _, component, _ in placed})
    layers = [layer for layer, _, _ in placed]
    if len(components) > 1 or (None in layers and len(layers) > 1):
        raise ValueError(
            f"the edits are at {', '.join(components)}: expected one component, the same in all "
            "edited layers"
        )
    assert first.weight is not None
    return ReftConfig(
        layers=[layer for layer in layers if layer is not None] or "all",
        component=components[0],
        intervention=NAMES[first.intervention],
        r=first.rank,
        positions=unstored.positions,
        tied=_tied(placed, unstored),
        dropout=unstored.dropout or 0.0,
        dropout_on="state" if unstored.dropout else "edit",  # as in pyreft
        act_fn=unstored.act_fn,
        width=next(width for _, _, width in placed),
        dtype=str(first.weight.dtype).removeprefix("torch."),
    )


def _tied(placed: Placed, unstored: Unstored) -> bool:
    """Say whether first and last positions share an edit: whether each place has one or two.

    Raises:
        ValueError: neither, or what was given says the contrary.
    """
    counts = {len(edits) for edits in placed.values()}
    listed = ", ".join(f"{len(edits)} at layer {layer}" for (layer, *_), edits in placed.items())
    if counts not in ({1}, {2}):
        raise ValueError(f"the checkpoint has edits, {listed}: expected one or two of each layer")
    tied = counts == {1}
    places = Positions.parse(unstored.positions)
    if unstored.tied not in (None, tied):
        said = "tied" if unstored.tied else "untied"
        raise ValueError(f"positions are said to be {said}, but there are edits, {listed}")
    if not tied and not (places.first and places.last):
        raise ValueError(
            f"positions {unstored.positions!r}: expected first and last ones, such as 'f3+l3', as "
            "each layer has an edit for either"
        )
    return tied


def adapter_tensors(
    model: PreTrainedModel, config: ReftConfig, placed: Placed
) -> dict[str, Tensor]:
    """Attach edits to the model, put the matrices in, and return them as PEFT names them."""
    sites = find_sites(model, config)
    edits = dict(zip((site.module for site in sites), placed.values(), strict=True))
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for layer in layers_of(adapted):
            edit = layer.reft_edits["default"]
            saved = edits[layer.settings["default"].site.module]
            for name, parameter in edit.named_parameters():
                parts = [matrix_of(one, name, config.act_fn) for one in saved]
                parameter.copy_(parts[0] if config.tied else torch.stack(parts))
    return get_peft_model_state_dict(adapted, save_embedding_layers=False)


def matrix_of(edit: SavedEdit, name: str, act_fn: str | None) -> Tensor:
    """Return a parameter of the library's edit: `weight`, `source` or `bias`.

    Raises:
        ValueError: W2 h has a bias that no parameter can take.
    """
    matrix = {"weight": edit.weight, "source": edit.source, "bias": edit.bias}[name]
    assert matrix is not None
    shift = edit.projection_bias
    if name != "bias" or shift is None or edit.intervention != "NoreftIntervention":
        return matrix
    if act_fn not in (None, "linear") and bool(shift.any()):
        raise ValueError(
            f'"{edit.file}" has a proj_layer.bias, outside of the activation {act_fn!r}: expected '
            "none, or no activation"
        )
    return matrix - shift  # f(W1 h + b) − (W2 h + c), f linear
