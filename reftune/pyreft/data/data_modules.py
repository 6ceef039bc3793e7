"""pyreft's data modules: from prompts and outputs to what a pyreft trainer is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import datasets
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from reftune.pyreft.data.collators import ReftDataCollator
from reftune.pyreft.data.positions import get_intervention_locations, parse_positions
from reftune.pyreft.data.templates import IGNORE_INDEX, masked, stopped, token_ids


def make_last_position_supervised_data_module(
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    num_interventions: int = 1,
    nonstop: bool = False,
) -> dict[str, Any]:
    """Make the data of a training that edits the last token of the prompt.

    Args:
        tokenizer: needs an end-of-sequence token, unless `nonstop`.
        model: the model, for the collator; may be None.
        inputs: the prompts, with everything that belongs to a prompt.
        outputs: what the model shall answer, one for each prompt.
        num_interventions: how many lists of positions each row gets.
        nonstop: leave out the end-of-sequence token.

    Returns:
        `train_dataset`, a `datasets.Dataset` of `input_ids`, `intervention_locations`
        (interventions × positions) and `labels`, -100 on the prompt; `eval_dataset`, None;
        `data_collator`. They are the keyword arguments of a pyreft trainer.

    Raises:
        ValueError: there are not as many outputs as inputs, a prompt has no token, or the
            tokenizer has no end-of-sequence token.
    """

    def last(length: int) -> list[list[int]]:
        return [[length - 1] for _ in range(num_interventions)]

    return _data_module(tokenizer, model, inputs, outputs, nonstop, last)


# In pyreft 0.1.0 the two are the same: the inputs have been through a chat template already.
make_last_position_supervised_chat_data_module = make_last_position_supervised_data_module


def make_multiple_position_supervised_data_module(
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    positions: str = "f1+l1",
    num_interventions: int = 1,
    nonstop: bool = False,
    share_weights: bool = False,
) -> dict[str, Any]:
    """Make the data of a training that edits the first and the last tokens of the prompt.

    As `make_last_position_supervised_data_module`, except for the positions. `l1` is the prompt's
    last token here. What a short prompt lacks is filled up with the first token of the output,
    which is then edited too.

    Args:
        tokenizer: needs an end-of-sequence token, unless `nonstop`.
        model: the model, for the collator; may be None.
        inputs: the prompts.
        outputs: what the model shall answer, one for each prompt.
        positions: such as `"f3+l3"`, `"f3"` or `"l1"`.
        num_interventions: how many lists of positions each row gets.
        nonstop: leave out the end-of-sequence token.
        share_weights: whether first and last tokens have the same interventions.

    Raises:
        ValueError: as there, or the positions are malformed, or the number of interventions is odd
            where first and last tokens have their own.
    """
    first_n, last_n = parse_positions(positions)

    def several(length: int) -> list[list[int]]:
        return get_intervention_locations(
            last_position=length,
            first_n=first_n,
            last_n=last_n,
            pad_mode="last",
            num_interventions=num_interventions,
            share_weights=share_weights,
        )

    return _data_module(tokenizer, model, inputs, outputs, nonstop, several)


def _data_module(
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nonstop: bool,
    locate: Callable[[int], list[list[int]]],
) -> dict[str, Any]:
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs: expected as many")
    columns: dict[str, list[Any]] = {"input_ids": [], "intervention_locations": [], "labels": []}
    for number, (prompt, output) in enumerate(zip(inputs, outputs, strict=True)):
        length = len(token_ids(tokenizer, prompt))
        if not length:
            raise ValueError(
                f"inputs[{number}] {prompt!r}: expected a prompt of at least one token"
            )
        ids = token_ids(tokenizer, stopped(tokenizer, prompt + output, nonstop))
        columns["input_ids"].append(ids.tolist())
        columns["intervention_locations"].append(locate(length))
        columns["labels"].append(masked(ids, length).tolist())
    collator = DataCollatorForSeq2Seq(
        tokenizer=tokenizer, model=model, label_pad_token_id=IGNORE_INDEX, padding="longest"
    )
    return {
        "train_dataset": datasets.Dataset.from_dict(columns),
        "eval_dataset": None,
        "data_collator": ReftDataCollator(data_collator=collator),
    }
