"""A small random RoBERTa without a head, with its tokenizer, and rows that it can learn."""

import json
from pathlib import Path

import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from tests.tiny_text import byte_level

WORDS = {"positive": "good fine", "negative": "bad poor"}


def pair_level() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with RoBERTa's frame: `<s> A </s> </s> B </s>`."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    return tokenizer


def save_roberta(folder: Path, width: int = 16) -> None:
    """Write an encoder, always the same one, and its tokenizer."""
    tokenizer = pair_level()
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        type_vocab_size=1,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows(count: int, shift: int = 0) -> list[dict]:
    """Texts that say good or bad, in an order without a pattern, and their labels."""
    found = []
    for number in range(shift, shift + count):
        label = list(WORDS)[(number * 7 // 3) % 2]
        word = WORDS[label].split()[number % 2]
        found.append({"text": f"{word} film {number}", "label": label})
    return found


def write_rows(file: Path, given: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in given))
