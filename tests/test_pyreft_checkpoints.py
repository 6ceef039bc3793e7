"""Reading every save of pyreft: configs, Trainer's folders, dtypes and devices, the hub."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from reftune.pyreft.checkpoints import folders
from reftune.pyreft.checkpoints.folders import fetch
from reftune.pyreft.checkpoints.reading import read_checkpoint, read_states
from tests.pyreft_golden import CASES, CHECKPOINTS
from tests.tiny_text import SHARED

SAMPLE = SHARED / "data" / "pyreft_checkpoints" / "llama32-1b"
KEY = "layer_1_comp_block_output_unit_pos_nunit_1#0"
MODERN = f"intkey_{KEY}.bin"
DOTTED = "intkey_layer.1.comp.block_output.unit.pos.nunit.1#0.bin"
FIRST = "intkey_layer.1.repr.block_output.unit.pos.nunit.1#0.bin"


def copied(name: str, folder: Path) -> Path:
    """Return a copy of a checkpoint that pyreft saved."""
    copy = folder / name
    shutil.copytree(CHECKPOINTS / name, copy)
    return copy


def edit_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("case", CASES["checkpoints"], ids=lambda case: case["name"])
def test_what_pyreft_saved_is_read(case):
    described = case["representations"]
    checkpoint = read_checkpoint(
        CHECKPOINTS / case["name"],
        described[0]["kind"] if case["name"].startswith("trainer") else None,
    )
    assert checkpoint.has_config == (not case["name"].startswith("trainer"))
    assert len(checkpoint.edits) == len(described)
    for edit, wanted in zip(checkpoint.edits, described, strict=True):
        assert edit.intervention == wanted["kind"]
        assert edit.component == wanted["component"]
        if "." not in edit.component:
            assert edit.layer == wanted["layer"]
        state = edit.state
        assert torch.equal(edit.weight, rows_of(state))
        bias = [state[n] for n in ("bias", "learned_source.bias", "learned_source") if n in state]
        assert torch.equal(edit.bias, bias[0].float())
        source = [state[name] for name in ("weight", "learned_source.weight") if name in state]
        assert (edit.source is None) == (not source)
        assert edit.source is None or torch.equal(edit.source, source[0].float())
        assert (edit.projection_bias is None) == (case["name"] != "noreft_bias")


def rows_of(state: dict) -> torch.Tensor:
    """Return R or W2 as pyreft has it, R by torch's own parametrization."""
    if "proj_layer.weight" in state:
        return state["proj_layer.weight"]
    if "rotate_layer" in state:
        return state["rotate_layer"].mT
    own = {name: value for name, value in state.items() if name.startswith("rotate_layer.")}
    d, r = own["rotate_layer.parametrizations.weight.original"].shape
    layer = orthogonal(nn.Linear(r, d, bias=False))
    layer.load_state_dict({name.removeprefix("rotate_layer."): v for name, v in own.items()})
    return layer.weight.detach().mT


def test_the_model_of_a_trainer_is_the_classifier_or_nothing():
    classifier = read_checkpoint(CHECKPOINTS / "trainer_classifier").model_state
    assert {name.split(".")[0] for name in classifier} == {"classifier"}
    assert read_checkpoint(CHECKPOINTS / "trainer").model_state == {}


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample (set REFTUNE_ASSETS)")
def test_a_checkpoint_that_somebody_published_is_read():
    checkpoint = read_checkpoint(SAMPLE)
    found = [(edit.layer, edit.occurrence, edit.dtype) for edit in checkpoint.edits]
    assert found == [(layer, k, "bfloat16") for k in (0, 1) for layer in (8, 15)]
    for edit in checkpoint.edits:
        assert (edit.intervention, edit.component) == ("LoreftIntervention", "block_output")
        assert edit.weight.shape == edit.source.shape == (2, 2048)
        assert edit.weight.dtype == edit.source.dtype == edit.bias.dtype == torch.float32
        assert torch.equal(edit.weight.mT, edit.state["rotate_layer"])


def test_a_folder_of_the_trainer_may_be_given_either_way(tmp_path):
    folder = copied("trainer", tmp_path)
    outer, inner = read_checkpoint(folder), read_checkpoint(folder / "intervenable_model")
    assert outer.path == inner.path == folder / "intervenable_model"
    assert [edit.layer for edit in outer.edits] == [1, 3]
    with pytest.raises(ValueError, match="its checkpoints are trainer"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [DOTTED, FIRST])
@pytest.mark.parametrize("with_config", [True, False])
def test_older_names_of_files_are_found(name, with_config, tmp_path):
    folder = copied("loreft", tmp_path)
    (folder / MODERN).rename(folder / name)
    if with_config:
        keys = json.loads((folder / "config.json").read_text())["sorted_keys"]
        edit_config(
            folder,
            sorted_keys=[
                key.replace("_comp_block_output_", ".comp.block_output.")
                .replace("layer_", "layer.")
                .replace("unit_pos_nunit_", "unit.pos.nunit.")
                for key in keys
            ],
        )
    else:
        (folder / "config.json").unlink()
    assert read_checkpoint(folder).edits[0].key == KEY


@pytest.mark.parametrize("length", [5, 12, 13, 14])
@pytest.mark.parametrize("as_dict", [True, False])
def test_representations_of_every_version_are_read(length, as_dict, tmp_path):
    folder = copied("loreft", tmp_path)
    names = ("layer", "component", "unit", "max_number_of_units", "low_rank_dimension")
    values = [[i, "block_output", "pos", 1, 4] + [None] * (length - 5) for i in (1, 3)]
    dicts = [dict(zip(names, one, strict=False)) | {"moe_key": None} for one in values]
    edit_config(folder, representations=dicts if as_dict else values)
    assert [edit.layer for edit in read_checkpoint(folder).edits] == [1, 3]


def test_without_a_config_the_edits_run_in_pyrefts_order(tmp_path):
    folder = copied("untied", tmp_path)
    named = [edit.key for edit in read_checkpoint(folder).edits]
    (folder / "config.json").unlink()
    checkpoint = read_checkpoint(folder)
    assert [edit.key for edit in checkpoint.edits] == named
    assert [(e.layer, e.occurrence) for e in checkpoint.edits] == [(1, 0), (3, 0), (1, 1), (3, 1)]


def test_the_class_is_known_from_the_tensors_or_asked_for(tmp_path):
    for name, other in (("noreft", "Nodireft"), ("consreft", "Lobireft")):
        folder = copied(name, tmp_path)
        (folder / "config.json").unlink()
        with pytest.raises(ValueError, match=rf'expected intervention="{name.title()}.*{other}'):
            read_checkpoint(folder)
        assert read_checkpoint(folder, f"{other}Intervention").edits[0].bias is not None
        with pytest.raises(ValueError, match="expected a state of LoreftIntervention"):
            read_checkpoint(folder, "LoreftIntervention")
    for name in ("loreft", "direft"):
        folder = copied(name, tmp_path)
        (folder / "config.json").unlink()
        assert read_checkpoint(folder).edits[0].intervention == f"{name.title()}Intervention"


def test_a_class_of_ones_own_is_kept_by_its_name_and_read_as_another_if_asked(tmp_path):
    folder = copied("loreft", tmp_path)
    edit_config(folder, intervention_types=["<class '__main__.run.<locals>.Mine'>"] * 2)
    edit = read_checkpoint(folder).edits[0]
    assert (edit.intervention, edit.module, edit.weight) == ("Mine", "__main__.run.<locals>", None)
    assert set(edit.state) == {"weight", "bias", "rotate_layer"}
    assert read_checkpoint(folder, "LoreftIntervention").edits[0].weight.shape == (4, 16)
    edit_config(
        folder, intervention_types=["<class 'pyreft.interventions.LoreftIntervention'>"] * 2
    )
    with pytest.raises(ValueError, match="is a LoreftIntervention, says its"):
        read_checkpoint(folder, "DireftIntervention")


def test_early_states_of_loreft_in_torchs_chart_are_read(tmp_path):
    folder = copied("direft", tmp_path)
    edit_config(
        folder, intervention_types=["<class 'pyreft.interventions.LoreftIntervention'>"] * 2
    )
    edit = read_checkpoint(folder).edits[0]
    assert torch.equal(edit.weight, read_checkpoint(CHECKPOINTS / "direft").edits[0].weight)


def test_a_file_that_the_config_does_not_name_is_said(tmp_path):
    folder = copied("loreft", tmp_path)
    shutil.copy(folder / MODERN, folder / MODERN.replace("layer_1", "layer_2"))
    checkpoint = read_checkpoint(folder)
    assert checkpoint.unused == (MODERN.replace("layer_1", "layer_2"),)
    assert len(checkpoint.edits) == 2
    assert len(read_states(folder)) == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype_is_read_and_told(dtype, tmp_path):
    folder = copied("loreft", tmp_path)
    state = torch.load(folder / MODERN, weights_only=True)
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, folder / MODERN)
    edit = read_checkpoint(folder).edits[0]
    assert edit.dtype == str(dtype).removeprefix("torch.")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert edit.source.dtype == edit.weight.dtype == wide
    assert torch.equal(edit.source, state["weight"].to(dtype).to(wide))


def test_tensors_of_another_machine_come_to_the_cpu(tmp_path, monkeypatch):
    folder = copied("loreft", tmp_path)
    state = torch.load(folder / MODERN, weights_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(state, folder / MODERN)
    assert b"cuda:0" in (folder / MODERN).read_bytes()
    assert read_checkpoint(folder).edits[0].source.device.type == "cpu"


def test_the_hub_is_asked_for_the_files_of_a_checkpoint_alone(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, allow_patterns, local_dir, local_files_only):
        assert not local_files_only
        asked.update(name=name, patterns=allow_patterns, local=local_dir)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert fetch("owner/name", "there") == tmp_path
    assert (asked["name"], asked["local"]) == ("owner/name", "there")
    assert set(asked["patterns"]) == {
        f"{place}{file}" for place in ("", "intervenable_model/") for file in folders.FILES
    }
    assert fetch(tmp_path) == tmp_path
    for name in ("./nowhere", "a/b/c", "/nowhere", "~/x"):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            fetch(name)


def test_the_links_of_the_hubs_cache_are_followed(tmp_path):
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((CHECKPOINTS / "loreft").iterdir())):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert len(read_checkpoint(snapshot).edits) == 2
