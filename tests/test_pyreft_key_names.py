"""The names of pyreft's edits and files, in every spelling that there was."""

import pytest

from reftune.pyreft.checkpoints.key_names import keys_of, modern, parse_file_name, parse_key

KEY = "layer_1_comp_block_output_unit_pos_nunit_1#0"
MODERN = f"intkey_{KEY}.bin"
DOTTED = "intkey_layer.1.comp.block_output.unit.pos.nunit.1#0.bin"
FIRST = "intkey_layer.1.repr.block_output.unit.pos.nunit.1#0.bin"


@pytest.mark.parametrize(
    ("name", "key", "layer", "component", "unit", "occurrence"),
    [
        (MODERN, KEY, 1, "block_output", "pos", 0),
        (DOTTED, KEY, 1, "block_output", "pos", 0),
        (FIRST, KEY, 1, "block_output", "pos", 0),
        (
            "intkey_layer_-1_comp_attention_value_output_unit_h_pos_nunit_1#12.bin",
            "layer_-1_comp_attention_value_output_unit_h_pos_nunit_1#12",
            *(-1, "attention_value_output", "h_pos", 12),
        ),
        (
            "intkey_comp.model.layers[8].mlp.output.unit.h.pos.nunit.1#1.bin",
            "comp_model_layers[8]_mlp_output_unit_h_pos_nunit_1#1",
            *(None, "model.layers[8].mlp.output", "h.pos", 1),
        ),
        (
            "intkey_comp_base_model_model_model_layers[15]_self_attn_o_proj_input_unit_pos_nunit_1#0.bin",
            "comp_base_model_model_model_layers[15]_self_attn_o_proj_input_unit_pos_nunit_1#0",
            *(None, "base_model.model.model.layers[15].self_attn.o_proj.input", "pos", 0),
        ),
    ],
)
def test_a_file_name_is_read_in_every_spelling(name, key, layer, component, unit, occurrence):
    found = parse_file_name(name)
    assert found is not None
    assert (found.key, found.layer, found.component) == (key, layer, component)
    assert (found.unit, found.units, found.occurrence) == (unit, 1, occurrence)
    assert parse_key(modern(key)).key == key


@pytest.mark.parametrize("name", ["intkey_x.bin", "intkey_layer_1#0.bin", "layer_1.bin", "x"])
def test_other_names_are_none(name):
    assert parse_file_name(name) is None


def test_keys_count_what_has_the_same_place():
    block = (8, "block_output", "pos", 1)
    path = (0, "model.layers[8].output", "h.pos", 1)
    assert keys_of([block, path, block]) == [
        "layer_8_comp_block_output_unit_pos_nunit_1#0",
        "comp_model_layers[8]_output_unit_h_pos_nunit_1#0",
        "layer_8_comp_block_output_unit_pos_nunit_1#1",
    ]
