"""The same outputs as the real pyreft 0.1.0 with pyvene 0.1.8 and transformers 4.45.1."""

import pytest
import torch

from reftune import pyreft
from reftune.pyreft.data.positions import get_intervention_locations
from tests.pyreft_golden import (
    CASES,
    CHECKPOINTS,
    TENSORS,
    TOLERANCE,
    assert_logits,
    batch_of,
    build_model,
    build_reft,
    cases,
    kept,
    locations_of,
)


@pytest.mark.parametrize("name", CASES["models"])
def test_the_models_are_those_that_pyreft_had(name):
    model = build_model(name)
    for key, expected in TENSORS.items():
        if key.startswith(f"base/{name}/"):
            batch, _ = batch_of({"model": name, "inputs": key.split("/")[2]})
            with torch.no_grad():
                logits = kept(model(**batch).logits, batch["attention_mask"])
            torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


# pyvene takes two positions under "base" for a pair of source and base, and edits the second alone.
@cases("forward", lambda case: case["name"] != "pair_base")
def test_a_forward_pass_gives_the_logits_of_pyreft(case):
    model = build_model(case["model"])
    reft = build_reft(case, model, case["name"])
    batch, labels = batch_of(case)
    call = dict(case["call"])
    if "labels" in call:
        call["labels"] = labels
    with torch.no_grad():
        output = reft(batch, unit_locations=locations_of(case), **call)
        unedited = model(**batch).logits
    if call.get("return_dict"):
        output = output.original_outputs, output.intervened_outputs
    original, edited = output
    assert_logits(case, edited.logits, case["name"])
    if call.get("output_original_output"):
        assert torch.equal(original.logits, unedited)
    else:
        assert original is None
    if "labels" in call:
        expected = TENSORS[f"{case['name']}/loss"]
        torch.testing.assert_close(edited.loss, expected, atol=TOLERANCE, rtol=TOLERANCE)


@cases("generation")
def test_generation_gives_the_tokens_of_pyreft(case):
    reft = build_reft(case, build_model(case["model"]), f"generation/{case['name']}")
    batch, _ = batch_of(case)
    original, edited = reft.generate(batch, unit_locations=locations_of(case), **case["call"])
    assert case["tokens"] != case["base_tokens"]
    assert edited.tolist() == case["tokens"]
    if case["call"].get("output_original_output"):
        assert original.tolist() == case["base_tokens"]
    else:
        assert original is None


@cases("generation")
def test_generation_without_a_cache_gives_the_tokens_of_pyreft_with_one(case):
    # Without one, pyreft's own edits are gone after the first token.
    reft = build_reft(case, build_model(case["model"]), f"generation/{case['name']}")
    call = {**case["call"], "use_cache": False}
    edited = reft.generate(batch_of(case)[0], unit_locations=locations_of(case), **call)[1]
    assert edited.tolist() == case["tokens"]


@cases("forward", lambda case: "asked" in case)
def test_the_locations_are_those_of_pyreft(case):
    expected = case["unit_locations"]["sources->base"][1]
    for row, prompt in enumerate(case["prompts"]):
        located = get_intervention_locations(
            last_position=prompt, num_interventions=len(expected), **case["asked"]
        )
        shifted = [[place + case["shift"] for place in places] for places in located]
        assert shifted == [places[row] for places in expected]


@cases("checkpoints", lambda case: not case["name"].startswith("trainer"))
def test_a_saved_folder_gives_the_logits_of_pyreft(case):
    reft = pyreft.ReftModel.load(str(CHECKPOINTS / case["name"]), build_model(case["model"]))
    batch, _ = batch_of(case)
    with torch.no_grad():
        edited = reft(batch, unit_locations=locations_of(case))[1]
    assert_logits(case, edited.logits, f"checkpoints/{case['name']}")


@cases("checkpoints", lambda case: case["name"].startswith("trainer"))
def test_a_folder_of_a_trainer_gives_the_logits_of_pyreft(case):
    reft = build_reft(case, build_model(case["model"]))
    reft.load_intervention(str(CHECKPOINTS / case["name"] / "intervenable_model"))
    batch, _ = batch_of(case)
    with torch.no_grad():
        edited = reft(batch, unit_locations=locations_of(case))[1]
    assert_logits(case, edited.logits, f"checkpoints/{case['name']}")


@cases("checkpoints", lambda case: case["name"] == "bfloat16")
def test_a_folder_in_half_precision_edits_a_model_in_half_precision(case):
    reft = pyreft.ReftModel.load(str(CHECKPOINTS / case["name"]), build_model("llama").bfloat16())
    batch, _ = batch_of(case)
    with torch.no_grad():
        edited = reft(batch, unit_locations=locations_of(case))[1]
    got = kept(edited.logits, batch["attention_mask"]).float()
    # pyreft computes Wh + b in bfloat16 here, ours in float32.
    expected = TENSORS["checkpoints/bfloat16/logits_in_bfloat16"]
    torch.testing.assert_close(got, expected, atol=0.1, rtol=0.02)
