"""The shape of the tiny chat model, in one place."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pretraining.tokenizer import BOS, END, PAD, SPECIALS


def build_model(vocab_size: int, hidden: int, layers: int, heads: int, ff: int) -> LlamaForCausalLM:
    """Make an untrained Llama with tied embeddings and half as many key heads as heads."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        intermediate_size=ff,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=SPECIALS.index(BOS),
        eos_token_id=SPECIALS.index(END),
        pad_token_id=SPECIALS.index(PAD),
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
    return model
