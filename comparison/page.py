"""`docs/RESULTS.md`, made of the result files alone."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from comparison.ablation_tables import ablation_tables
from comparison.cells import cells, slug
from comparison.claim import verdicts
from comparison.families import families
from comparison.judge import Judge
from comparison.markdown import table
from comparison.method_table import method_table
from comparison.open_tasks import SENTIMENT
from comparison.records import read_record, why_not
from comparison.results import Found, Outcome, mark_of_outcome, outcomes_of
from comparison.scores import score_cells, score_label
from comparison.settings import SEARCH_SEED, TASKS, Studied
from reftune.report.figures import Point, score_against_parameters
from reftune.report.naming import METRICS, bytes_shown, metric_of, shown

HEAD = """\
# Results

LoReFT beside other finetuning methods, on two small base models that were trained for this
(`release/` in the repository, each with its card) and real data. This page is made of result files
by `python -m comparison`; nothing on it was typed in.

The models are hundreds of times smaller than those of the ReFT paper. What is compared here is what
methods do at this size, under one budget; it does not reproduce the paper's numbers, for which
there are [recipes](experiments.md).
"""
PROTOCOL = """\
## How it was measured

Every method has the same data, order of rows, epochs and budget: four learning rates a decade
apart are tried with one seed, then the one between the best by validation and the better of its
neighbours; the best of the five is run with {seeds} other seeds. Scores are means over these, ±
the standard deviation; the brackets hold the 95 % interval of the mean (Student's t). GLUE's test
sets have no labels, so half of each validation set chooses the epoch and the other half is scored,
another half for each seed; the half that the search went by overlaps with these, for all methods
alike. "Trained" leaves out the classification head, a linear layer with one hidden layer upon the
first token, which every method trains. "Memory" is what a training step needs beyond the frozen
model's weights; "seconds" are what one training takes of a processor. A rate with * is the lowest
or the highest that was tried: a better one may lie outside. Where a task has a loss, the search
goes by it. The base model is scored once, as it is; "one answer to all" is the best score that the
same answer to every row could have. Everything is computed in float32. In pictures, marks of nearly
the same number of parameters stand side by side; the tables have the numbers. The {trainings:,}
trainings of the tables took {hours:.1f} hours of one processor, searches, which are nearly as long,
left out.

**What was set after seeing results.** Sizes of sets and batches, the order of tasks, and the search
of rates were changed more than once after first results: LoReFT had learned little of SST-2 and
nothing of OBQA, and on the emoji task it was best at rates ten times higher than those that were
tried at first, while LoRA's were at the lower end. Since then every method is searched over three
decades. Scores seen on the way were those of the table's seeds too; only results of the settings as
they are now stand on this page. "LoReFT, every token" edits generated tokens too, which the paper's
does not; it was added when RED, which does, had done better on positive reviews than LoReFT. These
came into the ablations once those of the emoji task were known, where nearly all is at the ceiling;
SST-2's were run last, after the tables. That a head alone may leave nothing to reach was added when
LoRA of rank 1 was no better than that on IMDB, and LoReFT's like it.
"""


def write_page(records: Path, docs: Path) -> None:
    """Write the page and its pictures from the records.

    Raises:
        ValueError: there is no finished cell.
    """
    found = {studied: outcomes_of(studied, records) for studied in TASKS}
    found = {studied: by_metric for studied, by_metric in found.items() if by_metric}
    if not found:
        raise ValueError(f'"{records}" has no finished cell; run `python -m comparison` first')
    pictures = docs / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [
        HEAD,
        _claim(found),
        families(found, pictures),
        *(_task(*one, pictures) for one in found.items()),
    ]
    parts += [
        ablation_tables(records),
        _missing(found, records),
        method_table(),
        _protocol(found),
        _environment(found, records),
    ]
    (docs / "RESULTS.md").write_text(
        "\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8"
    )


def _claim(found: Found) -> str:
    header = ["task", "LoReFT − LoRA", "95 % interval", "times fewer parameters", "it"]
    return "\n".join(
        [
            "## The claim\n",
            "*LoReFT reaches LoRA's score with 10 to 50 times fewer parameters.* Differences are "
            "taken seed by seed. The claim **holds** where the interval lies above −1 point, it "
            "**fails** where it lies below 0, and is **open** otherwise. Of a loss less is better: "
            "there it holds below +0.01 nats, and fails above 0. Where the interval of LoRA's "
            "own score does not lie above that of the base model as it is, of the best single "
            "answer to all rows, or of a head alone, there is **nothing to reach**.\n",
            table(header, verdicts(found)),
        ]
    )


def _task(studied: Studied, by_metric: Mapping[str, Sequence[Outcome]], pictures: Path) -> str:
    """Return the section of a task: a table with columns for each score, a picture of each."""
    scores = [score_cells(outcomes) for outcomes in by_metric.values()]
    first = next(iter(by_metric.values()))
    rows = [
        (one.cell.compared.name, f"{one.parameters:,}", *chain(*cells_of), *_costs(one))
        for one, *cells_of in zip(first, *scores, strict=True)
    ]
    labels = [score_label(studied, metric) for metric in by_metric]
    columns = chain(*((label, "interval") for label in labels))
    header = ["method", "trained", *columns, "seconds", "memory", "rate"]
    lines = [f"## {studied.name}\n", f"{_described(studied)}\n", table(header, rows)]
    for metric, outcomes in by_metric.items():
        lines.append(_picture(studied, metric, outcomes, pictures))
    return "\n".join(lines)


def _described(studied: Studied) -> str:
    """Return what was trained and how, what a reader has to know, and how good the judge is."""
    parts = [
        f"{studied.model}, {studied.rows:,} training rows, {studied.epochs:g} epochs, "
        f"{studied.batch} rows a step, of at most {studied.length} tokens each.",
        studied.about,
    ]
    if studied.form == SENTIMENT.name:
        judge, percent = Judge.load(), METRICS["accuracy"]
        whole, short = (shown(judge.accuracy[of], percent) for of in ("reviews", "fragments"))
        parts.append(
            f"The judge was fitted on {judge.rows:,} reviews (`comparison/judge.py`). On IMDB's "
            f"test reviews it is right on {whole} % of whole ones, and on {short} % of parts as "
            "long as a continuation."
        )
    return " ".join(filter(None, parts))


def _costs(one: Outcome) -> tuple[str, str, str]:
    """Return the texts of seconds, memory and rate; nothing where nothing was trained."""
    if one.seconds is None or one.memory_bytes is None:
        return "", "", ""
    rate = f"{one.rate:g}{'*' if one.at_edge else ''}"
    return f"{one.seconds:.0f}", bytes_shown(one.memory_bytes), rate


def _picture(studied: Studied, metric: str, outcomes: Sequence[Outcome], pictures: Path) -> str:
    """Draw a score against trained parameters, and return the line that shows the picture."""
    points = [
        Point(
            one.cell.compared.name,
            mark_of_outcome(one),
            one.parameters,
            one.estimate.mean,
            one.estimate.half_width,
        )
        for one in outcomes
    ]
    label = studied.labels.get(metric)
    title = f"{studied.name}: {label}" if label else studied.name
    less = " (less is better)" if metric_of(metric).higher is False else ""
    figure = score_against_parameters(points, title + less, metric)
    several = len(studied.labels) > 1
    name = f"{slug(f'{studied.name} {metric}' if several else studied.name)}.png"
    figure.savefig(pictures / name, dpi=160, bbox_inches="tight")
    return f"\n![{title}{less}, against trained parameters](results/{name})\n"


def _missing(found: Found, records: Path) -> str:
    there = [one.cell for by in found.values() for of in by.values() for one in of]
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in cells():
        if cell.studied in found and cell not in there:
            reason = why_not(cell.file(records)) or "has not been run"
            reasons.setdefault((cell.compared.name, reason), []).append(cell.studied.name)
    rows = [(method, ", ".join(tasks), reason) for (method, reason), tasks in reasons.items()]
    parts = [table(["method", "tasks", "why"], rows)] if rows else []
    whole = [studied.name for studied in TASKS if studied not in found]
    if whole:
        parts.append(f"Of these tasks nothing has been run: {', '.join(whole)}.")
    return "## What is missing\n\n" + "\n\n".join(parts) if parts else ""


def _seeds(found: Found) -> tuple[int, ...]:
    """Return the seeds of all that was trained."""
    outcomes = chain.from_iterable(of for by in found.values() for of in by.values())
    return tuple(sorted({seed for one in outcomes if one.rate for seed in one.seeds}))


def _protocol(found: Found) -> str:
    trained = [next(iter(by.values())) for by in found.values()]
    each = [one for of in trained for one in of if one.seconds is not None]
    hours = sum(one.seconds * len(one.seeds) for one in each if one.seconds) / 3600
    trainings = sum(len(one.seeds) for one in each)
    return PROTOCOL.format(seeds=len(_seeds(found)), trainings=trainings, hours=hours)


def _environment(found: Found, records: Path) -> str:
    """Tell machine and versions, as the result files have them."""
    read = [read_record(file) for file in sorted(records.rglob("*.json"))]
    said = {json.dumps(one["environment"]) for one in read if one is not None}
    lines = [
        ", ".join(f"{name} {value}" for name, value in json.loads(one).items())
        for one in sorted(said)
    ]
    seeds = ", ".join(map(str, _seeds(found)))
    return f"Seeds: search {SEARCH_SEED}, table {seeds}. {'; '.join(lines)}\n"
