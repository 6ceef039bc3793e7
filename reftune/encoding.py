"""From a row to token ids and labels.

The border between prompt and completion never disagrees: the prompt is tokenised once, by
`encode_prompt`, in training and in generation alike, and the ids of the completion are appended to
it. Labels are -100 on the prompt, so the loss falls on the completion alone.
"""

import logging
from dataclasses import dataclass

from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from reftune.rendering import Rendered, Template, render

LOG = logging.getLogger(__name__)

IGNORED = -100

# Texts whose last token does not swallow the beginning of what follows; tried in this order.
ANCHORS = ("\n", ":", "|")


@dataclass(frozen=True)
class Encoded:
    """The ids of one training row; ``labels`` is -100 on the prompt. Both have the same length.

    ``cut_prompt`` and ``cut_completion`` say what was cut to make the row fit.
    """

    input_ids: list[int]
    labels: list[int]
    cut_prompt: bool
    cut_completion: bool


@dataclass
class Dropped:
    """What `encode_dataset` left out or cut short, in rows."""

    empty_prompt: int = 0
    empty_completion: int = 0
    cut_completion: int = 0
    cut_prompt: int = 0

    @property
    def rows(self) -> int:
        """The number of rows left out."""
        return self.empty_prompt + self.empty_completion

    def __str__(self) -> str:
        return (
            f"{self.rows} rows dropped ({self.empty_prompt} without prompt, "
            f"{self.empty_completion} without completion); to fit the maximum length, "
            f"{self.cut_completion} completions were cut at their end and "
            f"{self.cut_prompt} prompts at their beginning"
        )


def encode_prompt(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenise the prompt exactly as it is handed to the model, in training and in generation.

    A plain prompt gets the tokenizer's own special tokens, as in ``tokenizer(prompt)``; a prompt
    from a chat template has them in its text already.
    """
    return _ids(rendered.prompt, tokenizer, special=not rendered.complete)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase, special: bool) -> list[int]:
    return tokenizer(text, add_special_tokens=special, truncation=False)["input_ids"]  # type: ignore[return-value]


def encode_completion(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenise the completion alone, closed by the end-of-sequence token.

    Where the tokens of prompt + completion begin with the tokens of the prompt, the rest of them
    is taken: tokenised alone, a completion would begin with a space that nobody wrote (in
    tokenizers of the SentencePiece kind). Where the border falls within a token, the completion is
    tokenised after a short text instead.
    """
    text, eos = rendered.completion or "", str(tokenizer.eos_token or "")
    if eos and text.rstrip().endswith(eos):
        text = text.rstrip()  # templates end lines; generation has stopped before that
    ids = _ids(text, tokenizer, special=False)
    for before in (rendered.prompt, *ANCHORS):
        head = _ids(before, tokenizer, special=False)
        whole = _ids(before + text, tokenizer, special=False)
        if whole[: len(head)] == head:
            ids = whole[len(head) :]
            break
    if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
        ids = [*ids, tokenizer.eos_token_id]  # type: ignore[list-item]
    return ids


def encode(rendered: Rendered, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Make ids and labels of one training row of at most ``max_length`` tokens.

    A row that is too long loses the end of its completion (and so its end-of-sequence token), down
    to one token; if the prompt alone is too long, the prompt also loses its beginning, except for
    the special tokens that open it (BOS, the header of the first turn). One prompt token and one
    label always stay.

    Raises:
        ValueError: ``max_length`` is below 2, or there is no prompt or no completion.
    """
    check_max_length(max_length)
    prompt = encode_prompt(rendered, tokenizer)
    if not prompt or not rendered.completion:
        raise ValueError(f"a row without prompt or completion cannot be trained on: {rendered}")
    completion = encode_completion(rendered, tokenizer)
    kept = _cut_left(prompt, max_length - 1, set(tokenizer.all_special_ids))
    answer = completion[: max_length - len(kept)]
    return Encoded(
        input_ids=kept + answer,
        labels=[IGNORED] * len(kept) + answer,
        cut_prompt=len(kept) < len(prompt),
        cut_completion=len(answer) < len(completion),
    )


def check_max_length(max_length: int) -> None:
    """Check how long rows may be.

    Raises:
        ValueError: it is below 2.
    """
    if max_length < 2:
        raise ValueError(
            f"max_length {max_length}: expected at least 2, a prompt token and a label"
        )


def _cut_left(prompt: list[int], room: int, special: set[int]) -> list[int]:
    if len(prompt) <= room:
        return prompt
    opening = next((i for i, token in enumerate(prompt) if token not in special), len(prompt))
    opening = min(opening, room - 1)  # the last token is where the answer begins: it always stays
    return prompt[:opening] + prompt[len(prompt) - (room - opening) :]


def encode_dataset(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 512,
    template: Template = "auto",
) -> tuple[Dataset, Dropped]:
    """Encode all rows for training; rows without prompt or completion are dropped and counted.

    Returns:
        A dataset with the columns ``input_ids`` and ``labels`` (lists of one length per row), and
        the counts of what was dropped or cut, which are also logged as a warning.

    Raises:
        ValueError: a row has no known form, or no row is left.
    """
    dropped = Dropped()
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    bar = tqdm(rows, desc="tokenising", unit="row", leave=False, disable=len(rows) < 1000)
    for number, row in enumerate(bar, start=1):
        rendered = render(dict(row), tokenizer, template, where=f"row {number}")
        if not rendered.prompt.strip():
            dropped.empty_prompt += 1
        elif not (rendered.completion or "").strip():
            dropped.empty_completion += 1
        else:
            one = encode(rendered, tokenizer, max_length)
            ids.append(one.input_ids)
            labels.append(one.labels)
            dropped.cut_prompt += one.cut_prompt
            dropped.cut_completion += one.cut_completion
    if not ids:
        raise ValueError(f"no row is left to train on: {dropped}")
    if dropped != Dropped():
        LOG.warning("%s", dropped)
    return Dataset.from_dict({"input_ids": ids, "labels": labels}), dropped
