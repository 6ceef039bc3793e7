"""pyreft's data sets of one text, of prompt and completion, and of Alpaca's rows.

All three pass the prompt's length less one as `last_position`, so the prompt's last token counts
as behind the prompt: `l1` is the last but one. `reftune.pyreft.data.data_modules` does not.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

from reftune.pyreft.data.datasets import ReftDataset, option
from reftune.pyreft.data.templates import alpaca_prompt, masked, stopped, token_ids


class ReftClassificationDataset(ReftDataset):
    """One text per row, and its label as text.

    `l1` is the last but one token of the text.

    Args:
        input_field: the column of the text.
        label_field: the column of the label, whose token ids are the labels; the same column for a
            copy of the text's ids, None for no labels.
    """

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the names of the columns."""
        self.input_field = option(kwargs, "input_field", self)
        self.label_field = option(kwargs, "label_field", self)

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise the text and the label, each for itself."""
        ids = token_ids(self.tokenizer, data_item[self.input_field])
        result = {"input_ids": ids}
        if self.label_field == self.input_field:
            result["labels"] = ids.clone()
        elif self.label_field is not None:
            result["labels"] = token_ids(self.tokenizer, data_item[self.label_field])
        return result, len(ids) - 1


class ReftGenerationDataset(ReftDataset):
    """A prompt and its completion, as they are.

    `l1` is the last but one token of the prompt.

    Args:
        prompt_field: the column of the prompt.
        completion_field: the column of the completion; the end-of-sequence token is added.
    """

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the names of the columns."""
        self.prompt_field = option(kwargs, "prompt_field", self)
        self.completion_field = option(kwargs, "completion_field", self)

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise the prompt, and the prompt with its completion."""
        prompt = data_item[self.prompt_field]
        text = stopped(self.tokenizer, prompt + data_item[self.completion_field])
        return supervised(self.tokenizer, prompt, text)


class ReftSupervisedDataset(ReftDataset):
    """Instruction, input and output in Alpaca's prompt.

    `l1` is the last but one token of the prompt.

    Args:
        no_stop: leave out the end-of-sequence token.
        input_field: the column of the input; rows may lack it, or have an empty one.
        instruction_field: the column of the instruction.
        output_field: the column of the answer.
    """

    def __init__(
        self,
        task: str | None = None,
        data_path: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        data_split: str = "train",
        dataset: Any = None,
        seed: int = 42,
        max_n_example: int | None = None,
        no_stop: bool = False,
        **kwargs: Any,
    ) -> None:
        self.no_stop = no_stop
        super().__init__(
            task, data_path, tokenizer, data_split, dataset, seed, max_n_example, **kwargs
        )

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the names of the columns."""
        self.input_field = option(kwargs, "input_field", self)
        self.output_field = option(kwargs, "output_field", self)
        self.instruction_field = option(kwargs, "instruction_field", self)

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise the prompt, and the prompt with its output."""
        prompt = alpaca_prompt(data_item, self.instruction_field, self.input_field)
        text = stopped(self.tokenizer, prompt + data_item[self.output_field], self.no_stop)
        return supervised(self.tokenizer, prompt, text)


def supervised(
    tokenizer: PreTrainedTokenizerBase, prompt: str, text: str
) -> tuple[dict[str, Any], int]:
    """Return the ids of a text that begins with a prompt, its labels, and the length less one."""
    length = len(token_ids(tokenizer, prompt))
    ids = token_ids(tokenizer, text)
    return {"input_ids": ids, "labels": masked(ids, length)}, length - 1
