"""What every method can be asked for; the frozen model itself is the plainest of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Method:
    """A frozen model with what a method adds to it.

    Args:
        base: the frozen model.
        edits: what `Edits.described` says; a method without positions takes what it can use.
        options: what the table of methods says.
    """

    trains = True

    def __init__(self, base: Any, edits: dict[str, Any], **options: Any):
        self.base: Any = base
        self.model: Any = base
        self.edits = edits
        self.options = options
        self.build()

    def build(self) -> None:
        """Attach what the method adds; sets `model`."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch, as the method's own trainer computes it."""
        return self.model(**batch).loss

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that an optimizer gets."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def adopt(self, matrices: dict[str, Tensor]) -> None:
        """Take over R, W and b: `<layer>/<edit>/R` and so on, `(rank, width)` and `(rank,)`.

        Raises:
            NotImplementedError: the method has no such matrices.
        """
        raise NotImplementedError(f"{type(self).__name__} has no R, W, b")

    def adopt_file(self, path: Path) -> None:
        """Take over the matrices of a file."""
        with torch.no_grad():
            self.adopt(load_file(path))

    def training(self) -> AbstractContextManager[object]:
        """Return the context of training steps."""
        return nullcontext()

    def train(self) -> None:
        """Prepare for training steps."""
        self.model.train()

    def evaluate(self) -> None:
        """Prepare for generation."""
        self.model.eval()

    def generate(self, ids: Tensor, new: int, names: Sequence[str] = ()) -> Tensor:
        """Return ids with so many tokens more, greedily; row by row with the adapters `names`."""
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if names:
            given["adapter_names"] = list(names)
        return self.model.generate(**given, **greedy(new))

    def tenants(self, count: int) -> list[str]:
        """Attach so many adapters and return their names; none for the frozen model."""
        return []

    def save(self, folder: Path) -> None:
        """Write the adapter into a folder."""
        self.model.save_pretrained(folder)

    def load(self, folder: Path, base: Any) -> None:
        """Attach the adapter of a folder to a frozen model; sets `model`."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to load")

    def trainer(self, rows: dict[str, Tensor], arguments: Any, callback: Any) -> Any:
        """Return a Trainer that is ready to train on these rows."""
        from transformers import Trainer

        return Trainer(
            model=self.model,
            args=arguments,
            train_dataset=as_dataset(rows),
            data_collator=stacked,
            callbacks=[callback],
        )


def greedy(new: int) -> dict[str, Any]:
    """Return the arguments of `generate` for exactly so many tokens."""
    return {"max_new_tokens": new, "do_sample": False, "use_cache": True, "pad_token_id": 0}


def as_dataset(rows: dict[str, Tensor]) -> Any:
    """Return a batch as a data set of its rows."""
    count = len(next(iter(rows.values())))
    return [{name: tensor[index] for name, tensor in rows.items()} for index in range(count)]


def stacked(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return rows of one length as a batch."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class Frozen(Method):
    """The frozen model: its forward pass in training, and its own `generate`."""

    trains = False
