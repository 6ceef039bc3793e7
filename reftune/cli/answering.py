"""How `reftune generate` comes to its answers: from a model here, or from workers of a cluster."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.adapter_digest import folder_digest
from reftune.cli.loading import (
    adapter_folder,
    load_adapter,
    load_base,
    load_config,
    resolve_model,
)
from reftune.cluster import Answer, cluster_answers
from reftune.generation import GenerationSettings, answer_batch, check_lengths, encode_prompts
from reftune.prompt_batches import in_batches
from reftune.row_adapters import RowAdapters, adapters_of_rows
from reftune.shelf import Shelf


@dataclass(frozen=True)
class Loading:
    """What is loaded to answer, here or by a worker of a cluster.

    Attributes:
        model: the base model.
        dtype: its dtype.
        adapter: the folder of the adapter of all rows, if there is one.
        folders: of the adapters that rows name; `None` if they name none.
        settings: how to answer.
    """

    model: str
    dtype: str
    adapter: Path | None
    folders: dict[str, Path] | None
    settings: GenerationSettings

    def __call__(self) -> Answer:
        """Load it, and return what answers."""
        model, tokenizer = load_base(self.model, self.dtype)
        if self.folders is not None:
            return Shelf(model, tokenizer, self.folders, self.settings).answer
        if self.adapter is not None:
            model = load_adapter(model, self.adapter)
        return partial(answer_batch, model, tokenizer, settings=self.settings)

    def elsewhere(self) -> "Loading":
        """Return the same with paths that do not depend on the working directory."""
        model, folders = Path(self.model), self.folders
        return replace(
            self,
            model=str(model.resolve()) if model.exists() else self.model,
            adapter=None if self.adapter is None else self.adapter.resolve(),
            folders=folders and {name: folder.resolve() for name, folder in folders.items()},
        )


@dataclass(frozen=True)
class Answering:
    """The answers to rows.

    Attributes:
        rows: what is asked.
        loading: what answers.
        adapters: those that rows name, if they do.
        config, tokenizer: of the model.
        address, workers: of the cluster, if there is one.
    """

    rows: Dataset
    loading: Loading
    adapters: RowAdapters | None
    config: Any
    tokenizer: PreTrainedTokenizerBase
    address: str | None
    workers: int | None

    @classmethod
    def of(cls, args: argparse.Namespace, rows: Dataset, settings: GenerationSettings) -> Any:
        """Find out from the options of the command what is to be loaded."""
        adapter = adapter_folder(args.adapter) if args.adapter else None
        named = adapters_of_rows(rows, Path(args.adapters), adapter) if args.adapters else None
        folders = None if named is None else dict(named.folders)
        given = [folder for folder in (adapter, *(folders or {}).values()) if folder is not None]
        base = _common_base(args.model, given)
        loading = Loading(base, args.dtype, adapter, folders, settings)
        config, tokenizer = load_config(loading.model)
        return cls(rows, loading, named, config, tokenizer, args.ray, args.ray_workers)

    def made_by(self) -> dict[str, Any]:
        """Return what tells these answers from others to the same rows."""
        adapter = self.loading.adapter
        made: dict[str, Any] = {"model": self.loading.model, "adapter": "none"}
        if adapter is not None:
            made["adapter"] = folder_digest(adapter)
        if self.adapters is not None:
            made["adapters"] = self.adapters.digest()
        return {**made, **asdict(self.loading.settings)}

    def __call__(self, first_batch: int = 0) -> Iterator[list[str]]:
        """Return the answers of all batches but so many of the first ones."""
        settings = self.loading.settings
        prompts = encode_prompts(self.rows, self.tokenizer, settings.template)
        check_lengths(self.config, prompts, settings)
        names = None if self.adapters is None else self.adapters.names
        batches = in_batches(prompts, settings.batch_size, first_batch, names)
        if self.address is not None:
            return cluster_answers(self.loading.elsewhere(), batches, self.address, self.workers)
        return map(self.loading(), batches)


def _common_base(name: str | None, adapters: Sequence[Path]) -> str:
    """Decide which base model is meant by the one named and by the adapters' own.

    Raises:
        ValueError: none is named, and the adapters do not have the same one.
    """
    if not adapters:
        return resolve_model(name)
    bases = {resolve_model(name, folder): folder for folder in adapters}
    if len(bases) > 1:
        (one, first), (other, second), *_ = bases.items()
        raise ValueError(
            f'the adapters "{first}" and "{second}" are of other base models ("{one}" and '
            f'"{other}"); say --model'
        )
    return next(iter(bases))
