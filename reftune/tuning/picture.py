"""The picture of a search: what mattered, and what a low loss costs in trained parameters."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reftune.training_log import can_draw
from reftune.tuning.importances import importances
from reftune.tuning.report import Contender, TuningResult

Record = dict[str, Any]


def draw_search(records: Sequence[Record], result: TuningResult, picture: Path) -> None:
    """Draw a PNG file, if matplotlib is installed.

    Args:
        records: the lines of ``trials.jsonl``.
        result: what came of the search.
        picture: the file.
    """
    if not can_draw():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")  # no pyplot: no global state
    bars, points = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_importances(bars, records)
    _draw_losses(points, records, result)
    FigureCanvasAgg(figure).print_png(picture)


def pareto(records: Sequence[Record]) -> list[Record]:
    """Return the complete trials that none with as few parameters is below in loss.

    They come with rising parameters and falling loss.
    """
    front: list[Record] = []
    complete = [record for record in records if record["state"] == "complete"]
    for record in sorted(complete, key=lambda one: (one["parameters"], one["loss"])):
        if not front or record["loss"] < front[-1]["loss"]:
            front.append(record)
    return front


def _draw_importances(axes: Any, records: Sequence[Record]) -> None:
    found = importances(records)
    labels: list[str] = []
    for phase, color in (("where", "C0"), ("training", "C1")):
        shares = found.get(phase, {})
        count = sum(record["phase"] == phase for record in records)
        named = [f"{name} " for name in shares] if phase == "where" else list(shares)
        places = range(len(labels), len(labels) + len(shares))
        title = {"where": "where, rank, rate", "training": "then the training"}[phase]
        if shares:
            axes.barh(places, list(shares.values()), color=color, label=f"{title}: {count} trials")
        labels += named
    if not labels:
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("importance for a loss among the best quarter (PED-ANOVA)")
    axes.legend(frameon=False, loc="lower right")


def _draw_losses(axes: Any, records: Sequence[Record], result: TuningResult) -> None:
    pruned = [r for r in records if r["state"] == "pruned"]
    complete = [r for r in records if r["state"] == "complete"]
    for kind, label, style in (
        (pruned, "stopped early, with fewer epochs", {"color": "0.75", "s": 14}),
        (complete, "all epochs", {"color": "C0", "s": 24}),
    ):
        if kind:
            places = [r["parameters"] for r in kind], [r["loss"] for r in kind]
            axes.scatter(*places, label=label, zorder=2, **style)
    front = pareto(records)
    line = [r["parameters"] for r in front], [r["loss"] for r in front]
    axes.step(*line, where="post", color="C0", lw=1, label="least loss for as many parameters")
    for one, label, color in (
        (result.default, "default", "C3"),
        (result.best, "best", "C2"),
        (result.cheapest, "cheapest as good", "C4"),
    ):
        if math.isfinite(one.mean) and not (label.startswith("cheapest") and one == result.best):
            _draw_contender(axes, one, f"{label}, {len(one.losses)} other seeds", color)
    axes.set_xscale("log")
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("held-out loss per token (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")


def _draw_contender(axes: Any, one: Contender, label: str, color: str) -> None:
    spread = one.deviation if math.isfinite(one.deviation) else 0.0
    axes.errorbar(
        one.parameters, one.mean, spread, fmt="D", color=color, capsize=4, label=label, zorder=3
    )
