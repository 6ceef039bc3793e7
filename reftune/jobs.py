"""Jobs: trainings that run together on one base model, and all checks before the first of them."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reftune.building import build_edit
from reftune.config import ReftConfig
from reftune.encoding import IGNORED, Dropped
from reftune.micro_batches import updates
from reftune.output_folder import CONFIG, RECIPE, Existing, check_output, compare_settings
from reftune.recipe import TrainingRecipe, encode_for, settings_of
from reftune.sites import find_sites
from reftune.tuner import resolve


@dataclass
class Job:
    """One adapter to be trained.

    Attributes:
        rows: see `reftune.data.load_rows`; or encoded ones, with ``input_ids`` and ``labels`` (-100
            on the prompt).
        out: gets the adapter and ``training.jsonl``; a folder of its own.
        config: what is trained.
        recipe: how it is trained; ``save_steps`` has no meaning, as jobs write no checkpoints.
        eval_rows: held-out rows whose loss is logged too.
        name: what errors call it; the folder if empty.
    """

    rows: Dataset
    out: str | Path
    config: ReftConfig
    recipe: TrainingRecipe = field(default_factory=TrainingRecipe)
    eval_rows: Dataset | None = None
    name: str = ""

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        self.name = self.name or str(self.out)


@dataclass(frozen=True)
class Prepared:
    """A job that can be run: its rows encoded, its config as it is when attached.

    ``finished`` says that the folder holds what the job would give; ``batch_rows`` is the size of
    its largest batch, ``longest`` that of its longest row in tokens, ``steps`` its updates.
    """

    job: Job
    out: Path
    config: ReftConfig
    rows: Dataset
    eval_rows: Dataset | None
    dropped: Dropped
    settings: dict[str, Any]
    finished: bool
    batch_rows: int
    longest: int
    steps: int


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Let errors name the job."""
    try:
        yield
    except (ValueError, OSError) as error:
        kind = ValueError if isinstance(error, ValueError) else type(error)
        raise kind(f'job "{job.name}": {error}') from error


def prepare_jobs(
    jobs: Sequence[Job],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows_per_pass: int,
    existing: Existing,
) -> list[Prepared]:
    """Check and encode all jobs, in their order; nothing is written.

    Raises:
        ValueError: a job has a config that does not fit the model, no rows, a batch that is larger
            than a pass, what only a training alone can do, the folder of another, or other settings
            than the training in its folder.
        OSError: a folder holds what it should not.
    """
    if not jobs:
        raise ValueError("no jobs: expected at least one")
    encode = _Encoder(model, tokenizer)
    prepared: list[Prepared] = []
    owners: dict[Path, Job] = {}
    for job in jobs:
        with naming(job):
            owner = owners.setdefault(Path(job.out).resolve(), job)
            if owner is not job:
                raise ValueError(
                    f'output "{job.out}" is that of job "{owner.name}" too; expected one each'
                )
            prepared.append(_prepare(job, model, encode, rows_per_pass, existing))
    return prepared


def _prepare(
    job: Job, model: Any, encode: "_Encoder", rows_per_pass: int, existing: Existing
) -> Prepared:
    out = Path(job.out)
    for name in ("bf16", "group_by_length"):
        if getattr(job.recipe, name):
            raise ValueError(f"{name} True: expected False, as all jobs share a pass")
    config = _attached(job.config, model)
    begun = existing == "resume" and (out / RECIPE).exists()
    if not begun:
        check_output(out, "overwrite" if existing == "overwrite" else "refuse")
    rows, dropped = encode(job.rows, job.recipe)
    eval_rows = None if job.eval_rows is None else encode(job.eval_rows, job.recipe)[0]
    batch_rows = min(job.recipe.batch_size, len(rows))
    if batch_rows > rows_per_pass:
        raise ValueError(
            f"batches of {batch_rows} rows: expected at most {rows_per_pass}, the rows of a pass"
        )
    settings = settings_of(config, rows, job.recipe)
    if begun:
        compare_settings(out, settings)
    return Prepared(
        job=job,
        out=out,
        config=config,
        rows=rows,
        eval_rows=eval_rows,
        dropped=dropped,
        settings=settings,
        finished=begun and (out / CONFIG).exists(),
        batch_rows=batch_rows,
        longest=max(map(len, rows["input_ids"])),
        steps=updates(len(rows), job.recipe),
    )


def _attached(config: ReftConfig, model: Any) -> ReftConfig:
    """Return a copy of a config as `peft.get_peft_model` would make it.

    Raises:
        ValueError: it does not fit the model, or trains more than its edits.
    """
    if config.modules_to_save:
        raise ValueError(
            f"modules_to_save={config.modules_to_save!r}: expected None, as jobs share all modules"
        )
    config = copy.deepcopy(config)
    config.base_model_name_or_path = getattr(model, "name_or_path", None) or None
    resolve(model, config)
    with torch.device("meta"):
        for site in find_sites(model, config):
            build_edit(config, site)
    return config


class _Encoder:
    """Encodes rows, those that jobs have in common once."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer
        self._known: dict[tuple, tuple[Dataset, Dropped]] = {}

    def __call__(self, rows: Dataset, recipe: TrainingRecipe) -> tuple[Dataset, Dropped]:
        key = (id(rows), recipe.max_length, recipe.template)
        if key not in self._known:
            self._known[key] = self._encode(rows, recipe)
        return self._known[key]

    def _encode(self, rows: Dataset, recipe: TrainingRecipe) -> tuple[Dataset, Dropped]:
        if not {"input_ids", "labels"} <= set(rows.column_names):
            return encode_for(self.model, self.tokenizer, rows, recipe)
        if not len(rows):
            raise ValueError("no row to train on")
        for number, labels in enumerate(rows["labels"], start=1):
            if all(label == IGNORED for label in labels[1:]):  # the first token has no prediction
                raise ValueError(
                    f"row {number} has no label: expected at least one that is not -100"
                )
        return rows, Dropped()
