"""Byte-level BPE with whole emoji as single tokens, and the chat template."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, END, SYSTEM, USER, ASSISTANT = (
    "<|pad|>",
    "<|bos|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
SPECIALS = [PAD, BOS, END, SYSTEM, USER, ASSISTANT]
MASK = "<|mask|>"  # of the encoder, after these

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim }}"
    "{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def train_tokenizer(
    texts: Iterable[str], emoji: list[str], words: int, masked: bool = False
) -> PreTrainedTokenizerFast:
    """Learn ``words`` byte-level pieces from ``texts`` and add every emoji as one token.

    Args:
        texts: to learn from.
        emoji: to add.
        words: how many pieces, single bytes and special tokens among them.
        masked: whether to have a token for masked ones.

    Emoji are added as ordinary (not special) tokens, so that decoding with
    ``skip_special_tokens=True`` keeps them.
    """
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[*SPECIALS, MASK] if masked else SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_tokens([AddedToken(e, normalized=False) for e in sorted(emoji, key=len, reverse=True)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer's files, the chat template as a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
