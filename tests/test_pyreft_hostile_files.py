"""A malformed or hostile checkpoint gets one sentence that names the file, and nothing happens."""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from reftune.pyreft.checkpoints.reading import read_checkpoint, read_states
from tests.pyreft_golden import CHECKPOINTS

MODERN = "intkey_layer_1_comp_block_output_unit_pos_nunit_1#0.bin"
ORIGINAL = "rotate_layer.parametrizations.weight.original"
BASE = "rotate_layer.parametrizations.weight.0.base"


@pytest.fixture(params=["loreft", "direft", "noreft", "consreft"])
def folder(request, tmp_path) -> Path:
    copy = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / request.param, copy)
    return copy


@pytest.fixture
def loreft(tmp_path) -> Path:
    copy = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / "loreft", copy)
    return copy


def refused(folder: Path, *says: str, kind: type[Exception] = ValueError) -> None:
    """Reading raises one sentence that says all of `says`, and changes nothing."""
    before = {path: path.lstat().st_mtime_ns for path in folder.parent.rglob("*")}
    with pytest.raises(kind) as caught:
        read_checkpoint(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert "checkpoint" in text  # the folder's name, so the file is named
    for part in says:
        assert part in text
    assert before == {path: path.lstat().st_mtime_ns for path in folder.parent.rglob("*")}


def state_of(folder: Path) -> dict:
    return dict(torch.load(folder / MODERN, weights_only=True))


def rewritten(folder: Path, **changes) -> None:
    """Write the state with other tensors; `None` leaves one out."""
    state = state_of(folder) | changes
    torch.save({name: value for name, value in state.items() if value is not None}, folder / MODERN)


class Bomb:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_pickle_does_not_run(folder, tmp_path):
    marker = tmp_path / "ran"
    torch.save(state_of(folder) | {"bias": Bomb(marker)}, folder / MODERN)
    refused(folder, MODERN, "more than tensors")
    (folder / MODERN).write_bytes(pickle.dumps({"weight": Bomb(marker)}))
    refused(folder, MODERN, "not written by torch.save")
    assert not marker.exists()


def test_code_in_the_model_file_does_not_run(loreft, tmp_path):
    torch.save({"score.weight": Bomb(tmp_path / "ran")}, loreft / "pytorch_model.bin")
    refused(loreft, "pytorch_model.bin", "more than tensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file(folder, keep):
    whole = (folder / MODERN).read_bytes()
    (folder / MODERN).write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else keep])
    refused(folder, MODERN, "torn")


def test_a_file_with_a_damaged_list_of_tensors(loreft):
    whole = bytearray((loreft / MODERN).read_bytes())
    start = whole.index(b"ctorch._utils") if b"ctorch._utils" in whole else whole.index(b"torch")
    for place in range(start, start + 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0x5A
        (loreft / MODERN).write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match=r"checkpoint/intkey"):
            read_states(loreft)


def test_a_legacy_file(loreft):
    torch.save(state_of(loreft), loreft / MODERN, _use_new_zipfile_serialization=False)
    refused(loreft, MODERN, "not written by torch.save")


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"weight": 1.0}, {1: 2}])
def test_a_file_that_holds_something_else(loreft, content):
    torch.save(content, loreft / MODERN)
    refused(loreft, MODERN, "expected")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(4, 16, dtype=torch.complex64),
        torch.ones(4, 16).to_sparse(),
        torch.ones(4, 16).to(torch.float8_e4m3fn),
        torch.ones(4, 16, device="meta"),
    ],
    ids=lambda tensor: str(tensor.dtype),
)
def test_tensors_of_other_kinds(loreft, tensor):
    rewritten(loreft, weight=tensor)
    refused(loreft, MODERN, "weight")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(folder, value):
    name = next(name for name, tensor in state_of(folder).items() if tensor.is_floating_point())
    tensor = state_of(folder)[name].clone()
    tensor.view(-1)[-1] = value
    rewritten(folder, **{name: tensor})
    refused(folder, MODERN, name, "not finite")


def test_integers_for_matrices(folder):
    name = next(name for name, tensor in state_of(folder).items() if tensor.is_floating_point())
    rewritten(folder, **{name: state_of(folder)[name].long()})
    refused(folder, MODERN, name, "expected floats")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bias": torch.ones(3)}, "do not fit each other"),
        ({"bias": torch.ones(4, 1)}, "do not fit each other"),
        ({"weight": torch.ones(4, 15)}, "do not fit each other"),
        ({"weight": torch.ones(64)}, "do not fit each other"),
        ({"rotate_layer": torch.eye(16)[:, :3]}, "do not fit each other"),
        ({"rotate_layer": torch.eye(16)[:4]}, "the rotation is of shape (4, 16)"),
        ({"rotate_layer": torch.ones(16, 0)}, "the rotation is of shape (16, 0)"),
        ({"rotate_layer": torch.ones(2, 16, 4)}, "the rotation is of shape (2, 16, 4)"),
        ({"rotate_layer": torch.ones(16, 4)}, "not orthonormal"),
        ({"rotate_layer": torch.eye(16)[:, :4] * 1.01}, "not orthonormal"),
        ({"bias": None}, "expected a state of LoreftIntervention"),
        ({"more": torch.ones(1)}, "expected a state of LoreftIntervention"),
    ],
)
def test_tensors_that_do_not_fit(loreft, changes, says):
    rewritten(loreft, **changes)
    refused(loreft, MODERN, says)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("direft", {BASE: torch.eye(15)}, "an orthogonal parametrization of shapes"),
        ("direft", {BASE: 2 * torch.eye(16)}, "not orthonormal"),
        ("direft", {ORIGINAL: -torch.eye(16)[:, :4] * 0.9}, "not orthonormal"),
        ("direft", {ORIGINAL: torch.ones(4, 16)}, "an orthogonal parametrization of shapes"),
        ("direft", {"embed_dim": torch.tensor(17)}, "'embed_dim' is 17; expected the width, 16"),
        ("direft", {"embed_dim": torch.ones(30)}, "'embed_dim' is (30,)"),
        ("noreft", {"proj_layer.weight": torch.ones(17, 16)}, "do not fit each other"),
        ("noreft", {"proj_layer.bias": torch.ones(5)}, "do not fit each other"),
        ("noreft", {"proj_layer.weight": torch.ones(0, 16)}, "do not fit each other"),
        ("consreft", {"learned_source": torch.ones(5)}, "do not fit each other"),
    ],
)
def test_tensors_of_the_others_that_do_not_fit(name, changes, says, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / name, folder)
    rewritten(folder, **changes)
    refused(folder, MODERN, says)


def test_tensors_larger_than_their_file(loreft):
    """A view that repeats one number fills no file, but would fill the memory."""
    storage = torch.ones(1)
    rewritten(loreft, weight=storage.expand(10**6, 10**7))
    refused(loreft, MODERN, "weight", "expected tensors that fit into it")


def test_compressed_files(loreft):
    packed = io.BytesIO()
    with zipfile.ZipFile(loreft / MODERN) as archive, zipfile.ZipFile(packed, "w") as out:
        for member in archive.infolist():
            out.writestr(member.filename, archive.read(member), zipfile.ZIP_DEFLATED)
    (loreft / MODERN).write_bytes(packed.getvalue())
    refused(loreft, MODERN, "not compressed")


def test_a_table_of_contents_that_exceeds_its_file(loreft):
    whole = (loreft / MODERN).read_bytes()
    place = whole.rindex(b"PK\x01\x02")  # the last entry; its two sizes are at 20 and 24
    sizes = (2**31).to_bytes(4, "little") * 2
    (loreft / MODERN).write_bytes(whole[: place + 20] + sizes + whole[place + 28 :])
    refused(loreft, MODERN, "not as torch.save writes it")


@pytest.mark.parametrize(("name", "size"), [(MODERN, 2**30 + 1), ("config.json", 10 * 2**20 + 1)])
def test_absurd_sizes(loreft, name, size):
    with (loreft / name).open("r+b") as file:
        file.truncate(size)  # sparse: it takes no room on the disk
    refused(loreft, name, f"has {size} bytes")


@pytest.mark.parametrize("name", [MODERN, "config.json", "pytorch_model.bin"])
def test_links_that_lead_out(loreft, name, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    if (loreft / name).exists():
        shutil.move(loreft / name, outside / "file")
    else:
        torch.save({}, outside / "file")
    (loreft / name).symlink_to(outside / "file")
    refused(loreft, name, "leads out of its folder")


def test_an_inner_folder_that_leads_out(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "intervenable_model").symlink_to(CHECKPOINTS / "loreft")
    refused(tmp_path / "checkpoint", "intervenable_model", "leads out of its folder")


def test_folders_pipes_and_dangling_links_in_place_of_files(loreft):
    (loreft / MODERN).unlink()
    (loreft / MODERN).symlink_to("nowhere")
    refused(loreft, MODERN, "no such file", kind=FileNotFoundError)
    (loreft / MODERN).unlink()
    (loreft / MODERN).mkdir()
    refused(loreft, MODERN, "not a plain file")
    (loreft / MODERN).rmdir()
    os.mkfifo(loreft / MODERN)
    refused(loreft, MODERN, "not a plain file")


def test_names_that_are_no_keys_or_the_same_key(loreft):
    dotted = MODERN.replace("layer_1_comp_", "layer.1.comp.").replace(
        "_unit_pos_nunit_", ".unit.pos.nunit."
    )
    shutil.copy(loreft / MODERN, loreft / dotted)
    refused(loreft, MODERN, dotted, "the same edit")
    (loreft / dotted).rename(loreft / "intkey_what.bin")
    refused(loreft, "intkey_what.bin", "expected a name such as")


def test_missing_folders_and_files(loreft, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_checkpoint(tmp_path / "nowhere")
    (tmp_path / "checkpoint_empty").mkdir()
    refused(tmp_path / "checkpoint_empty", "holds no intkey_")
    (loreft / MODERN).unlink()
    refused(loreft, f"lacks {MODERN}", kind=FileNotFoundError)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"representations": []}, "expected a list of them"),
        ({"representations": "x"}, "expected a list of them"),
        ({"representations": [[1] * 15] * 2}, "at most 14 values"),
        ({"representations": [3, 4]}, "at most 14 values"),
        ({"representations": [[1.5, "block_output"]] * 2}, "expected a layer index"),
        ({"representations": [[True, "block_output"]] * 2}, "expected a layer index"),
        ({"representations": [[1, "../../x"], [3, "block_output"]]}, "sorted_keys are"),
        ({"representations": [[1, None]] * 2}, "expected a layer index"),
        ({"representations": [[1, "block_output", "pos", 1, -4]] * 2}, "expected a layer index"),
        ({"sorted_keys": ["a", "b"]}, "sorted_keys are ['a', 'b']"),
        ({"sorted_keys": 3}, "sorted_keys are 3"),
        ({"intervention_types": ["x"]}, "intervention_types are ['x']"),
        ({"intervention_types": None}, "intervention_types are None"),
        ({"intervention_types": ["<class 'os.system; x'>"] * 2}, "expected e.g."),
        ({"intervention_dimensions": [16]}, "intervention_dimensions are [16]"),
        ({"intervention_dimensions": [17, 17]}, "expected rank 4 and width 17"),
    ],
)
def test_configs_that_do_not_fit(loreft, changes, says):
    file = loreft / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    refused(loreft, "config.json", says)


def test_a_rank_that_the_config_contradicts(loreft):
    file = loreft / "config.json"
    config = json.loads(file.read_text())
    config["representations"][0][4] = 5
    file.write_text(json.dumps(config))
    refused(loreft, MODERN, "has rank 4 and width 16: expected rank 5")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100_000, "\x00", '{"representations": NaN}']
)
def test_configs_that_are_none(loreft, text):
    (loreft / "config.json").write_text(text)
    refused(loreft, "config.json")


def test_a_class_is_never_imported(loreft, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    file = loreft / "config.json"
    types = ["<class 'evil.Mine'>"] * 2
    file.write_text(json.dumps(json.loads(file.read_text()) | {"intervention_types": types}))
    assert read_checkpoint(loreft).edits[0].intervention == "Mine"
