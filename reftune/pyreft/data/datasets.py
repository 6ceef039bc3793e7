"""pyreft's data sets of rows with `intervention_locations`, as in `pyreft.dataset` 0.1.0.

Every row gets one padding token in front (or behind): the harmless token that is edited in place
of those that a short prompt lacks. It is masked, as is every token equal to the padding token.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import torch
from datasets import load_dataset
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from reftune.pyreft.data.positions import get_intervention_locations, parse_positions
from reftune.pyreft.data.templates import IGNORE_INDEX, masked, pad_id, stopped, token_ids


def option(kwargs: Mapping[str, Any], name: str, owner: object) -> Any:
    """Return a keyword that a data set cannot do without.

    Raises:
        ValueError: it was not given.
    """
    if name not in kwargs:
        raise ValueError(
            f"{type(owner).__name__} got {sorted(kwargs)}: expected {name}=... among them"
        )
    return kwargs[name]


def choose(rows: Any, count: int | None, seed: int) -> Any:
    """Draw rows at random, from a list the same ones as from a `datasets.Dataset`.

    Raises:
        ValueError: more rows are asked for than there are.
    """
    if count is None:
        return rows
    if count > len(rows):
        raise ValueError(f"max_n_example {count}: expected at most {len(rows)}, the number of rows")
    if isinstance(rows, Sequence):
        order = datasets.Dataset.from_dict({"row": range(len(rows))}).shuffle(seed=seed)["row"]
        return [rows[i] for i in order[:count]]
    return rows.shuffle(seed=seed).select(range(count))


class ReftDataset(Dataset):
    """Base of the data sets: a subclass says in `tokenize` what the prompt of a row is.

    A subclass may set `pad_mode`, `fields_to_pad`, `fields_to_mask` and its own attributes in
    `preprocess`, change `task_dataset` in `postprocess`, and override every other method. A
    subclass with a constructor of its own may call this one without any arguments, which then does
    nothing, and fill itself.

    Args:
        task: the data set's name on the hub; free where the rows are given.
        data_path: its configuration, or a `.json` file.
        tokenizer: needs a padding token.
        data_split: the split to load; `raw_dataset` is kept if it is not `"train"`.
        dataset: the rows, a `datasets.Dataset` or a list of dicts, instead of loading them.
        seed: of the drawing of `max_n_example` rows.
        max_n_example: take so many rows at random.
        **kwargs: `position` (such as `"f3+l3"`), `num_interventions`, `share_weights`, and what
            the subclass wants.

    Attributes:
        result: one dict per row: what `tokenize` made, with the padding token,
            `intervention_locations` (interventions × positions), `id`, `attention_mask`, and
            `subspaces` if the row has them.

    Raises:
        ValueError: `position` is missing or malformed, the tokenizer has no padding token, or
            there are fewer rows than asked for.
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
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if task is None and tokenizer is None and not kwargs:
            return  # as for pyreft 0.0.2, whose base class had no constructor
        self.tokenizer: Any = tokenizer
        self.first_n, self.last_n = parse_positions(option(kwargs, "position", self))
        self.task = task
        self.data_path = data_path
        self.data_split = data_split
        self.dataset = dataset
        self.seed = seed
        self.max_n_example = max_n_example
        self.pad_mode = "first"
        self.fields_to_pad = ["input_ids", "labels"]
        self.fields_to_mask = ["input_ids"]
        self.preprocess(kwargs)
        self.task_dataset = self.load_dataset()
        self.postprocess(kwargs)
        self.result = []
        for i, data_item in enumerate(tqdm(self.task_dataset)):
            tokenized, last_position = self.tokenize(data_item)
            self.result.append(
                self.compute_intervention_and_subspaces(
                    i, data_item, tokenized, last_position, **kwargs
                )
            )

    def preprocess(self, kwargs: dict[str, Any]) -> None:
        """Read the options, before the rows are loaded; for subclasses."""

    def postprocess(self, kwargs: dict[str, Any]) -> None:
        """Change `self.task_dataset`, before the rows are tokenised; for subclasses."""

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Make a row's tensors, and say where its prompt ends; for subclasses.

        Returns:
            At least `input_ids` `(length,)`, and the `last_position` of
            `get_intervention_locations`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tokenize(self, data_item)")

    def __len__(self) -> int:
        return len(self.result)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return copy.deepcopy(self.result[i])

    def load_dataset(self) -> Any:
        """Return the rows that were given, or load them, and draw `max_n_example` of them."""
        rows = self.dataset
        if rows is None:
            tqdm.write(f"loading data for dataset:  {self.data_path}")
            rows = self._load()
        rows = choose(rows, self.max_n_example, self.seed)
        self.raw_dataset = rows if self.data_split != "train" else None
        return rows

    def _load(self) -> Any:
        if self.data_path is not None and self.data_path.endswith(".json"):
            return load_dataset("json", data_files=self.data_path, split="train")
        if self.task is None:
            raise ValueError(f"{type(self).__name__} got no rows: expected task or dataset")
        return load_dataset(self.task, self.data_path, split=self.data_split)

    def get_intervention_locations(self, **kwargs: Any) -> list[list[int]]:
        """Return interventions × positions; see the function of the same name."""
        return get_intervention_locations(**kwargs)

    def compute_intervention_and_subspaces(
        self, id: int, data_item: Any, result: dict[str, Any], last_position: int, **kwargs: Any
    ) -> dict[str, Any]:
        """Complete what `tokenize` made: locations, id, padding token, masks, subspaces."""
        locations = self.get_intervention_locations(
            last_position=last_position,
            first_n=self.first_n,
            last_n=self.last_n,
            pad_mode=self.pad_mode,
            **kwargs,
        )
        pad = pad_id(self.tokenizer)
        for field in self.fields_to_pad:
            if field in result:
                filler = torch.tensor([IGNORE_INDEX if field == "labels" else pad])
                result[field] = self._padded(filler, torch.as_tensor(result[field]))
        if self.pad_mode == "first":
            locations = (torch.as_tensor(locations) + 1).tolist()
        result["intervention_locations"] = locations
        result["id"] = id
        for field in self.fields_to_mask:
            name = f"{field}_mask" if len(self.fields_to_mask) > 1 else "attention_mask"
            result[name] = (result[field] != pad).int()
        if "subspaces" in data_item:
            # pyreft counts tied interventions in halves here, but not above.
            count = option(kwargs, "num_interventions", self)
            count = count // 2 if kwargs.get("share_weights") else count
            result["subspaces"] = [data_item["subspaces"]] * count
        return result

    def _padded(self, filler: Tensor, values: Tensor) -> Tensor:
        if self.pad_mode not in ("first", "last"):
            return values
        return torch.cat((filler, values) if self.pad_mode == "first" else (values, filler))


class ReftRawDataset(ReftDataset):
    """Rows of `instruction` and `output`, without a template.

    `last_position` is the prompt's length, so `l1` is its last token. In a split other than
    `"train"` the rows are the prompts alone.

    Attributes:
        input_ids, attention_mask, intervention_locations, id: one entry per row.
        labels, subspaces: likewise, or None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("input_ids", "attention_mask", "intervention_locations", "id"):
            setattr(self, name, [row[name] for row in self.result])
        for name in ("labels", "subspaces"):
            complete = bool(self.result) and all(name in row for row in self.result)
            setattr(self, name, [row[name] for row in self.result] if complete else None)

    def _load(self) -> Any:
        if self.data_path is None:
            raise ValueError(f"{type(self).__name__} got no rows: expected data_path or dataset")
        if self.data_path.endswith(".json"):
            return load_dataset("json", data_files=self.data_path, split=self.data_split)
        return load_dataset(self.data_path, split=self.data_split)

    def tokenize(self, data_item: Any) -> tuple[dict[str, Any], int]:
        """Tokenise the prompt, and in training the prompt with its output."""
        prompt = token_ids(self.tokenizer, data_item["instruction"])
        if self.data_split != "train":
            return {"input_ids": prompt}, len(prompt)
        text = data_item["instruction"] + data_item["output"]
        ids = token_ids(self.tokenizer, stopped(self.tokenizer, text))
        return {"input_ids": ids, "labels": masked(ids, len(prompt))}, len(prompt)
