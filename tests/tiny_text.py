"""Tokenizers and a Llama small enough to build in a test, with no download."""

import json
import os
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHARED = Path(os.environ.get("REFTUNE_ASSETS", Path(__file__).parents[2] / "shared"))

CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = [
    "Below is an instruction that describes a task. Write a response.",
    "The quick brown fox jumps over the lazy dog: 12 + 34 = 46, or not?",
    "What is the capital of France? Paris is the capital of France.",
]
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>"]


def byte_level(chat: bool = False, bos: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2's kind: bytes, a space belongs to the word after it, no BOS unless asked for."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    return _wrap(raw, chat, bos)


def metaspace(chat: bool = False) -> PreTrainedTokenizerFast:
    """Llama-2's kind: a space is put before the first word; BOS in front."""
    split = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = split
    trainer = trainers.BpeTrainer(vocab_size=180, special_tokens=SPECIALS, show_progress=False)
    learner.train_from_iterator(TEXT, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = learned["vocab"] | {f"<0x{b:02X}>": len(learned["vocab"]) + b for b in range(256)}
    merges = [tuple(pair) for pair in learned["merges"]]
    raw = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>"))
    raw.pre_tokenizer = split
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _wrap(raw, chat, bos=True)


def _wrap(raw: Tokenizer, chat: bool, bos: bool) -> PreTrainedTokenizerFast:
    raw.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=SPECIALS[4:],
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def tiny_llama(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int = 16, num_hidden_layers: int = 2
) -> LlamaForCausalLM:
    """A random small Llama for this tokenizer, always the same one."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


def save_tiny_model(folder: Path, chat: bool = False, **shape: int) -> None:
    """Write a tiny model and its tokenizer where `from_pretrained` finds both."""
    tokenizer = byte_level(chat=chat)
    tiny_llama(tokenizer, **shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
