"""Between a `ReftModel` and a checkpoint in pyreft's format."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reftune.pyreft import interventions
from reftune.pyreft.attachment import Attachment
from reftune.pyreft.bases import Intervention, TrainableIntervention
from reftune.pyreft.checkpoints.folders import CONFIG, fetch
from reftune.pyreft.checkpoints.formulas import KEYS
from reftune.pyreft.checkpoints.reading import (
    Checkpoint,
    SavedEdit,
    read_checkpoint,
)
from reftune.pyreft.checkpoints.states import load_states, pyreft_state
from reftune.pyreft.checkpoints.writing import checkpoint_config, write_checkpoint
from reftune.pyreft.config import ReftConfig, RepresentationConfig

ARGUMENTS = "intervention_arguments"
# The fields of a representation that are no data.
_OBJECTS = ("intervention_type", "intervention", "source_representation")


def save(
    attachment: Attachment,
    model: nn.Module,
    folder: str,
    include_model: bool = False,
    with_config: bool = True,
) -> None:
    """Write a folder that pyreft 0.1.0 loads, whole or not at all, in place of an older checkpoint.

    Args:
        include_model: write what is trained of the model, too.
        with_config: write the config; pyreft's `save_intervention` does not.

    Raises:
        OSError: the folder cannot be written.
    """
    every = dict(attachment.interventions.items())
    states = {
        key: pyreft_state(one)
        for key, one in every.items()
        if isinstance(one, TrainableIntervention)
    }
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    config = None
    if with_config:
        places = [
            list(one._replace(**dict.fromkeys(_OBJECTS)))
            for one in attachment.representations.values()
        ]
        sizes = [getattr(one, "interchange_dim", None) for one in every.values()]
        config: Any = checkpoint_config(
            places,
            [type(one) for one in every.values()],
            [None if size is None else int(size) for size in sizes],
            [bool(getattr(one, "is_source_constant", True)) for one in every.values()],
        )
        # pyvene passes over what it does not know; without it a load forgets the activation.
        config[ARGUMENTS] = [getattr(one, "arguments", {}) for one in every.values()]
    write_checkpoint(folder, config, states, trained if include_model else None, clear=True)


def upload(folder: str, repo: str) -> None:
    """Put a written folder onto the hub, into a repository that is made if there is none."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repo, repo_type="model")


def read(name: str, local_directory: str | None = None, include_model: bool = False) -> Checkpoint:
    """Read a checkpoint from a folder or the hub; see `read_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is malformed.
    """
    folder = fetch(name, local_directory)
    try:
        return read_checkpoint(folder, with_model=include_model)
    except ValueError as error:
        if any(folder.rglob(CONFIG)):
            raise
        raise ValueError(
            f"{error}; or make the model with get_reft_model, and use its load_intervention"
        ) from error


def config_of(checkpoint: Checkpoint) -> ReftConfig:
    """Return a config with a new intervention for every edit of a checkpoint.

    Raises:
        ValueError: the class of an edit is neither pyreft's nor defined in this process.
    """
    return ReftConfig(
        representations=[
            RepresentationConfig(
                layer=edit.layer or 0,
                component=edit.component,
                unit=edit.unit,
                max_number_of_units=edit.units,
                low_rank_dimension=None if edit.weight is None else len(edit.weight),
                intervention=_build(index, edit, checkpoint),
            )
            for index, edit in enumerate(checkpoint.edits)
        ]
    )


def take_over(
    attachment: Attachment,
    model: nn.Module,
    states: dict[str, dict[str, Tensor]],
    model_state: dict[str, Tensor],
    where: str,
) -> None:
    """Put the tensors of a checkpoint into interventions and their model, all of them or none.

    Raises:
        ValueError: a tensor is missing, or does not fit.
    """
    own = dict(model.named_parameters())
    for name, tensor in model_state.items():
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "no such parameter"
            raise ValueError(
                f"{where}: the model's {name!r} is of shape {tuple(tensor.shape)}; expected "
                f"{expected}, as {type(model).__name__} has"
            )
    trained = {
        key: one
        for key, one in attachment.interventions.items()
        if isinstance(one, TrainableIntervention)
    }
    load_states(trained, states, where)
    model.load_state_dict(model_state, strict=False)


def load_into(attachment: Attachment, model: nn.Module, folder: str, include_model: bool) -> None:
    """Put the tensors of a folder into the interventions that there are.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or it does not fit.
    """
    checkpoint = read_checkpoint(fetch(folder), with_model=include_model, formulas=False)
    for edit in checkpoint.edits:
        kind, there = edit.intervention, dict(attachment.interventions.items()).get(edit.key)
        if kind in KEYS and type(there).__name__ in KEYS and type(there).__name__ != kind:
            raise ValueError(
                f'"{edit.file}" is a {kind}: got a model with {type(there).__name__} there'
            )
    states = {edit.key: edit.state for edit in checkpoint.edits}
    unused = sorted(set(states) - set(attachment.interventions))
    if unused:
        warnings.warn(f'"{folder}" has edits that the model has not: {unused}', stacklevel=3)
    take_over(attachment, model, states, checkpoint.model_state, f'"{folder}"')


def _build(index: int, edit: SavedEdit, checkpoint: Checkpoint) -> nn.Module:
    """Return an intervention for an edit, with other tensors yet."""
    if edit.intervention in KEYS and edit.weight is not None:
        kind: Any = getattr(interventions, edit.intervention)
        rank, width = edit.weight.shape
        return kind(
            embed_dim=width,
            low_rank_dimension=rank,
            add_bias=edit.projection_bias is not None,
            **_arguments(_listed(checkpoint.config, ARGUMENTS, index), edit, checkpoint.path),
        )
    named = [one for one in _below(Intervention) if one.__name__ == edit.intervention]
    exact = [one for one in named if one.__module__ == edit.module] or named
    if not exact:
        raise ValueError(
            f'"{edit.file}" is a {edit.intervention}, which is a class of your own: expected its '
            "definition to have run before, as nothing that a checkpoint names is imported"
        )
    # Where the config does not say it, LoReFT's own tensors do.
    lengths = [len(edit.state[name]) for name in ("weight", "bias") if name in edit.state]
    rank = edit.said_rank or next(iter(lengths), None)
    return exact[-1](embed_dim=edit.said_width, low_rank_dimension=rank)


def _listed(config: dict[str, Any], name: str, index: int) -> Any:
    """Return an entry of one of a config's lists, `None` if there is none."""
    values = config.get(name)
    return values[index] if isinstance(values, list) and index < len(values) else None


def _arguments(given: Any, edit: SavedEdit, folder: Path) -> dict[str, Any]:
    """Return the activation and the dropout of an edit, which only our own saves tell."""
    found = given if isinstance(given, dict) else {}
    act_fn, dropout = found.get("act_fn"), found.get("dropout", 0.0)
    probable = type(dropout) in (int, float) and 0 <= dropout < 1
    if not (act_fn is None or isinstance(act_fn, str)) or not probable:
        raise ValueError(
            f'"{folder / CONFIG}": {ARGUMENTS} of {edit.key} are {found}: expected the name of an '
            "activation and a probability"
        )
    return {"act_fn": act_fn, "dropout": dropout}


def _below(kind: type) -> Iterator[type]:
    """Return all classes that derive from one, however far."""
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
