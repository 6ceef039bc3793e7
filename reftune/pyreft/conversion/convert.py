"""Between a checkpoint of pyreft and an adapter of reftune, both ways."""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from reftune.positions import Positions
from reftune.pyreft.checkpoints.folders import MODEL
from reftune.pyreft.checkpoints.formulas import KEYS
from reftune.pyreft.checkpoints.reading import read_checkpoint
from reftune.pyreft.checkpoints.saved import Checkpoint, SavedEdit
from reftune.pyreft.checkpoints.writing import write_checkpoint
from reftune.pyreft.conversion.adapter_files import read_adapter, write_adapter
from reftune.pyreft.conversion.base_models import HEADS, assumed_model, base_model, task_of
from reftune.pyreft.conversion.pieces import pieces_of
from reftune.pyreft.conversion.placed_edits import adapter_tensors, config_of, placed_edits
from reftune.pyreft.conversion.places import layers_within
from reftune.pyreft.conversion.unstored import Unstored, assumptions, completed, to_be_passed

# Components whose width is that of the residual stream.
RESIDUAL = ("block_output", "block_input", "attention_output", "mlp_output")


def to_reftune(
    folder: str | Path,
    out: str | Path,
    unstored: Unstored,
    base: str | None = None,
    intervention: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write an adapter that does what a checkpoint of pyreft does.

    Args:
        folder: the checkpoint, see `read_checkpoint`.
        out: folder for the adapter, which `PeftModel.from_pretrained` loads.
        unstored: what pyreft does not store.
        base: the base model, a local folder or a hub id, of which the config alone is read.
            Without it Llama's names of modules are taken.
        intervention: name of pyreft's class, where the files do not tell it.
        overwrite: `out` may hold something.

    Returns:
        What had to be assumed, a sentence each.

    Raises:
        FileExistsError: `out` holds something.
        FileNotFoundError: there is no such checkpoint or base model.
        ValueError: the checkpoint is malformed, has no counterpart in reftune, or does not fit the
            base model or what was given. Nothing is written then.
    """
    check_output(Path(out), overwrite, Path(folder))
    Positions.parse(unstored.positions)
    checkpoint = read_checkpoint(folder, intervention)
    unstored = completed(unstored, checkpoint)
    first = _first_of_alike(checkpoint)
    head = _head(checkpoint)
    if base is None and head:
        raise ValueError(
            f'"{checkpoint.path / MODEL}" holds a classifier: expected its base model to be given '
            "(--base-model)"
        )
    if base is None:
        model = assumed_model(layers_within(checkpoint.edits), first.width)
    else:
        model = base_model(base, head)
    _check_head(model, head, checkpoint.path / MODEL)
    placed = placed_edits(model, checkpoint, base)
    config = config_of(first, placed, unstored)
    tensors = adapter_tensors(model, config, placed)
    tensors |= {f"base_model.model.{name}": tensor for name, tensor in head.items()}
    config.modules_to_save = sorted({name.split(".")[0] for name in head}) or None
    config.base_model_name_or_path = base
    config.task_type = task_of(model, head)  # pyright: ignore[reportAttributeAccessIssue]
    config.inference_mode = True
    if base is None:
        config.num_layers = None
        config.hidden_size = first.width if config.component in RESIDUAL else None
    write_adapter(out, config, tensors)
    return assumptions(checkpoint, unstored, config)


def to_pyreft(adapter: str | Path, out: str | Path, overwrite: bool = False) -> list[str]:
    """Write a checkpoint of pyreft that does what an adapter of reftune does.

    Args:
        adapter: folder of the adapter.
        out: folder for the checkpoint, which pyreft's `ReftModel.load` loads.
        overwrite: `out` may hold something.

    Returns:
        What pyreft does not store and must be told, a sentence each.

    Raises:
        FileExistsError: `out` holds something.
        FileNotFoundError: there is no such adapter.
        ValueError: the adapter is malformed, or does what pyreft has not. Nothing is written then.
    """
    check_output(Path(out), overwrite, Path(adapter))
    read = read_adapter(adapter)
    config, states = pieces_of(read)
    write_checkpoint(out, config, states, read.head or None, clear=True)
    return to_be_passed(read)


def check_output(out: Path, overwrite: bool, source: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        FileExistsError: it does, and may not.
        NotADirectoryError: it is a file.
        ValueError: it is the folder that is read.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'output "{out}" is a file; expected a folder')
    if out.exists() and out.resolve() == source.resolve():
        raise ValueError(f'output "{out}" is what is converted; expected another folder')
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise FileExistsError(
            f'output "{out}" is not empty; expected an empty folder (or --overwrite)'
        )


def _first_of_alike(checkpoint: Checkpoint) -> SavedEdit:
    """Return the first edit, if the others are of its class, shape and dtype.

    Raises:
        ValueError: they are not, or it is of a class that reftune has not.
    """
    first = checkpoint.edits[0]
    for edit in checkpoint.edits:
        if edit.weight is None:
            raise ValueError(
                f'"{edit.file}" is a {edit.intervention}, a class of one\'s own: expected the '
                "class of pyreft that it computes like to be given (--intervention), one of "
                f"{', '.join(KEYS)}"
            )
        if edit.unit != "pos" or edit.units != 1:
            raise ValueError(
                f'"{edit.file}" edits {edit.units} units {edit.unit!r}; expected one, "pos"'
            )
        if _kind(edit) != _kind(first):
            raise ValueError(
                f'"{edit.file}" is {_kind(edit)}, but "{first.file.name}" is {_kind(first)}: '
                "expected all edits of one adapter to be alike"
            )
    return first


def _kind(edit: SavedEdit) -> str:
    assert edit.weight is not None
    dtype = str(edit.weight.dtype).removeprefix("torch.")
    return f"a {edit.intervention} of rank {edit.rank} and width {edit.width} in {dtype}"


def _head(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a trained classifier.

    Raises:
        ValueError: something else of the model was trained.
    """
    other = [name for name in checkpoint.model_state if name.split(".")[0] not in HEADS]
    if other:
        raise ValueError(
            f'"{checkpoint.path / MODEL}" holds {len(other)} trained tensors of the model itself, '
            f"such as {other[0]!r}: expected none but those of a {' or '.join(HEADS)}"
        )
    return checkpoint.model_state


def _check_head(model: PreTrainedModel, head: dict[str, Tensor], file: Path) -> None:
    """Hold the tensors of a classifier against that of the model.

    Raises:
        ValueError: they are not the same.
    """
    names = {name.split(".")[0] for name in head}
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name.split(".")[0] in names
    }
    given = {name: tuple(tensor.shape) for name, tensor in head.items()}
    if own != given:
        raise ValueError(
            f'"{file}" holds a classifier of {given}; expected that of {type(model).__name__}, '
            f"{own}"
        )
