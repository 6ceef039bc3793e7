"""`ReftConfig`: which edit, where and how strong, as plain data that PEFT stores as JSON.

Values are checked where the config is built; what depends on the model (that a layer exists, that
the rank fits the width) is checked when the adapter is attached.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import torch
from peft import PeftConfig
from transformers.activations import ACT2FN

from reftune.interventions import options
from reftune.positions import Positions

FORMAT_VERSION = 1


class ReftPeftType(StrEnum):
    """PEFT's name of the method. Not `REFT`, which a later PEFT may want for itself."""

    REFTUNE = "REFTUNE"


@dataclass
class ReftConfig(PeftConfig):
    """Configuration of a ReFT adapter.

    Args:
        layers: indices of the edited layers (negative ones count from the end), a range, one index,
            or `"all"`. Without meaning when `component` is the full path of one module.
        component: the edited site: `"block_output"` (the residual stream after a layer),
            `"block_input"`, `"attention_output"`, `"mlp_output"`, `"mlp_activation"` (what goes
            into the MLP's down projection), `"attention_value_output"` (what goes into the
            attention's output projection, where heads live); for models with an encoder and a
            decoder `"encoder.block_output"` and so on. Or a module by its dotted path, within a
            layer (`"self_attn.q_proj"`) or from the model's root (`"model.layers.3.mlp"`), with
            `.input` at the end to edit what goes in instead of what comes out.
        heads: edit only these attention heads, each by an edit of its own of the width of a head.
        intervention: a name in `reftune.interventions.INTERVENTIONS`.
        r: rank of the edit; `red` and `steering_vector` have none and ignore it.
        positions: `"fK"`, `"lK"`, `"fK+lM"` or `"all"`, within the prompt of every row.
        tied: first and last positions share one edit; `False` gives each its own.
        dropout: probability of zeroing, in training.
        dropout_on: what dropout falls on: `"edit"`, the change of the hidden state, or `"state"`,
            the whole edited hidden state, as in the paper's experiments.
        act_fn: name of a transformers activation around `Wh + b`; linear if `None`.
        init: `"identity"`, an untrained adapter changes nothing; `"paper"`, as published; `None`,
            the identity where the edit has one.
        decode: what is edited after the prompt: `"none"`, `"all"`, or the first k tokens. In
            training the completion stands for the generated tokens. With untied positions the
            edit of the last positions is used.
        scale: strength c of a `steering_vector`.
        width: size of the edited hidden states, for a dotted path whose module does not tell it.
        modules_to_save: further modules to train and save, such as a classifier's head.
        dtype: dtype of the trained tensors, float32 whatever the base model has.

    The remaining fields are filled when the adapter is attached, and checked when it is loaded.

    Raises:
        ValueError: a field has no meaning; the message repeats it and says what was expected.
    """

    layers: list[int] | range | int | str = "all"
    component: str = "block_output"
    heads: list[int] | None = None
    intervention: str = "loreft"
    r: int = 4
    positions: str = "f7+l7"
    tied: bool = True
    dropout: float = 0.0
    dropout_on: Literal["edit", "state"] = "edit"
    act_fn: str | None = None
    init: Literal["identity", "paper"] | None = None
    decode: str | int = "none"
    scale: float = 1.0
    width: int | None = None
    modules_to_save: list[str] | None = None
    dtype: str = "float32"
    hidden_size: int | None = field(default=None, metadata={"help": "Of the base model."})
    num_layers: int | None = field(default=None, metadata={"help": "Of the base model."})
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = ReftPeftType.REFTUNE
        _check(
            self.format_version == FORMAT_VERSION,
            "format_version",
            self.format_version,
            f"{FORMAT_VERSION}, the format that this version of reftune reads and writes",
        )
        if isinstance(self.layers, range | tuple):
            self.layers = list(self.layers)
        elif _is_int(self.layers):
            self.layers = [int(self.layers)]
        self._check_where()
        self._check_edit()

    def _check_where(self) -> None:
        _check(
            self.layers == "all"
            or (len(self.layer_list) > 0 and all(_is_int(i) for i in self.layer_list)),
            "layers",
            self.layers,
            'a layer index, a list or range of indices, or "all"',
        )
        _check(
            isinstance(self.component, str) and self.component.strip(".") != "",
            "component",
            self.component,
            'e.g. "block_output" or a dotted module path',
        )
        _check(
            self.heads is None
            or (
                (len(self.heads) > 0 and all(_is_int(i) for i in self.heads))
                and len(set(self.heads)) == len(self.heads)
            ),
            "heads",
            self.heads,
            "a list of different head indices, or None for all of them as one",
        )
        places = Positions.parse(self.positions)
        _check(
            self.tied or bool(places.first and places.last),
            "tied",
            self.tied,
            f'True, or first and last positions such as "f7+l7", not {self.positions!r}',
        )
        _check(
            self.decode in ("none", "all") or (_is_int(self.decode) and int(self.decode) > 0),
            "decode",
            self.decode,
            '"none", "all", or the number of generated tokens to edit',
        )

    def _check_edit(self) -> None:
        accepted = options(self.intervention)
        _check(_is_int(self.r) and self.r > 0, "r", self.r, "a positive rank")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "a probability in [0, 1)")
        _check(
            self.dropout_on in ("edit", "state"), "dropout_on", self.dropout_on, '"edit" or "state"'
        )
        _check(
            self.act_fn is None or self.act_fn in ACT2FN,
            "act_fn",
            self.act_fn,
            "None or the name of a transformers activation such as 'relu'",
        )
        _check(
            self.act_fn is None or "activation" in accepted,
            "act_fn",
            self.act_fn,
            f"None, as intervention {self.intervention!r} has no activation",
        )
        _check(self.init in (None, "identity", "paper"), "init", self.init, '"identity" or "paper"')
        _check(
            self.init is None or "identity" in accepted,
            "init",
            self.init,
            f"None, as intervention {self.intervention!r} has one start only",
        )
        _check(
            self.scale == 1.0 or "scale" in accepted,
            "scale",
            self.scale,
            f"1.0, as intervention {self.intervention!r} has no scale",
        )
        known = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES}
        _check(self.dtype in known, "dtype", self.dtype, f"one of {', '.join(known)}")

    @property
    def layer_list(self) -> list[int]:
        """The layers as a list of indices; empty if they are `"all"`."""
        return self.layers if isinstance(self.layers, list) else []

    @property
    def target_modules(self) -> None:
        """PEFT's selection by module name, which a ReFT does not use: sites come from `layers`."""


_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(valid: bool, name: str, value: Any, expected: str) -> None:
    if not valid:
        raise ValueError(f"ReftConfig: {name}={value!r}: expected {expected}")
