"""What a forward pass does not tell is an error; what it tells in odd ways is understood."""

from functools import partial

import pytest
import torch
import transformers as tf
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from reftune import ReftConfig
from reftune.attached import layers_of, planners_of
from reftune.layer import InterventionLayer
from tests.adapters import (
    COMPLETION,
    GREEDY,
    IDS,
    LLAMA,
    PROMPTS,
    TOLERANCE,
    adapted,
    logits,
    padded,
    pair,
    shake,
)
from tests.tiny_models import TinyModel

MAMBA = TinyModel(
    "mamba",
    partial(
        tf.Mamba2Config,
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=2,
        num_heads=8,
        head_dim=8,
        state_size=8,
        n_groups=2,
    ),
    "Mamba2ForCausalLM",
)


def test_labels_without_a_prompt_are_refused_with_their_rows():
    model = adapted(layers=[0]).train()
    batch = padded([[5, 6, 7], [8, 9, 10]], "right")
    labels = torch.tensor([[-100, 6, 7], [8, 9, 10]])
    with pytest.raises(ValueError, match=r"rows \[1\]: labels with no prompt token before"):
        model(**batch, labels=labels)
    batch = padded([[5, 6, 7], [8, 9]], "left")
    labels = torch.tensor([[-100, 6, 7], [-100, 8, 9]])
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        model(**batch, labels=labels)


def test_packed_rows_without_borders_are_refused():
    model = adapted(layers=[0])
    labels = torch.tensor([[-100, 6, 7, -100, 9]])
    with pytest.raises(ValueError, match=r"rows \[0\]: labels begin a second time"):
        model(torch.tensor([[5, 6, 7, 8, 9]]), labels=labels)
    restart = torch.tensor([[0, 1, 2, 0, 1]])
    model(torch.tensor([[5, 6, 7, 8, 9]]), labels=labels, position_ids=restart)


def test_packed_plain_text_is_refused():
    model = adapted(layers=[0])
    batch = {"input_ids": torch.tensor([[5, 6, 7, 8, 9]])}
    batch["position_ids"] = torch.tensor([[0, 1, 2, 0, 1]])
    borders = {"cu_seq_lens_q": torch.tensor([0, 3, 5], dtype=torch.int32)}
    plain = torch.tensor([[-100, 6, 7, -100, 9]])  # as collators make labels of it
    with pytest.raises(ValueError, match=r"rows \[0\]: labels from the second token of a packed"):
        model(**batch, **borders, labels=plain)
    model(**batch, labels=plain)
    model(**batch, **borders, labels=torch.tensor([[-100, -100, 7, -100, -100]]))
    everywhere = adapted(layers=[0], positions="all", decode="all").train()
    every = everywhere(**batch, **borders, labels=batch["input_ids"]).logits
    mask = torch.ones_like(batch["input_ids"])
    assert torch.equal(every, everywhere(**batch, labels=plain, prompt_mask=mask).logits)


def test_a_training_step_without_labels_is_refused():
    model = adapted(layers=[0]).train()
    with pytest.raises(ValueError, match=r"without labels.*expected labels \(-100"):
        model(IDS)
    model(IDS, prompt_mask=torch.ones_like(IDS))
    with torch.no_grad():
        model(IDS)
    model.eval()(IDS)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"write_index": IDS}, "continuous batching"),
        ({"labels": IDS[:, 1:]}, r"labels \(1, 10\): expected \(1, 11\)"),
        ({"prompt_mask": torch.ones(2, 11)}, r"prompt_mask \(2, 11\)"),
        ({"attention_mask": torch.ones(1, 1, 11, 11)}, r"attention_mask \(1, 1, 11, 11\)"),
    ],
    ids=["continuous batching", "labels", "prompt_mask", "attention_mask"],
)
def test_inputs_that_do_not_tell_are_refused_and_leave_nothing_behind(inputs, message):
    model = adapted(layers=[0])
    expected = logits(model)
    with pytest.raises(ValueError, match=message):
        model(input_ids=IDS, **inputs)
    assert torch.equal(logits(model), expected)
    with pytest.raises(ValueError, match=r"prompt_mask \(1, 3\): expected \(1, 11\)"):
        model.generate(input_ids=IDS, prompt_mask=torch.ones(1, 3), **GREEDY)
    assert torch.equal(logits(model), expected)


def test_an_exception_within_generate_leaves_nothing_behind():
    model, reference = pair(LLAMA, positions="l1")

    def stop(ids, scores):
        raise KeyError("stop")

    with pytest.raises(KeyError):
        model.generate(input_ids=IDS, logits_processor=[stop], **GREEDY)
    tokens = PROMPTS[3] + COMPLETION
    expected = reference.logits(tokens, len(tokens))
    torch.testing.assert_close(
        logits(model, input_ids=torch.tensor([tokens]))[0], expected, **TOLERANCE
    )


def test_a_mask_may_cover_a_static_cache_to_its_end():
    model, reference = pair(LLAMA, positions="f1+l2", decode="all")
    cache = tf.StaticCache(model.config, max_cache_len=16)
    mask = torch.zeros(1, 16, dtype=torch.long)
    mask[:, : len(PROMPTS[3])] = 1
    got = logits(model, input_ids=IDS, attention_mask=mask, past_key_values=cache)[0]
    torch.testing.assert_close(got, reference.logits(PROMPTS[3], 11), **TOLERANCE)


def test_a_hole_in_a_row_is_no_border():
    model, _ = pair(LLAMA, positions="l2")
    (planner,) = planners_of(model)
    mask = torch.tensor([[0, 1, 1, 0, 1, 1, 1]])
    ids = torch.tensor([[0, 5, 6, 0, 7, 8, 9]])
    logits(model, input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(0))
    used = planner._selections[planner.groups[0]].used
    assert used[0, :, 0].nonzero()[:, 0].tolist() == [5, 6]


@pytest.mark.parametrize("cached", [True, False])
def test_a_recurrent_model_edits_nothing_after_the_prompt(cached):
    model = get_peft_model(MAMBA.build(), ReftConfig(layers=[0], positions="f2+l1")).eval()
    shake(model)
    one = model.generate(input_ids=IDS, use_cache=True, **GREEDY)
    assert torch.equal(one, model.generate(input_ids=IDS, use_cache=False, **GREEDY))
    with torch.no_grad():
        cache = model(IDS, use_cache=True).cache_params
        with pytest.raises(ValueError, match="recurrent cache"):
            model(IDS[:, :1], cache_params=cache)


def test_guidance_is_refused():
    model = adapted(layers=[0])
    with pytest.raises(ValueError, match=r"guidance_scale=1\.5"):
        model.generate(input_ids=IDS, guidance_scale=1.5, **GREEDY)


def test_an_edited_layer_on_its_own_is_refused():
    model = adapted(layers=[0])
    logits(model)
    layer = model.get_base_model().model.layers[0]
    with pytest.raises(RuntimeError, match="outside of the forward of LlamaForCausalLM"):
        layers_of(model)[0]._edit_output(layer, (), torch.zeros(1, 11, 32))


def test_the_backbone_may_be_called_alone():
    model, reference = pair(LLAMA, positions="f1+l1")
    base = model.get_base_model()
    with torch.no_grad():
        hidden = base.model(IDS).last_hidden_state
        got = base.lm_head(hidden)[0]
    torch.testing.assert_close(got, reference.logits(PROMPTS[3], 11), **TOLERANCE)


def test_a_picture_tower_counts_its_own_tokens():
    config = tf.CLIPConfig(
        text_config={
            "vocab_size": 96,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "eos_token_id": 2,
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "image_size": 16,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    torch.manual_seed(0)
    base = tf.CLIPModel(config).eval()
    path = "vision_model.encoder.layers.0"
    model = get_peft_model(base, ReftConfig(component=path, positions="l1")).eval()
    shake(model)
    pixels = torch.randn(2, 3, 16, 16)
    batch = padded([[5, 6, 2], [7, 8, 9, 10, 2]], "right")  # as many columns as patches
    with torch.no_grad():
        beside = model(**batch, pixel_values=pixels).image_embeds
        alone = base.get_image_features(pixel_values=pixels)
    alone = getattr(alone, "pooler_output", alone)
    torch.testing.assert_close(beside, alone / alone.norm(dim=-1, keepdim=True))


def test_an_adapter_that_joins_disabled_ones_is_on():
    base = LLAMA.build()
    base.add_adapter(ReftConfig(layers=[0], positions="l1"), adapter_name="a")
    base.disable_adapters()
    with pytest.warns(UserWarning, match="Already found a `peft_config`"):
        base.add_adapter(ReftConfig(layers=[2], positions="l1"), adapter_name="b")
    base.set_adapter("b")
    shake(base, "b")
    together = logits(base, **padded(PROMPTS, "left"))[3]
    torch.testing.assert_close(together, logits(base)[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together, logits(LLAMA.build())[0])


@pytest.mark.parametrize("change", ["missing", "left over", "cast"])
def test_a_file_that_does_not_fit_its_config_is_refused(change, tmp_path):
    adapted(layers=[0, 1]).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("source"))
    if change == "missing":
        del tensors[name]
    elif change == "left over":
        tensors[name.replace("layers.0", "layers.2").replace("layers.1", "layers.2")] = tensors[
            name
        ].clone()
    else:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(tensors, file)
    with pytest.raises(ValueError, match="the file of adapter 'default'"):
        PeftModel.from_pretrained(LLAMA.build(), tmp_path)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_classifier_with_two_stacks_has_no_completion(stack):
    config = tf.BartConfig(
        vocab_size=96,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=80,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    torch.manual_seed(0)
    base = tf.BartForSequenceClassification(config).eval()
    chosen = ReftConfig(component=f"{stack}.block_output", layers=[0], positions="l2")
    model = get_peft_model(base, chosen).eval()
    shake(model)
    rows = [[*prompt, 2] for prompt in PROMPTS]
    together = logits(model, **padded(rows, "right"), labels=torch.zeros(5, dtype=torch.long))
    alone = torch.cat([logits(model, input_ids=torch.tensor([row])) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_a_decoding_step_of_a_prompt_only_adapter_runs_no_edit(monkeypatch):
    model = adapted(layers=[0, 1], positions="f2+l2")
    edited = []
    monkeypatch.setattr(
        InterventionLayer, "edit", lambda layer, hidden: edited.append(hidden.shape) or hidden
    )
    model.generate(input_ids=IDS, **GREEDY)
    assert edited == [(1, IDS.shape[1], 32)] * 2  # both layers in the prefill, and no more
