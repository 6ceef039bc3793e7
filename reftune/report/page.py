"""The page: everything that was found in a folder, as one HTML file that fetches nothing."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from reftune.report.drawings import Drawing, loss_drawings, score_drawings
from reftune.report.families import glue_families
from reftune.report.family_tables import family_table
from reftune.report.figures import check_extra
from reftune.report.labels import flat
from reftune.report.reading import Found
from reftune.report.runs import Run
from reftune.report.samples import Sample, samples_of
from reftune.report.summary import Board, boards_of
from reftune.report.tables import Table, best_table, score_table, training_table

TEMPLATE = "page.html.j2"
# What JSON can hold but a page cannot: control characters, and halves of surrogate pairs.
UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Examples:
    """The first questions of a test set in a run."""

    run: str
    test_set: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Settings:
    """What a run or a training was made with: sections of names and values."""

    name: str
    sections: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Content:
    """All that the template shows; its attributes are the template's names.

    Attributes:
        title: of the page.
        facts: how much of what there is.
        problems: what could not be read.
        best: who is best on each task.
        scores: a table per board, after those over all tasks of GLUE.
        pictures: scores against trained parameters.
        losses: of runs and trainings.
        trainings: those that belong to no run.
        examples: questions and answers.
        settings: of every run and training.
        version: of reftune.
    """

    title: str
    facts: Mapping[str, int]
    problems: Sequence[str]
    best: Table | None
    scores: Sequence[Table]
    pictures: Sequence[Drawing]
    losses: Sequence[Drawing]
    trainings: Table | None
    examples: Sequence[Examples]
    settings: Sequence[Settings]
    version: str


def write_page(found: Found, title: str, samples: int = 5) -> str:
    """Return the page.

    Args:
        found: see `reftune.report.reading.read_folder`.
        title: of the page.
        samples: how many questions of each test set are shown.

    Raises:
        ModuleNotFoundError: what draws and writes is not installed; names the extra.
    """
    check_extra()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    boards = boards_of(found.runs)
    content = Content(
        title=title,
        facts=_facts(found, boards),
        problems=found.problems,
        best=best_table(boards),
        scores=[
            *(family_table(model, of) for model, of in glue_families(boards).items()),
            *map(score_table, boards),
        ],
        pictures=score_drawings(boards),
        losses=loss_drawings(found),
        trainings=training_table(found.trainings) if found.trainings else None,
        examples=_examples(found.runs, samples),
        settings=[*map(_run_settings, found.runs), *_training_settings(found)],
        version=version("reftune"),
    )
    environment = Environment(
        loader=PackageLoader("reftune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(vars(content))
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", page)


def _facts(found: Found, boards: Sequence[Board]) -> dict[str, int]:
    """Count; what there is none of is not worth a word."""
    counts = {
        "tasks": len({board.task for board in boards}),
        "base models": len({board.model for board in boards}),
        "methods": len({run.method for run in found.runs}),
        "runs": len(found.runs),
        "trainings within them": sum(len(run.seeds) for run in found.runs),
        "other trainings": len(found.trainings),
    }
    return {name: count for name, count in counts.items() if count}


def _examples(runs: Sequence[Run], count: int) -> list[Examples]:
    return [
        Examples(run.name, test_set, samples)
        for run in runs
        for test_set, samples in (samples_of(run, count) if count else {}).items()
    ]


def _run_settings(run: Run) -> Settings:
    sections = {"experiment": run.experiment, "data": run.data, "environment": run.environment}
    seeds = {
        f"seed {one.seed}": {
            "head, trained parameters": one.head,
            "best epoch": one.best_epoch,
            "rows": one.rows,
            "steps": one.steps,
            "last loss": one.loss,
            "training, seconds": one.train_seconds,
            "test, seconds": one.test_seconds,
        }
        for one in run.seeds
    }
    return Settings(run.name, {name: _told(said) for name, said in {**sections, **seeds}.items()})


def _training_settings(found: Found) -> list[Settings]:
    return [
        Settings(one.name, {"training": _told(one.settings)})
        for one in found.trainings
        if one.settings
    ]


def _told(said: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in flat(said).items()
        if value is not None
    }
