"""What interventions of ours write is what pyreft reads, and the other way round, or nothing is."""

import copy
import json
import math
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from reftune import pyreft
from reftune.pyreft.checkpoints.reading import read_checkpoint
from reftune.pyreft.checkpoints.states import load_state, load_states, pyreft_state
from reftune.pyreft.checkpoints.writing import checkpoint_config, class_text, write_checkpoint
from tests.pyreft_golden import CASES, CHECKPOINTS

KINDS = ("Loreft", "Noreft", "Nodireft", "Direft", "Consreft", "Lobireft")
BASE = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
KEY = "layer_1_comp_block_output_unit_pos_nunit_1#0"


def build(kind: str, rank: int = 4, seed: int = 0, **more) -> nn.Module:
    torch.manual_seed(seed)
    return getattr(pyreft, f"{kind}Intervention")(
        embed_dim=16, low_rank_dimension=rank, add_bias=False, **more
    )


def edited(module: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return module(BASE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_one_that_pyreft_saves(kind):
    saved = read_checkpoint(CHECKPOINTS / kind.lower()).edits[0].state
    found = pyreft_state(build(kind))
    assert set(found) == set(saved)
    for name, tensor in found.items():
        assert (tensor.shape, tensor.dtype) == (saved[name].shape, saved[name].dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_pyreft_gives_the_edit_of_pyreft(kind):
    """The formulas written out, with the matrices as pyreft has them."""
    edit = read_checkpoint(CHECKPOINTS / kind.lower()).edits[0]
    module = build(kind)
    load_state(module, edit.state)
    R, W, b, h = edit.weight, edit.source, edit.bias, BASE
    expected = {
        "Loreft": lambda: h + (h @ W.T + b - h @ R.T) @ R,
        "Noreft": lambda: h + (h @ W.T + b - h @ R.T) @ R,
        "Nodireft": lambda: h + (h @ W.T + b) @ R,
        "Direft": lambda: h + (h @ W.T + b) @ R,
        "Consreft": lambda: h + (b - h @ R.T) @ R,
        "Lobireft": lambda: h + b @ R,
    }[kind]()
    torch.testing.assert_close(edited(module), expected, atol=1e-5, rtol=1e-5)
    assert (expected - h).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same_edit(kind, dtype):
    module, other = build(kind), build(kind, seed=1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.to(dtype))
    given = pyreft_state(module)
    half = {"weight", "bias", "learned_source", "learned_source.weight", "learned_source.bias"}
    state = {name: t.to(dtype) if name in half else t for name, t in given.items()}
    load_state(other, state)
    assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}
    torch.testing.assert_close(edited(other), edited(module), atol=2e-6, rtol=0)


class Mine(pyreft.ConsreftIntervention):
    """Has parameters of its own beside a rotation in our chart."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = nn.Parameter(torch.rand(1))
        self.seen = nn.Buffer(torch.tensor(3))


class Older(pyreft.LoreftIntervention):
    """Keeps its rotation in torch's chart, and loads itself, as scripts copied it from pyreft."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rotate_layer = orthogonal(pyreft.LowRankRotateLayer(self.width, self.rank))

    def load_state_dict(self, state_dict, *args, **kwargs):
        self.learned_source.load_state_dict(state_dict, strict=False)
        with torch.no_grad():
            rotation = self.rotate_layer.parametrizations.weight
            rotation[0].base[:, : self.rank] = state_dict["rotate_layer"]
            rotation.original.copy_(-torch.eye(self.width, self.rank))


class Stubborn(pyreft.NoreftIntervention):
    def load_state_dict(self, state_dict, *args, **kwargs):
        self.proj_layer.weight.data.fill_(math.nan)
        raise AssertionError("we must\nmatch!")


@pytest.mark.parametrize("kind", [Mine, Older])
def test_a_class_of_ones_own_is_saved_and_loaded(kind):
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(kind(embed_dim=16, low_rank_dimension=4))
    assert not torch.allclose(edited(made[0]), edited(made[1]), atol=1e-2)
    state = pyreft_state(made[0])
    if kind is Mine:
        assert "rotate_layer.parametrizations.weight.0.base" in state
        made[0].seen.fill_(5)
        state = pyreft_state(made[0])
    load_state(made[1], state)
    torch.testing.assert_close(edited(made[1]), edited(made[0]), atol=2e-6, rtol=0)
    if kind is Mine:
        assert torch.equal(made[1].scale, made[0].scale)
        assert made[1].seen == 5


def test_a_state_that_holds_no_tensors_is_refused():
    class Odd(nn.Module):
        def state_dict(self, *args, **kwargs):
            return {"weight": [1]}

    with pytest.raises(ValueError, match="holds 'weight', which is list: expected tensors"):
        pyreft_state(Odd())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weight": torch.ones(5, 16)}, "do not fit each other"),
        ({"weight": torch.ones(4, 17), "rotate_layer": torch.eye(17)[:, :4]}, "shape"),
        ({"rotate_layer": torch.ones(16, 4)}, "not orthonormal"),
        ({"bias": None}, "cannot be loaded|lacks"),
        ({"weight": torch.ones(4, 16, dtype=torch.long)}, "expected floats"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(changes, says):
    modules = {"a": build("Loreft"), "b": build("Loreft", seed=1)}
    before = {key: edited(module) for key, module in modules.items()}
    good = pyreft_state(build("Loreft", seed=2))
    bad = {name: tensor for name, tensor in (good | changes).items() if tensor is not None}
    with pytest.raises(ValueError, match=says) as caught:
        load_states(modules, {"a": good, "b": bad}, "the folder")
    assert str(caught.value).startswith("the folder, b")
    assert all(torch.equal(edited(module), before[key]) for key, module in modules.items())


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_other_classes_ranks_and_widths_are_refused(kind):
    module = build(kind)
    with pytest.raises(ValueError, match="the state"):
        load_state(module, pyreft_state(build(kind, rank=3)))
    for other in KINDS:
        alike = {"Noreft": "Nodireft", "Consreft": "Lobireft"}
        pairs = alike | {value: key for key, value in alike.items()}
        taken = (kind, pairs.get(kind), "Direft" if kind == "Loreft" else None)
        if other not in taken:
            with pytest.raises(ValueError, match="the state"):
                load_state(module, pyreft_state(build(other)))


def test_missing_states_are_refused_and_others_passed_over():
    module = build("Loreft")
    with pytest.raises(ValueError, match=r"has no b: got \['a'\]"):
        load_states({"b": module}, {"a": pyreft_state(module)})
    load_states({"a": module}, {"a": pyreft_state(module), "b": {}})
    load_states({"a": module, "c": nn.Identity()}, {"a": pyreft_state(module)})


def test_a_class_that_fails_half_way_leaves_everything_as_it_was():
    stubborn = Stubborn(embed_dim=16, low_rank_dimension=4, add_bias=False)
    modules = {"a": build("Loreft"), "b": stubborn}
    before = {key: edited(module) for key, module in modules.items()}
    states = {"a": pyreft_state(build("Loreft", seed=1)), "b": pyreft_state(stubborn)}
    with pytest.raises(ValueError, match=r"into Stubborn \(we must match!\)"):
        load_states(modules, states)
    assert all(torch.equal(edited(module), before[key]) for key, module in modules.items())


@pytest.mark.parametrize("case", CASES["checkpoints"][:6], ids=lambda case: case["name"])
def test_the_config_is_the_one_that_pyreft_writes(case):
    saved = json.loads((CHECKPOINTS / case["name"] / "config.json").read_text())
    found = checkpoint_config(
        [(one["layer"], one["component"], "pos", 1, 4) for one in case["representations"]],
        [getattr(pyreft, one["kind"]) for one in case["representations"]],
        [16] * len(case["representations"]),
    )
    assert found | {"transformers_version": None} == saved | {"transformers_version": None}


def test_classes_are_written_by_the_names_that_pyreft_imports():
    ours = class_text(pyreft.DireftIntervention)
    assert ours == class_text("DireftIntervention")
    assert ours == "<class 'pyreft.interventions.DireftIntervention'>"
    assert class_text(Mine) == f"<class '{__name__}.Mine'>"


def test_what_is_written_is_read(tmp_path):
    module = build("Direft")
    config = checkpoint_config([(1, "block_output", "pos", 1, 4)], [type(module)], [16])
    folder = tmp_path / "a" / "b"
    write_checkpoint(folder, config, {KEY: pyreft_state(module)}, {"score.weight": torch.ones(2)})
    checkpoint = read_checkpoint(folder)
    assert checkpoint.config == json.loads(json.dumps(config))
    assert checkpoint.edits[0].intervention == "DireftIntervention"
    torch.testing.assert_close(checkpoint.edits[0].weight, module.rows(), atol=1e-6, rtol=0)
    assert torch.equal(checkpoint.model_state["score.weight"], torch.ones(2))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b"}
    assert oct(folder.stat().st_mode & 0o777) == oct((tmp_path / "a").stat().st_mode & 0o777)


def test_the_file_of_a_view_is_no_larger_than_the_view(tmp_path):
    state = {"weight": torch.ones(1000, 100)[:2], "rotate_layer": torch.ones(2, 100).T}
    write_checkpoint(tmp_path / "x", None, {KEY: state})
    assert (tmp_path / "x" / f"intkey_{KEY}.bin").stat().st_size < 6000


def test_a_failed_write_changes_nothing(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / "loreft", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = {"representations": object()}
    with pytest.raises(TypeError):
        write_checkpoint(folder, config, {KEY: OrderedDict(weight=torch.ones(2))})
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(ValueError, match="can be the name of a file"):
        write_checkpoint(folder, None, {"../x": {}})
    with pytest.raises(NotADirectoryError, match="is a file"):
        write_checkpoint(folder / "config.json", None, {})


@pytest.mark.parametrize("clear", [True, False])
def test_an_older_checkpoint_stays_or_goes(clear, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / "loreft", folder)
    (folder / "notes.txt").write_text("mine")
    write_checkpoint(folder, None, {KEY: pyreft_state(build("Loreft"))}, clear=clear)
    names = {path.name for path in Path(folder).iterdir()}
    kept = {"config.json", f"intkey_{KEY.replace('layer_1', 'layer_3')}.bin"}
    assert names == {f"intkey_{KEY}.bin", "notes.txt"} | (set() if clear else kept)


def test_copies_of_an_intervention_are_saved_alike():
    module = build("Lobireft")
    assert set(pyreft_state(copy.deepcopy(module))) == set(pyreft_state(module))


@pytest.mark.parametrize("kind", ["Loreft", "Consreft", "Lobireft", "Direft"])
def test_a_loaded_rotation_turns_as_far_at_a_step_as_a_new_one(kind):
    build = getattr(pyreft, f"{kind}Intervention")
    made = build(embed_dim=8, low_rank_dimension=2)
    loaded = build(embed_dim=8, low_rank_dimension=2)
    load_state(loaded, pyreft_state(made))
    for one in (made, loaded):
        free = one.rotate_layer.parametrizations.weight.original
        torch.testing.assert_close(free.norm(dim=0), torch.full((2,), 0.5))
