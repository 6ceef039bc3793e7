"""What cannot be converted is refused in one sentence, and nothing is written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reftune.cli import main
from reftune.pyreft.conversion.convert import to_pyreft, to_reftune
from reftune.pyreft.conversion.unstored import Unstored
from tests.adapters import adapted, build
from tests.pyreft_golden import CHECKPOINTS
from tests.test_cli import fails
from tests.test_pyreft_convert import random_state, saved_base, written
from tests.tiny_models import ENCODERS

BLOCK = "block_output"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return written(tmp_path / "in", [(0, BLOCK), (2, BLOCK)])


@pytest.fixture
def adapter(tmp_path) -> Path:
    adapted(layers=[0, 2], r=2, positions="f2+l3").save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def refused(folder: Path, says: str, given: Unstored | None = None, **more) -> None:
    out = folder.parent / "out"
    with pytest.raises((ValueError, OSError)) as caught:
        to_reftune(folder, out, given or Unstored("f2+l3"), **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize(
    ("places", "given", "says"),
    [
        ([(0, BLOCK)] * 2, Unstored("l3"), "positions 'l3': expected first and last ones"),
        ([(0, BLOCK)] * 2, Unstored("all"), "positions 'all': expected first and last ones"),
        ([(0, BLOCK)] * 2, Unstored("f1+l1", tied=True), "said to be tied, but there are edits, 2"),
        ([(0, BLOCK)], Unstored("f1+l1", tied=False), "said to be untied, but there are edits, 1"),
        ([(0, BLOCK)] * 3, Unstored("f1+l1"), "3 at layer 0: expected one or two of each layer"),
        ([(0, BLOCK), (0, BLOCK), (1, BLOCK)], Unstored("f1+l1"), "2 at layer 0, 1 at layer 1"),
        ([(0, BLOCK)], Unstored("f3-l3"), "positions 'f3-l3'"),
        ([(0, BLOCK)], Unstored("l1", act_fn="relux"), "act_fn='relux'"),
        ([(0, BLOCK)], Unstored("l1", dropout=1.5), "dropout=1.5"),
        ([(0, BLOCK), (1, "mlp_output")], Unstored("l1"), "block_output, mlp_output: expected one"),
        ([(-1, BLOCK)], Unstored("l1"), "expected the base model to be given"),
        ([(10**6, BLOCK)], Unstored("l1"), "expected the base model to be given"),
        ([(0, "head_value_output")], Unstored("l1"), "component 'head_value_output'"),
        ([(0, "transformer.h[1].output")], Unstored("l1"), "one like Llama was assumed"),
    ],
)
def test_what_does_not_fit_what_was_given(places, given, says, tmp_path):
    refused(written(tmp_path / "in", places), says, given)


def test_a_model_of_another_shape(checkpoint, tmp_path):
    wide = saved_base(build({"hidden_size": 48, "num_attention_heads": 4}), tmp_path / "wide")
    refused(checkpoint, "edits hidden states of width 32: got", base=wide)
    short = saved_base(build({"num_hidden_layers": 2}), tmp_path / "short")
    refused(checkpoint, "layer 2 of 2: expected an index from -2 to 1", base=short)
    refused(checkpoint, 'nowhere": no such folder', base=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    refused(checkpoint, "expected a folder with config.json", base=str(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "none of these"}')
    refused(checkpoint, "is not known", base=str(tmp_path / "empty"))


def test_edits_of_different_kinds(checkpoint):
    refused(CHECKPOINTS / "several_components", "expected all edits of one adapter to be alike")
    file = next(checkpoint.glob("intkey_layer_2*"))
    torch.save(random_state(32, rank=3), file)
    config = json.loads((checkpoint / "config.json").read_text())
    config["representations"][1][4] = 3
    (checkpoint / "config.json").write_text(json.dumps(config))
    refused(checkpoint, "of rank 3 and width 32 in float32, but")


def test_classes_of_ones_own_and_other_units(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    other = config | {"intervention_types": ["<class '__main__.Mine'>"] * 2}
    (checkpoint / "config.json").write_text(json.dumps(other))
    refused(checkpoint, "is a Mine, a class of one's own: expected the class of pyreft")
    to_reftune(
        checkpoint, checkpoint.parent / "mine", Unstored("l1"), intervention="LoreftIntervention"
    )
    unit = written(checkpoint.parent / "unit", [(0, BLOCK)])
    text = (unit / "config.json").read_text()
    (unit / "config.json").write_text(text.replace('"pos"', '"h.pos"').replace("_pos_", "_h_pos_"))
    for file in unit.glob("*.bin"):
        file.rename(unit / file.name.replace("unit_pos", "unit_h_pos"))
    refused(unit, "edits 1 units 'h.pos'; expected one, \"pos\"")


def test_a_bias_that_an_activation_keeps_from_being_folded(tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(CHECKPOINTS / "noreft_bias", folder)
    refused(
        folder, "proj_layer.bias, outside of the activation 'relu'", Unstored("l1", None, "relu")
    )


def test_trained_parts_of_the_model_that_no_adapter_has(tmp_path):
    folder = written(tmp_path / "in", [(0, BLOCK)])
    torch.save({"model.embed_tokens.weight": torch.ones(2, 2)}, folder / "pytorch_model.bin")
    refused(folder, "1 trained tensors of the model itself, such as 'model.embed_tokens.weight'")
    model = next(model for model in ENCODERS if model.name == "roberta").build()
    base = saved_base(model, tmp_path / "base")
    place = "roberta.encoder.layer[1].output"
    folder = written(tmp_path / "two", [(0, place)])
    torch.save({"classifier.dense.weight": torch.ones(32, 32)}, folder / "pytorch_model.bin")
    refused(folder, "holds a classifier of", base=base)


@pytest.mark.parametrize(
    "stored", [[{"act_fn": []}] * 2, [{"dropout": "x"}] * 2, [{"dropout": 0.1}, {}], [1, 1]]
)
def test_arguments_that_have_no_meaning(stored, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    text = json.dumps(config | {"intervention_arguments": stored})
    (checkpoint / "config.json").write_text(text)
    refused(checkpoint, "expected the name of an activation and a probability")


def test_outputs_that_are_there(checkpoint, adapter, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for way in (
        lambda **more: to_reftune(checkpoint, out, Unstored("l1"), **more),
        lambda **more: to_pyreft(adapter, out, **more),
    ):
        with pytest.raises(FileExistsError, match="is not empty"):
            way()
        assert [path.name for path in out.iterdir()] == ["mine.txt"]
    to_reftune(checkpoint, out, Unstored("l1"), overwrite=True)
    to_pyreft(adapter, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="is what is converted"):
        to_pyreft(adapter, adapter, overwrite=True)
    with pytest.raises(NotADirectoryError):
        to_pyreft(adapter, out / "mine.txt", overwrite=True)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"intervention": "red"}, "intervention 'red': pyreft has none"),
        ({"intervention": "steering_vector"}, "intervention 'steering_vector': pyreft has none"),
        ({"heads": [0], "component": "attention_value_output"}, "pyreft edits no heads"),
        ({"decode": "all"}, "decode='all': pyreft edits prompts alone"),
        ({"decode": 3}, "decode=3: pyreft edits prompts alone"),
    ],
)
def test_what_pyreft_has_not(config, says, tmp_path):
    adapted(layers=[1], **config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=says):
        to_pyreft(tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


NAME = "base_model.model.model.layers.0.intervention.reft_edits.bias"


@pytest.mark.parametrize(
    ("tensors", "config", "says"),
    [
        ({NAME: None}, {}, "expected {"),
        ({NAME: torch.ones(3)}, {}, "expected {"),
        ({NAME: torch.ones(2).half()}, {}, "in float32, as its config says"),
        ({NAME: torch.full((2,), torch.nan)}, {}, "not finite"),
        ({NAME.replace("bias", "more"): torch.ones(2)}, {}, "expected {"),
        ({NAME.replace("layers.0", "layers.1"): torch.ones(2)}, {}, "edits of 3 modules"),
        ({"base_model.model.score.weight": torch.ones(2)}, {}, "tensors of modules_to_save=None"),
        ({}, {"layers": [0, 1, 2]}, "expected 3"),
        ({}, {"layers": [0, 1]}, "the layers [0, 2]; expected [0, 1]"),
        ({}, {"r": 3}, "as its config says"),
        ({}, {"tied": False}, "as its config says"),
        ({}, {"hidden_size": 33}, "expected 33, the hidden_size"),
        ({}, {"dtype": "float64"}, "in float64"),
        ({}, {"peft_type": "LORA"}, "is of the method LORA; expected REFTUNE"),
        ({}, {"positions": "x"}, "positions 'x'"),
        ({}, {"format_version": 9}, "format_version=9"),
        ({}, {"act_fn": []}, "holds a field that has no meaning"),
        ({}, {"modules_to_save": 3}, "modules_to_save=3"),
    ],
)
def test_adapters_that_contradict_themselves(tensors, config, says, adapter, tmp_path):
    file = adapter / "adapter_model.safetensors"
    changed = {n: t for n, t in (load_file(file) | tensors).items() if t is not None}
    save_file(changed, file, metadata={"format": "pt"})
    stored = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(stored | config))
    with pytest.raises(ValueError, match=re.escape(says)):
        to_pyreft(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torn_and_missing_adapters(adapter, tmp_path):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is torn, or no safetensors file"):
        to_pyreft(adapter, tmp_path / "out")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="expected a folder with adapter_model"):
        to_pyreft(adapter, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="expected a folder with adapter_config"):
        to_pyreft(tmp_path / "nowhere", tmp_path / "out")


def test_the_command_says_on_stderr_what_it_assumed(checkpoint, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["convert", str(checkpoint), out, "--positions", "l2", "--tied"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    lines = printed.err.splitlines()
    assert lines[0] == "reftune: positions l2, as given: pyreft does not store them"
    assert all(line.startswith("reftune: ") for line in lines)
    assert main(["convert", out, str(tmp_path / "back"), "--to", "pyreft"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'back'}\n"
    assert {path.name for path in (tmp_path / "back").iterdir()} == {
        path.name for path in checkpoint.iterdir()
    }


def test_the_command_refuses_in_one_line(checkpoint, adapter, tmp_path, capsys):
    out = str(tmp_path / "out")
    start, positions = ["convert", str(checkpoint), out], ["--positions", "l1"]
    fails(capsys, start, "--positions: expected e.g. f3+l3")
    fails(capsys, [*start, *positions, "--to", "pyreft"], "only with --to reftune")
    fails(capsys, [*start, "--to", "pyreft"], "expected a folder with adapter_config.json")
    fails(capsys, [*start, *positions, "--untied"], "said to be untied")
    fails(capsys, [*start, *positions, "--tied", "--untied"], "not allowed with")
    fails(capsys, [*start, *positions, "--base-model", f"{tmp_path}/no"], "no such folder")
    fails(capsys, ["convert", "no/such/folder", out, *positions], "no such folder")
    fails(capsys, ["convert", str(adapter), out, *positions], "or --to pyreft")
    fails(capsys, ["convert", str(checkpoint), str(checkpoint), *positions], "is what is converted")
    fails(capsys, ["convert", str(checkpoint), str(adapter), *positions], "--overwrite")
    assert not (tmp_path / "out").exists()
