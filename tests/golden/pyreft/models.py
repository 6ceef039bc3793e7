"""The tiny models that are edited, and their inputs; a part of `make_golden.py`."""

import zlib

import torch
import transformers

TOKENS = {"vocab_size": 64, "initializer_range": 0.3}  # so wide that four layers do something
SMALL = {**TOKENS, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "llama": {
        "model": "LlamaForCausalLM",
        "config": "LlamaConfig",
        "arguments": {
            **SMALL,
            **IDS,
            "num_hidden_layers": 4,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-6,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
        },
    },
    "gpt2": {
        "model": "GPT2LMHeadModel",
        "config": "GPT2Config",
        "arguments": {
            **TOKENS,
            **IDS,
            "n_embd": 16,
            "n_layer": 3,
            "n_head": 2,
            "n_positions": 32,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": False,
            **dict.fromkeys(["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.0),
        },
    },
    "roberta": {
        "model": "RobertaForSequenceClassification",
        "config": "RobertaConfig",
        "arguments": {
            **SMALL,
            "num_hidden_layers": 3,
            "max_position_embeddings": 32,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "num_labels": 3,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            **dict.fromkeys(["hidden_dropout_prob", "attention_probs_dropout_prob"], 0.0),
        },
    },
}
# Rows of so many tokens, the first `prompts` of them prompt. "spare" has pyreft's extra padding
# token in front, where the places that a short prompt leaves empty go.
INPUTS = {
    "right": {"lengths": [6, 4, 5], "prompts": [4, 3, 3], "side": "right"},
    "left": {"lengths": [6, 4, 5], "prompts": [4, 3, 3], "side": "left"},
    "spare": {"lengths": [6, 4, 4], "prompts": [5, 2, 3], "side": "right", "spare": True},
    # With a prompt of one token pyreft gives untied edits lists of unequal lengths, and fails.
    "spare_single": {"lengths": [6, 4, 3], "prompts": [5, 2, 1], "side": "right", "spare": True},
    "equal": {"lengths": [5, 5], "prompts": [5, 5], "side": "right"},
    "uneven": {"lengths": [5, 3], "prompts": [5, 3], "side": "left"},
    "one": {"lengths": [5], "prompts": [5], "side": "right"},
}


def seed(name: str) -> None:
    torch.manual_seed(zlib.crc32(name.encode()))


def build_models() -> dict[str, transformers.PreTrainedModel]:
    models = {}
    for name, how in MODELS.items():
        seed(name)
        config = getattr(transformers, how["config"])(**how["arguments"])
        models[name] = getattr(transformers, how["model"])(config).eval()
        for parameter in models[name].parameters():
            if parameter.dim() == 1:  # norms and biases, which begin at 1 and 0
                parameter.data += 0.1 * torch.randn_like(parameter)
    return models


def build_inputs(shape: dict, pad: int) -> dict[str, list]:
    """Return rows of random tokens as lists, with labels on what follows the prompts."""
    lengths, rows = shape["lengths"], {"input_ids": [], "attention_mask": [], "labels": []}
    for length, prompt in zip(lengths, shape["prompts"], strict=True):
        ids = torch.randint(3, 64, (length,)).tolist()
        empty = max(lengths) - length
        front, back = (empty, 0) if shape["side"] == "left" else (0, empty)
        front += shape.get("spare", False)
        rows["input_ids"].append([pad] * front + ids + [pad] * back)
        rows["attention_mask"].append([0] * front + [1] * length + [0] * back)
        answer = ids[prompt:]
        rows["labels"].append([-100] * (front + prompt) + answer + [-100] * back)
    return rows
