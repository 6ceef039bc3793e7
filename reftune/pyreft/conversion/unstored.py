"""What decides the output of an edit and is not in pyreft's files: what is given, or assumed."""

from dataclasses import dataclass, replace

from reftune.config import ReftConfig
from reftune.positions import Positions
from reftune.pyreft.checkpoints.folders import CONFIG
from reftune.pyreft.checkpoints.formulas import orthonormality_error
from reftune.pyreft.checkpoints.saved import Checkpoint
from reftune.pyreft.conversion.adapter_files import Adapter
from reftune.pyreft.conversion.places import representation_of

ARGUMENTS = "intervention_arguments"  # of the config that our `ReftModel.save` writes
# The model classes whose components pyvene 0.1.8 knows by name, as far as they have a counterpart.
PYVENE_CLASSES = ("Llama", "Mistral", "Gemma", "Qwen2", "OLMo", "GPT-2", "GPT-NeoX")
PRECISE = 1e-5  # how far RᵀR may be from I without a word
_NODIREFT = "NodireftIntervention"
_LAST = (
    "ReftSupervisedDataset and ReftGenerationDataset of pyreft do not count the last prompt token, "
    "so their l1 is the token before reftune's"
)


@dataclass(frozen=True)
class Unstored:
    """What decides the output of an edit and is not in pyreft's files.

    Args:
        positions: `"f3+l3"`, `"l1"`, `"all"`.
        tied: first and last positions share one edit; `None` takes it from the number of edits of
            a layer, one or two.
        act_fn: name of the activation around `Wh + b`; `None` takes it from the config if the
            checkpoint is one of ours, and otherwise none.
        dropout: of the whole edited state, in training; `None` likewise.
    """

    positions: str
    tied: bool | None = None
    act_fn: str | None = None
    dropout: float | None = None


def completed(given: Unstored, checkpoint: Checkpoint) -> Unstored:
    """Return what was given, with what the `ReftModel.save` of ours wrote into the config.

    Raises:
        ValueError: the two contradict each other, or the edits differ in it.
    """
    stored = checkpoint.config.get(ARGUMENTS)
    if not isinstance(stored, list) or not stored:
        return given
    first = stored[0] if isinstance(stored[0], dict) else {}
    plain = isinstance(first.get("act_fn"), str | None) and isinstance(
        first.get("dropout"), int | float | None
    )
    if not plain or any(one != first for one in stored):
        raise ValueError(
            f'"{checkpoint.path / CONFIG}": {ARGUMENTS} are {stored}: expected the name of an '
            "activation and a probability, the same for all edits of one adapter"
        )
    found = {}
    for name, value in (("act_fn", given.act_fn), ("dropout", given.dropout)):
        known = first.get(name)
        if value is not None and known is not None and value != known:
            raise ValueError(
                f'"{checkpoint.path / CONFIG}" says {name}={known!r}: got {name}={value!r}'
            )
        found[name] = known if value is None else value
    return replace(given, **found)


def assumptions(checkpoint: Checkpoint, unstored: Unstored, config: ReftConfig) -> list[str]:
    """Say what a conversion from pyreft had to assume, a sentence each.

    Args:
        checkpoint: what was converted.
        unstored: what was given.
        config: of the adapter that was written.
    """
    edits, places = checkpoint.edits, Positions.parse(unstored.positions)
    said = [f"positions {unstored.positions}, as given: pyreft does not store them", _LAST]
    if not places.everywhere:
        longest = 2 * (places.last or places.first)
        said.append(
            "pyreft edits at most n // 2 tokens at either end of a prompt of n: in prompts of less "
            f"than {longest} tokens reftune may edit more of them"
        )
    if places.first and places.last:
        shared = "each layer has one edit, which its first and last positions share (tied)"
        own = "each layer has two edits, #0 of its first and #1 of its last positions (untied)"
        said.append(shared if config.tied else own)
    missing = [] if unstored.act_fn else ["activation"]
    missing += [] if unstored.dropout is not None else ["dropout"]
    if missing:
        said.append(f"no {' and no '.join(missing)}: pyreft does not store them")
    if config.base_model_name_or_path is None:
        said.append(
            "no base model was given: its modules are taken to be called as Llama's are "
            "(model.layers.8), and the number of its layers is not checked"
        )
    if not checkpoint.has_config:
        kind = edits[0].intervention
        said.append(f"no config.json: layers and components are those of the file names, as {kind}")
    if checkpoint.unused:
        said.append(f"not named in config.json and left out: {', '.join(checkpoint.unused)}")
    if any(edit.projection_bias is not None for edit in edits):
        effect = "has no effect in pyreft" if config.intervention == "direft" else "went into b"
        said.append(f"the bias of proj_layer {effect}")
    return said + _rounded(checkpoint)


def _rounded(checkpoint: Checkpoint) -> list[str]:
    """Say if R was not kept precisely."""
    rotated = [
        edit.weight.mT
        for edit in checkpoint.edits
        if edit.weight is not None and edit.intervention not in ("NoreftIntervention", _NODIREFT)
    ]
    worst = max(map(orthonormality_error, rotated), default=0.0)
    if worst < PRECISE:
        return []
    return [f"the rows of R are orthonormal to {worst:.1g} in the files; reftune makes them so"]


def to_be_passed(adapter: Adapter) -> list[str]:
    """Say what pyreft does not store and must be told, a sentence each.

    Args:
        adapter: what was converted to pyreft.
    """
    config = adapter.config
    name = config.base_model_name_or_path
    shared = "" if config.positions == "all" else f", share_weights={config.tied}"
    said = [f"pass to pyreft: positions {config.positions}{shared}"]
    if config.positions != "all":
        said.append("pyreft edits at most n // 2 tokens at either end of a prompt of n")
    said.append(_LAST)
    components = [representation_of(*place)[1] for place in adapter.edits]
    paths = [component for component in components if "." in component]
    if paths:
        said.append(
            f"ReftModel.load of pyreft does not know the width of {paths[0]}: build the model with "
            "embed_dim, and load each file with load_state_dict"
        )
    known = "" if paths else f", if pyvene knows its class: {', '.join(PYVENE_CLASSES)}"
    said.append(f"load it on {name or 'the base model'}{known}")
    if adapter.head:
        said.append("load it with include_model=True, for pytorch_model.bin")
    if config.intervention in ("noreft", "direft"):
        said.append(
            "ReftModel.load of pyreft 0.1.0 fails for this class, as it does not pass add_bias: "
            "build the model with add_bias=False, and load each file with load_state_dict"
        )
    elif config.intervention in ("loreft", "direft_orthonormal"):
        said.append(
            "ReftModel.load of pyreft keeps W and b in bfloat16; for float32, build the model with "
            "dtype=torch.float32, and load each file with load_state_dict"
        )
    if config.act_fn:
        said.append(f"build the model with act_fn={config.act_fn!r}: ReftModel.load has none")
    if config.dropout:
        where = "" if config.dropout_on == "state" else "; there it falls on the whole state"
        said.append(f"to train on, build the model with dropout={config.dropout}{where}")
    return said
