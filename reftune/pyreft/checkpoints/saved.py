"""What was saved: the edits of a checkpoint, and the checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from reftune.pyreft.checkpoints.formulas import KEYS, matrices


@dataclass(frozen=True)
class SavedEdit:
    """One edit of a checkpoint.

    Args:
        key: its name, `"layer_15_comp_block_output_unit_pos_nunit_1#0"`.
        layer: index of its layer; `None` if the component is a path.
        component: a name such as `"block_output"`, or a path such as `"model.layers[8].output"`.
        occurrence: the number of edits before it at the same place.
        intervention: name of its class; one of pyreft's six, or one of the user's own.
        weight: `(r, d)`: the rows of R, or W2; `None` for a class of one's own.
        source: `(r, d)`: W, or W1; `None` also where the formula has none.
        bias: `(r,)`: b.
        projection_bias: `(r,)`: the bias of `W2 h` that `add_bias` gives; otherwise `None`.
        dtype: of the matrices in the file, such as `"bfloat16"`; here they are float32, or float64.
        state: the tensors of the file, as they are.
        module: where the class was defined, such as `"pyreft.interventions"`; empty if unknown.
        unit, units: what is edited, `"pos"`, and `max_number_of_units`, 1.
        file: the file.
        said_rank, said_width: what the config says of the matrices, `None` if it does not.
    """

    key: str
    layer: int | None
    component: str
    occurrence: int
    intervention: str
    weight: Tensor | None
    source: Tensor | None
    bias: Tensor | None
    projection_bias: Tensor | None
    dtype: str
    state: dict[str, Tensor]
    module: str
    unit: str
    units: int
    file: Path
    said_rank: int | None = None
    said_width: int | None = None

    @property
    def rank(self) -> int:
        """r; 0 for a class of one's own."""
        return 0 if self.weight is None else self.weight.shape[0]

    @property
    def width(self) -> int:
        """d; 0 for a class of one's own."""
        return 0 if self.weight is None else self.weight.shape[1]


@dataclass(frozen=True)
class Checkpoint:
    """What a folder of pyreft holds.

    Args:
        edits: in the order of the config, else by layer, in the order that pyreft runs them.
        model_state: the tensors of `pytorch_model.bin`, by their names in the model.
        has_config: whether there was a `config.json` of pyreft.
        path: the folder that holds the files.
        config: that config, as JSON; empty if there is none.
        unused: names of files of edits that the config does not name; pyreft passes them over.
    """

    edits: tuple[SavedEdit, ...]
    model_state: dict[str, Tensor]
    has_config: bool
    path: Path
    config: dict[str, Any]
    unused: tuple[str, ...]


def with_formula(edit: SavedEdit, name: str) -> SavedEdit:
    """Read an edit as one of pyreft's classes, such as one that derives from it.

    Raises:
        ValueError: it has not the tensors of that class.
    """
    if name not in KEYS:
        raise ValueError(f"intervention {name!r}: expected one of {', '.join(KEYS)}")
    read = matrices(name, edit.state, f'"{edit.file}"')
    return replace(
        edit,
        intervention=name,
        weight=read.weight,
        source=read.source,
        bias=read.bias,
        projection_bias=read.projection_bias,
        dtype=read.dtype,
    )
