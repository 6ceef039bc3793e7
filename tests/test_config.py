"""A config refuses what has no meaning, repeats it, and survives the way over JSON."""

import json

import pytest
from peft import PeftConfig

from reftune import ReftConfig
from reftune.config import FORMAT_VERSION

WRONG = [
    ({"layers": "some"}, "'some'"),
    ({"layers": []}, "layers"),
    ({"layers": [1.5]}, "1.5"),
    ({"layers": True}, "True"),
    ({"component": ""}, "component"),
    ({"heads": []}, "heads"),
    ({"heads": [1, 1]}, r"\[1, 1\]"),
    ({"intervention": "lora"}, "'lora': expected one of loreft"),
    ({"r": 0}, "r=0"),
    ({"r": 2.0}, "r=2.0"),
    ({"positions": "f7-l7"}, "f7-l7"),
    ({"positions": "l7", "tied": False}, "l7"),
    ({"dropout": 1.0}, "dropout=1.0"),
    ({"dropout_on": "weights"}, "weights"),
    ({"act_fn": "rellu"}, "rellu"),
    ({"act_fn": "relu", "intervention": "red"}, "no activation"),
    ({"init": "zero"}, "zero"),
    ({"init": "identity", "intervention": "consreft"}, "consreft"),
    ({"decode": "some"}, "some"),
    ({"decode": 0}, "decode=0"),
    ({"scale": 2.0}, "scale"),
    ({"dtype": "int8"}, "int8"),
    ({"format_version": FORMAT_VERSION + 1}, "format_version"),
    ({"task_type": "CHAT"}, "CHAT"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=str)
def test_values_without_meaning_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ReftConfig(**fields)


def test_layers_may_be_written_as_people_write_them():
    assert ReftConfig(layers=range(2, 6, 2)).layers == [2, 4]
    assert ReftConfig(layers=-1).layers == [-1]
    assert ReftConfig(layers=(0, 3)).layers == [0, 3]
    assert ReftConfig().layers == "all"


def test_a_saved_config_is_read_as_it_was(tmp_path):
    config = ReftConfig(
        layers=[1, 2], positions="f3+l2", tied=False, decode=3, act_fn="relu", dropout=0.25
    )
    config.save_pretrained(str(tmp_path))
    assert PeftConfig.from_pretrained(str(tmp_path)) == config
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert stored["peft_type"] == "REFTUNE"
    assert stored["format_version"] == FORMAT_VERSION


def test_the_format_of_a_later_version_is_refused_on_loading(tmp_path):
    ReftConfig().save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99, "new": 1}))
    with (
        pytest.warns(UserWarning, match="new"),  # PEFT drops what it does not know
        pytest.raises(ValueError, match="format_version=99"),
    ):
        PeftConfig.from_pretrained(str(tmp_path))
