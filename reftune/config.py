"""`ReftConfig`: which edit, where and how strong, as plain data that PEFT stores as JSON.

Values are checked where the config is built; what depends on the model (that a layer exists, that
the rank fits the width) is checked when the adapter is attached.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from peft import PeftConfig
from transformers.activations import ACT2FN

from reftune.interventions import options
from reftune.positions import Positions

FORMAT_VERSION = 1
DTYPES = ("float32", "float64", "bfloat16", "float16")


class ReftPeftType(str, Enum):  # noqa: UP042  # PEFT prints a type by the str of such an enum
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
            the identity where the edit has one and `act_fn` is linear, otherwise as published.
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
        if isinstance(self.layers, int) and not isinstance(self.layers, bool):
            self.layers = [self.layers]
        elif isinstance(self.layers, range | tuple):
            self.layers = list(self.layers)
        if isinstance(self.heads, range | tuple):
            self.heads = list(self.heads)
        if self.act_fn == "linear":
            self.act_fn = None
        readable = f"{FORMAT_VERSION}, the format that this version of reftune reads and writes"
        self._expect("format_version", self.format_version == FORMAT_VERSION, readable)
        self._check_where()
        self._check_edit()

    def _expect(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise ValueError(f"ReftConfig: {name}={getattr(self, name)!r}: expected {expected}")

    def _check_where(self) -> None:
        layers, heads, decode = self.layer_list, self.heads, self.decode
        self._expect(
            "layers",
            self.layers == "all" or (len(layers) > 0 and all(map(_is_int, layers))),
            'a layer index, a list or range of indices, or "all"',
        )
        self._expect(
            "component",
            isinstance(self.component, str) and self.component.strip(".") != "",
            'e.g. "block_output" or a dotted module path',
        )
        listed = isinstance(heads, list) and len(heads) > 0 and all(map(_is_count, heads))
        self._expect(
            "heads",
            heads is None or (listed and len(set(heads)) == len(heads)),
            "a list of different head indices, or None for all of them as one",
        )
        self._expect(
            "width", self.width is None or (_is_count(self.width) and self.width > 0), "a size"
        )
        places = Positions.parse(self.positions)
        self._expect(
            "tied",
            self.tied is True or (self.tied is False and bool(places.first and places.last)),
            f'True, or first and last positions such as "f7+l7", not {self.positions!r}',
        )
        self._expect(
            "decode",
            decode in ("none", "all") or (_is_count(decode) and decode != 0),
            '"none", "all", or the number of generated tokens to edit',
        )

    def _check_edit(self) -> None:
        accepted = options(self.intervention)
        alone = f"as intervention {self.intervention!r} has"
        self._expect("r", _is_count(self.r) and self.r > 0, "a positive rank")
        probable = isinstance(self.dropout, int | float) and 0 <= self.dropout < 1
        self._expect("dropout", probable, "a probability in [0, 1)")
        self._expect("dropout_on", self.dropout_on in ("edit", "state"), '"edit" or "state"')
        named = self.act_fn is None or self.act_fn in ACT2FN
        self._expect("act_fn", named, "the name of a transformers activation such as 'relu'")
        takes = self.act_fn is None or "activation" in accepted
        self._expect("act_fn", takes, f"None, {alone} no activation")
        self._expect(
            "init", self.init in (None, "identity", "paper"), '"identity", "paper" or None'
        )
        takes = self.init is None or "identity" in accepted
        self._expect("init", takes, f"None, {alone} one start only")
        self._expect("scale", isinstance(self.scale, int | float), "a number")
        takes = self.scale == 1 or "scale" in accepted
        self._expect("scale", takes, f"1.0, {alone} no scale")
        self._expect("dtype", self.dtype in DTYPES, f"one of {', '.join(DTYPES)}")

    @property
    def layer_list(self) -> list[int]:
        """The layers as a list of indices; empty if they are `"all"`."""
        return self.layers if isinstance(self.layers, list) else []

    @property
    def target_modules(self) -> None:
        """PEFT's selection by module name, which a ReFT does not use: sites come from `layers`."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value >= 0
