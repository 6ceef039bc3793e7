"""What a `ReftModel` saves comes back, and what cannot come back says so."""

import json

import pytest
import torch
from torch import nn

from reftune import pyreft
from tests.pyreft_models import IDS, LLAMA, D, at, loreft, run, wrapped
from tests.tiny_models import ENCODERS

PLACES = {"unit_locations": {"base": [1, 4]}}
SIX = ["Loreft", "Noreft", "Consreft", "Lobireft", "Direft", "Nodireft"]


def edit(kind: str, **settings) -> nn.Module:
    torch.manual_seed(1)
    made = getattr(pyreft, f"{kind}Intervention")(embed_dim=D, low_rank_dimension=2, **settings)
    for name, parameter in made.named_parameters():
        if "rotate" not in name:
            nn.init.normal_(parameter, std=0.5)
    return made


@pytest.mark.parametrize("settings", [{}, {"act_fn": "relu", "dropout": 0.25}], ids=str)
@pytest.mark.parametrize("kind", SIX)
def test_a_save_comes_back(kind, settings, tmp_path):
    reft_model = wrapped(
        {"layer": 1, "intervention": edit(kind, **settings)},
        {"component": "model.layers[2].mlp.output", "intervention": edit(kind, add_bias=True)},
    )
    reft_model.save(str(tmp_path / "save"))
    base = LLAMA.build()
    loaded = pyreft.ReftModel.load(str(tmp_path / "save"), base).eval()
    expected = run(reft_model, **PLACES)
    torch.testing.assert_close(run(loaded, **PLACES), expected)
    assert (expected - run(loaded, unit_locations={"base": 5})).abs().max() > 0.01
    assert loaded.sorted_keys == reft_model.sorted_keys
    [first, _] = loaded.interventions.values()
    assert first.dropout.p == settings.get("dropout", 0.0)


def test_what_was_trained_of_the_model_comes_back(tmp_path):
    model = ENCODERS[1].build()
    reft_model = wrapped(
        {"component": "roberta.encoder.layer[1].output", "intervention": loreft()}, model=model
    )
    reft_model.model.classifier.requires_grad_(True)
    nn.init.normal_(model.classifier.out_proj.weight)
    reft_model.save(str(tmp_path), include_model=True)
    loaded = pyreft.ReftModel.load(str(tmp_path), ENCODERS[1].build(), include_model=True).eval()
    torch.testing.assert_close(run(loaded, **PLACES), run(reft_model, **PLACES))
    plain = pyreft.ReftModel.load(str(tmp_path), ENCODERS[1].build()).eval()
    assert (run(plain, **PLACES) - run(reft_model, **PLACES)).abs().max() > 0.01


def test_interventions_alone_come_back_into_those_that_are_there(tmp_path):
    reft_model = wrapped(at(0, 0), at(2, 1))
    reft_model.save_intervention(str(tmp_path))
    assert not (tmp_path / "config.json").exists()
    other = wrapped(at(0, 5), at(2, 6))
    other.load_intervention(str(tmp_path))
    torch.testing.assert_close(run(other, **PLACES), run(reft_model, **PLACES))
    # LoReFT is known by its tensors, so that even a model can be made of it.
    torch.testing.assert_close(
        run(pyreft.ReftModel.load(str(tmp_path), LLAMA.build()).eval(), **PLACES),
        run(reft_model, **PLACES),
    )


def test_a_save_replaces_an_older_one(tmp_path):
    wrapped(at(0, 0)).save(str(tmp_path))
    reft_model = wrapped(at(0, 1))
    reft_model.save(str(tmp_path))
    loaded = pyreft.ReftModel.load(str(tmp_path), LLAMA.build()).eval()
    torch.testing.assert_close(run(loaded, **PLACES), run(reft_model, **PLACES))


class Doubling(pyreft.LoreftIntervention):
    """A class of a user's own."""

    def forward(self, base, source=None, subspaces=None):
        return 2 * super().forward(base, source, subspaces)


def test_a_class_of_ones_own_comes_back_where_it_is_defined(tmp_path):
    made = Doubling(embed_dim=D, low_rank_dimension=2)
    representation = {"layer": 1, "low_rank_dimension": 2, "intervention": made}
    reft_model = wrapped(representation)
    reft_model.save(str(tmp_path))
    loaded = pyreft.ReftModel.load(str(tmp_path), LLAMA.build()).eval()
    [one] = loaded.interventions.values()
    assert type(one) is Doubling
    torch.testing.assert_close(run(loaded, **PLACES), run(reft_model, **PLACES))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("Doubling", "Missing"))
    with pytest.raises(ValueError, match="Missing, which is a class of your own"):
        pyreft.ReftModel.load(str(tmp_path), LLAMA.build())


def test_a_checkpoint_that_does_not_tell_its_classes_says_what_to_do(tmp_path):
    reft_model = wrapped({"layer": 1, "intervention": edit("Noreft")})
    reft_model.save_intervention(str(tmp_path))
    with pytest.raises(ValueError, match=r"NoreftIntervention.*get_reft_model.*load_intervention"):
        pyreft.ReftModel.load(str(tmp_path), LLAMA.build())


def shorten(state: dict) -> dict:
    return {name: tensor[..., :16] for name, tensor in state.items()}


@pytest.mark.parametrize("case", ["layers", "width", "missing", "none"])
def test_a_checkpoint_that_does_not_fit_leaves_the_model_alone(case, tmp_path):
    reft_model = wrapped(at(0, 0), at(2, 1))
    reft_model.save(str(tmp_path))
    model = LLAMA.build(num_hidden_layers=2) if case == "layers" else LLAMA.build()
    [file, _] = sorted(tmp_path.glob("*.bin"))
    if case == "width":
        torch.save(shorten(torch.load(file, weights_only=True)), file)
    elif case == "missing":
        file.unlink()
    folder = str(tmp_path / "nothing") if case == "none" else str(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        pyreft.ReftModel.load(folder, model)
    assert len(str(caught.value).splitlines()) == 1
    assert all(not module._forward_hooks for module in model.modules())
    other = wrapped(at(0, 5), at(2, 6))
    before = run(other, **PLACES)
    if case in ("width", "missing"):
        with pytest.raises((ValueError, FileNotFoundError)):
            other.load_intervention(folder)
        assert torch.equal(run(other, **PLACES), before)


def test_the_config_is_pyvenes(tmp_path):
    wrapped(at(2, 1)).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["intervention_types"] == ["<class 'pyreft.interventions.LoreftIntervention'>"]
    assert config["intervention_dimensions"] == [D]
    assert config["sorted_keys"] == ["layer_2_comp_block_output_unit_pos_nunit_1#0"]
    [representation] = config["representations"]
    assert representation[:4] == [2, "block_output", "pos", 1]
    assert len(representation) == 14


def test_a_model_moves_and_generates_after_a_load(tmp_path):
    wrapped(at(1)).save(str(tmp_path))
    loaded = pyreft.ReftModel.load(str(tmp_path), LLAMA.build().bfloat16())
    loaded.set_device("cpu")
    assert run(loaded, **PLACES).dtype == torch.bfloat16
    loaded.generate({"input_ids": IDS, "attention_mask": IDS * 0 + 1}, max_new_tokens=2)


def test_a_checkpoint_of_another_class_is_refused(tmp_path):
    wrapped({"layer": 1, "intervention": edit("Nodireft")}).save(str(tmp_path))
    other = wrapped({"layer": 1, "intervention": edit("Noreft")})
    with pytest.raises(ValueError, match="is a NodireftIntervention: got a model with Noreft"):
        other.load_intervention(str(tmp_path))


def test_edits_that_the_model_has_not_are_told(tmp_path):
    wrapped(at(0, 0), at(1, 1)).save(str(tmp_path))
    with pytest.warns(UserWarning, match=r"has not: \['layer_0"):
        wrapped(at(1, 2)).load_intervention(str(tmp_path))


def test_a_save_leaves_no_edit_of_an_older_one(tmp_path):
    wrapped(at(0, 0)).save(str(tmp_path), include_model=True)
    (tmp_path / "notes.txt").write_text("mine")
    wrapped(at(1, 1)).save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "intkey_layer_1_comp_block_output_unit_pos_nunit_1#0.bin",
        "notes.txt",
    ]
