"""The prompts of pyreft's data sets, and how they become token ids and labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100

# Stanford Alpaca's prompts under the names that pyreft's users import.
no_header_prompt_template = """\
### Instruction:
%s

### Response:
"""
prompt_no_input = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n" + no_header_prompt_template
)
prompt_input = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:\n"
)

# What transformers gives a tokenizer of unknown maximum length is far above; the number itself is
# too large for a tokenizer to be cut to.
_UNLIMITED = 10**18


def alpaca_prompt(row: Mapping[Any, Any], instruction_field: str, input_field: str | None) -> str:
    """Write the Alpaca prompt of a row; a row may lack the input, or have an empty one."""
    if input_field not in row or row[input_field] == "":
        return prompt_no_input % row[instruction_field]
    return prompt_input % (row[instruction_field], row[input_field])


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """Return `(length,)` int64: the ids with special tokens, cut to the tokenizer's maximum."""
    limit = tokenizer.model_max_length
    cut = {"truncation": True, "max_length": limit} if limit < _UNLIMITED else {}
    return torch.tensor(tokenizer(text, **cut)["input_ids"], dtype=torch.long)


def stopped(tokenizer: PreTrainedTokenizerBase, text: str, no_stop: bool = False) -> str:
    """Close a text with the end-of-sequence token, unless it shall not stop.

    Raises:
        ValueError: the tokenizer has none.
    """
    if no_stop:
        return text
    if tokenizer.eos_token is None:
        raise ValueError(
            "the tokenizer has no end-of-sequence token: set tokenizer.eos_token, or train "
            "without a stop (nonstop=True, in ReftSupervisedDataset no_stop=True)"
        )
    return text + str(tokenizer.eos_token)


def masked(ids: Tensor, prompt_length: int) -> Tensor:
    """Return labels `(length,)`: a copy of the ids with `IGNORE_INDEX` on the prompt."""
    labels = ids.clone()
    labels[:prompt_length] = IGNORE_INDEX
    return labels


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the padding token.

    Raises:
        ValueError: the tokenizer has none.
    """
    pad = tokenizer.pad_token_id
    if not isinstance(pad, int):
        raise ValueError(
            "the tokenizer has no padding token: set tokenizer.pad_token first, e.g. to "
            "tokenizer.unk_token or tokenizer.eos_token"
        )
    return pad
