"""pyreft's data sets of pairs: a rejected answer to steer away from, and two answers to rank."""

from typing import Any

import torch

from reftune.pyreft.data.datasets import ReftDataset, option
from reftune.pyreft.data.templates import (
    IGNORE_INDEX,
    alpaca_prompt,
    masked,
    pad_id,
    stopped,
    token_ids,
)


class ReftPreferenceDataset(ReftDataset):
    """The rejected answer as input, the chosen one as labels, in Alpaca's prompt.

    `last_position` is the prompt's length, so `l1` is its last token. In a split other than
    `"train"` the rows are the prompts alone.

    Args:
        input_field: the column of the input; rows may lack it, or have an empty one.
        instruction_field: the column of the instruction.
        chosen_output_field: the column of the better answer.
        rejected_output_field: the column of the worse answer.
    """

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the names of the columns."""
        self.input_field = option(kwargs, "input_field", self)
        self.instruction_field = option(kwargs, "instruction_field", self)
        self.chosen_output_field = option(kwargs, "chosen_output_field", self)
        self.rejected_output_field = option(kwargs, "rejected_output_field", self)

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise the prompt; in training, fill up both answers to one length."""
        tokenizer = self.tokenizer
        prompt = alpaca_prompt(data_item, self.instruction_field, self.input_field)
        prompt_ids = token_ids(tokenizer, prompt)
        if self.data_split != "train":
            return {"input_ids": prompt_ids}, len(prompt_ids)
        rejected, chosen = (
            token_ids(tokenizer, stopped(tokenizer, prompt + data_item[field]))
            for field in (self.rejected_output_field, self.chosen_output_field)
        )
        pair = torch.nn.utils.rnn.pad_sequence(
            [rejected, masked(chosen, len(prompt_ids))],
            batch_first=True,
            padding_value=IGNORE_INDEX,
        )
        ids, labels = pair[0].clone(), pair[1].clone()
        ids[len(rejected) :] = pad_id(tokenizer)
        return {"input_ids": ids, "labels": labels}, len(prompt_ids)


class ReftRewardDataset(ReftDataset):
    """Two conversations from the tokenizer's chat template, for a reward model.

    The prompt is what both begin with: `last_position` is the first place where they differ, or,
    if one begins with the whole other, the last place of the shorter.

    Args:
        conv_A_field: the column of the better conversation, a list of messages.
        conv_B_field: the column of the worse one.
        prompt_field: the column of the user's prompt; then the two are the assistant's answers.
        conv_A_reward_field: the column of the reward of A.
        conv_B_reward_field: the column of the reward of B; where it is higher, the two are swapped.
    """

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the names of the columns."""
        self.conv_A_field = option(kwargs, "conv_A_field", self)
        self.conv_B_field = option(kwargs, "conv_B_field", self)
        self.prompt_field = kwargs.get("prompt_field")
        self.conv_A_reward_field = kwargs.get("conv_A_reward_field")
        self.conv_B_reward_field = kwargs.get("conv_B_reward_field")
        self.fields_to_pad = ["chosen_output", "rejected_output"]
        self.fields_to_mask = ["chosen_output", "rejected_output"]

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise both conversations, the better one as `chosen_output`."""
        result = {}
        texts = [self._render(data_item, field) for field in (self.conv_A_field, self.conv_B_field)]
        if self.conv_A_reward_field is not None:
            rewards = [data_item[self.conv_A_reward_field], data_item[self.conv_B_reward_field]]
            if rewards[0] < rewards[1]:
                texts.reverse()
                rewards.reverse()
            result["chosen_reward"], result["rejected_reward"] = rewards
        chosen, rejected = (token_ids(self.tokenizer, text) for text in texts)
        result["chosen_output"], result["rejected_output"] = chosen, rejected
        shorter = min(len(chosen), len(rejected))
        differ = (chosen[:shorter] != rejected[:shorter]).nonzero()
        return result, int(differ[0]) if len(differ) else shorter - 1

    def _render(self, data_item: Any, field: str) -> str:
        messages = data_item[field]
        if self.prompt_field is not None:
            messages = [
                {"role": "user", "content": data_item[self.prompt_field]},
                {"role": "assistant", "content": messages},
            ]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=False
        )
        # The tokenizer puts the opening token in front again.
        return text.replace(self.tokenizer.bos_token or "", "")
