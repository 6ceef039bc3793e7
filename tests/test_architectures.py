"""Encoders, models with two stacks, and pictures: the prompt is all there is."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import BertForTokenClassification

from reftune import ReftConfig
from reftune.attached import layers_of
from tests.adapters import COMPLETION, GREEDY, PROMPTS, logits, padded, shake
from tests.tiny_models import ENCODERS, SEQ2SEQ, VISION


@pytest.mark.parametrize("architecture", ENCODERS, ids=lambda a: a.name)
def test_encoders_edit_the_tokens_of_each_text_and_train_their_head(architecture, tmp_path):
    config = ReftConfig(layers="all", r=1, positions="f2+l1", task_type="SEQ_CLS", init="paper")
    model = get_peft_model(architecture.build(), config)
    shake(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("modules_to_save" in name for name in trained)
    batch = padded(PROMPTS, "right")
    model(**batch, labels=torch.tensor([0, 1, 0, 1, 0])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    together = logits(model, **batch)
    alone = torch.cat([logits(model, input_ids=torch.tensor([p])) for p in PROMPTS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(architecture.build(), tmp_path).eval()
    assert torch.equal(logits(again, **batch), together)


def test_token_classification_labels_are_no_completion():
    torch.manual_seed(0)
    base = BertForTokenClassification(ENCODERS[0].config()).eval()
    model = get_peft_model(base, ReftConfig(layers=[1], positions="l1", task_type="TOKEN_CLS"))
    shake(model)
    batch = padded(PROMPTS[2:], "right")
    labels = torch.where(batch["attention_mask"] > 0, 1, -100)
    labels[:, 0] = -100
    with torch.no_grad():
        with_labels = model(**batch, labels=labels).logits
    assert torch.equal(with_labels, logits(model, **batch))


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_both_sides_of_an_encoder_and_decoder(stack):
    base = SEQ2SEQ[0].build()
    config = ReftConfig(
        layers=[0, 2],
        component=f"{stack}.block_output",
        positions="f2+l2",
        task_type="SEQ_2_SEQ_LM",
    )
    model = get_peft_model(base, config).eval()
    shake(model)
    batch = padded(PROMPTS, "right")
    labels = torch.tensor([COMPLETION] * len(PROMPTS))
    together = logits(model, **batch, labels=labels)
    for row, prompt in enumerate(PROMPTS):
        alone = logits(model, input_ids=torch.tensor([prompt]), labels=labels[:1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)
    with torch.no_grad(), model.disable_adapter():
        assert not torch.allclose(together, base(**batch, labels=labels).logits)
    # Teacher-forced logits are those that generation sees.
    output = model.generate(
        **batch, **{**GREEDY, "min_new_tokens": 4}, output_logits=True, return_dict_in_generate=True
    )
    forced = logits(model, **batch, labels=output.sequences[:, 1:].contiguous())
    torch.testing.assert_close(torch.stack(output.logits, dim=1), forced, atol=1e-4, rtol=1e-4)
    beams = model.generate(**batch, **GREEDY, num_beams=2)
    one = model.generate(input_ids=torch.tensor([PROMPTS[3]]), **GREEDY, num_beams=2)
    assert beams[3].tolist() == one[0].tolist()


def test_pictures_have_positions_too():
    model = get_peft_model(VISION[0].build(), ReftConfig(layers=[1], positions="f1")).eval()
    shake(model)
    (layer,) = layers_of(model)
    changed = {}

    def compare(module, args, output):
        changed["hidden"] = output

    module = model.get_base_model().get_submodule(layer.settings["default"].site.module)
    pixels = torch.randn(2, 3, 16, 16)
    handle = module.register_forward_hook(compare)
    logits(model, pixel_values=pixels)
    edited = changed["hidden"]
    with model.disable_adapter():
        logits(model, pixel_values=pixels)
    handle.remove()
    different = (edited != changed["hidden"]).any(-1)
    assert different[:, 0].all()
    assert not different[:, 1:].any()
