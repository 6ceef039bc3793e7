"""`docs/RESULTS.md`, made of the result files alone."""

import json
from collections.abc import Sequence
from pathlib import Path

from comparison.ablation_tables import ablation_tables
from comparison.cells import cells, slug
from comparison.claim import verdicts
from comparison.markdown import table
from comparison.results import Outcome, outcomes_of, why_not
from comparison.settings import SEARCH_SEED, SEEDS, TASKS, Studied
from reftune.report.figures import Point, score_against_parameters
from reftune.report.naming import bytes_shown, deviation_shown, metric_of, shown

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

Every method has the same data, order of rows, epochs and budget: {rates} learning rates are tried
with one seed, and the best by validation is run with {seeds} other seeds. Scores are means over
these, ± the standard deviation; the brackets hold the 95 % interval of the mean (Student's t).
GLUE's test sets have no labels, so half of each validation set chooses the epoch and the other half
is scored, another half for each seed; the half that the search went by overlaps with these, for all
methods alike. "Trained" leaves out the classification head, a linear layer
with one hidden layer upon the first token, which every method trains. "Memory" is what a training
step needs beyond the frozen model's weights; "seconds" are of one training on one core of a shared
machine. A rate with * is the lowest or the highest that was tried: a better one may lie outside.
"""


def write_page(out: Path, docs: Path) -> None:
    """Write the page and its pictures from the result files below `out`.

    Raises:
        ValueError: there is no finished cell.
    """
    found = {studied: outcomes_of(studied, out) for studied in TASKS}
    found = {studied: outcomes for studied, outcomes in found.items() if outcomes}
    if not found:
        raise ValueError(f'"{out}" has no finished cell; run `python -m comparison` first')
    pictures = docs / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [HEAD, _claim(found), *(_task(*one, out, pictures) for one in found.items())]
    parts += [ablation_tables(out), _missing(found, out), _protocol(), _environment(out)]
    (docs / "RESULTS.md").write_text(
        "\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8"
    )


def _claim(found: dict[Studied, list[Outcome]]) -> str:
    header = ["task", "LoReFT − LoRA", "95 % interval", "times fewer parameters", "it"]
    return "\n".join(
        [
            "## The claim\n",
            "*LoReFT reaches LoRA's score with 10 to 50 times fewer parameters.* Differences are "
            "taken seed by seed. The claim **holds** where the interval lies above −1 point, it "
            "**fails** where it lies below 0, and is **open** otherwise.\n",
            table(header, verdicts(found)),
        ]
    )


def _task(studied: Studied, outcomes: Sequence[Outcome], out: Path, pictures: Path) -> str:
    metric = metric_of(outcomes[0].metric)
    name = f"{slug(studied.name)}.png"
    points = [
        Point(
            one.cell.compared.name,
            _mark(one),
            one.parameters,
            one.estimate.mean,
            one.estimate.half_width,
        )
        for one in outcomes
    ]
    figure = score_against_parameters(points, studied.name, outcomes[0].metric)
    figure.savefig(pictures / name, dpi=160, bbox_inches="tight")
    best = max(one.estimate.mean for one in outcomes)
    rows = []
    for one in outcomes:
        of = one.estimate
        low, high = (of.mean + sign * (of.half_width or 0) for sign in (-1, 1))
        mean = shown(of.mean, metric)
        score = f"**{mean}**" if of.mean == best else mean
        rows.append(
            (
                one.cell.compared.name,
                f"{one.parameters:,}",
                f"{score} ± {deviation_shown(of.deviation or 0, metric)}",
                f"[{shown(low, metric)}, {shown(high, metric)}]",
                f"{one.seconds:.0f}",
                bytes_shown(one.memory_bytes),
                f"{one.rate:g}{'*' if one.at_edge else ''}",
            )
        )
    header = ["method", "trained", metric.label, "interval", "seconds", "memory", "rate"]
    return "\n".join(
        [
            f"## {studied.name}\n",
            f"{studied.model}, {studied.rows:,} training rows, {studied.epochs:g} epochs, rows of "
            f"at most {studied.length} tokens.\n",
            table(header, rows),
            f"\n![{studied.name}: score against trained parameters](results/{name})\n",
        ]
    )


def _mark(outcome: Outcome) -> str:
    """Return the key of a method by which pictures choose its mark."""
    compared = outcome.cell.compared
    if compared.method == "reft":
        return str(compared.options.get("intervention", "loreft"))
    return compared.method


def _missing(found: dict[Studied, list[Outcome]], out: Path) -> str:
    there = [one.cell for outcomes in found.values() for one in outcomes]
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in cells():
        if cell.studied in found and cell not in there:
            reason = why_not(cell, out) or "has not been run"
            reasons.setdefault((cell.compared.name, reason), []).append(cell.studied.name)
    rows = [(method, ", ".join(tasks), reason) for (method, reason), tasks in reasons.items()]
    parts = [table(["method", "tasks", "why"], rows)] if rows else []
    whole = [studied.name for studied in TASKS if studied not in found]
    if whole:
        parts.append(f"Of these tasks nothing has been run: {', '.join(whole)}.")
    return "## What is missing\n\n" + "\n\n".join(parts) if parts else ""


def _protocol() -> str:
    rates = max(len(cell.compared.rates) for cell in cells())
    return PROTOCOL.format(rates=rates, seeds=len(SEEDS))


def _environment(out: Path) -> str:
    """Tell machine and versions, as the result files have them."""
    files = sorted(out.glob("*/*/final/result.json"))
    said = {json.dumps(json.loads(f.read_text(encoding="utf-8"))["environment"]) for f in files}
    lines = [
        ", ".join(f"{name} {value}" for name, value in json.loads(one).items())
        for one in sorted(said)
    ]
    seeds = ", ".join(map(str, SEEDS))
    return f"Seeds: search {SEARCH_SEED}, table {seeds}. {'; '.join(lines)}\n"
