"""The names of pyreft's edits, which are those of its files.

An edit is known by a key, `layer_15_comp_block_output_unit_pos_nunit_1#0`, or, if its component is
a path, `comp_model_layers[8]_output_unit_pos_nunit_1#0`; its file is `intkey_<key>.bin`. Before
pyvene 0.1.7 the parts were joined by dots, and the very first versions said `repr` for `comp`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

PREFIX, SUFFIX = "intkey_", ".bin"
_DOTTED = re.compile(
    r"(?:layer\.(?P<layer>-?\d+)\.(?:comp|repr)|comp)\."
    r"(?P<component>.+)\.unit\.(?P<unit>[\w.]+)\.nunit\.(?P<units>\d+)#(?P<occurrence>\d+)",
    re.ASCII,
)
# Greedy: a component may have underscores, and what follows it is found from the end.
_UNDERSCORED = re.compile(
    r"(?:layer_(?P<layer>-?\d+)_(?:comp|repr)|comp)_"
    r"(?P<component>.+)_unit_(?P<unit>\w+)_nunit_(?P<units>\d+)#(?P<occurrence>\d+)",
    re.ASCII,
)
_DIGITS = 9  # of a number in a name: an index of more is none
# Names of modules that have underscores of their own, which a key does not tell from its joints.
_MODULES = (
    "base_model|language_model|text_model|vision_model|gpt_neox|self_attn|self_attention|"
    "cross_attn|encoder_attn|"
    "[qkvo]_proj|qkv_proj|out_proj|up_proj|down_proj|gate_proj|gate_up_proj|c_proj|c_attn|c_fc|"
    "fc_in|fc_out|act_fn|activation_fn|query_key_value|dense_h_to_4h|dense_4h_to_h|"
    "post_attention_layernorm|[a-z]+_layernorm|final_layer_norm|layer_norm|ln_\\d|resid_dropout|attn_dropout"
)
_WORD = re.compile(rf"(?:{_MODULES})(?=_|\[|$)|[^_]+")


@dataclass(frozen=True)
class KeyName:
    """What a key says.

    Args:
        key: in pyvene 0.1.8's spelling, with underscores.
        layer: index of the layer; `None` if the component is a path.
        component: a name, or a path with dots and indices. Where an underscored key stands for a
            path, the dots are a guess, which the config, if there is one, replaces.
        unit: what is edited, `"pos"`.
        units: `max_number_of_units`, which is 1 in pyreft.
        occurrence: how many edits before it have the same name otherwise.
    """

    key: str
    layer: int | None
    component: str
    unit: str
    units: int
    occurrence: int


def modern(key: str) -> str:
    """Return a key in the spelling of pyvene 0.1.8, from any spelling."""
    spelled = key.replace(".", "_")
    return re.sub(r"^(layer_-?\d+)_repr_", r"\1_comp_", spelled)


def parse_key(key: str) -> KeyName | None:
    """Read a key in any spelling; `None` if it is not one."""
    match = _DOTTED.fullmatch(key) or _UNDERSCORED.fullmatch(key)
    if match is None:
        return None
    numbers = match["layer"] or "0", match["units"], match["occurrence"]
    if max(map(len, numbers)) > _DIGITS:
        return None
    component = match["component"]
    if match["layer"] is None and "." not in component:
        component = ".".join(_WORD.findall(component))
    return KeyName(
        modern(key),
        None if match["layer"] is None else int(match["layer"]),
        component,
        match["unit"],
        int(match["units"]),
        int(match["occurrence"]),
    )


def parse_file_name(name: str) -> KeyName | None:
    """Read the name of an edit's file; `None` if it is none of pyreft's."""
    if not name.startswith(PREFIX) or not name.endswith(SUFFIX):
        return None
    return parse_key(name.removeprefix(PREFIX).removesuffix(SUFFIX))


def file_name(key: str) -> str:
    """Return the name of the file in which pyreft keeps an edit."""
    return f"{PREFIX}{key}{SUFFIX}"


def keys_of(named: Sequence[tuple[int | None, str, str, int]]) -> list[str]:
    """Return the keys of edits in their order (pyvene 0.1.8, `_get_representation_key`).

    Args:
        named: layer, component, unit and number of units of each.
    """
    counts: dict[str, int] = {}
    keys = []
    for layer, component, unit, units in named:
        place = f"comp_{component}" if "." in component else f"layer_{layer}_comp_{component}"
        key = modern(f"{place}_unit_{unit}_nunit_{units}")
        counts[key] = counts.get(key, -1) + 1
        keys.append(f"{key}#{counts[key]}")
    return keys
