"""The training steps as a picture: every method's time against the floor, a panel per case."""

from pathlib import Path
from typing import Any

from benchmarks.report import title
from benchmarks.rows import Row

COLUMNS = 3
OURS, OTHERS = "tab:orange", "tab:gray"
# A bar that is longer is cut, so that the others can be told apart; its number says how long it is.
LONGEST = 4.0


def draw(rows: list[Row], path: Path) -> bool:
    """Write a PNG; return False where matplotlib is missing or there is nothing to draw."""
    steps = [row for row in rows if row.group == "steps" and row.ratio and row.method != "floor"]
    try:
        import matplotlib
    except ImportError:
        return False
    if not steps:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row.case for row in steps))
    lines = -(-len(cases) // COLUMNS)
    most = max(sum(row.case == case for row in steps) for case in cases)
    size = (5 * COLUMNS, lines * (0.9 + 0.24 * most))
    figure, axes = pyplot.subplots(
        lines, COLUMNS, figsize=size, layout="constrained", squeeze=False, sharex=True
    )
    for panel in axes.flat[len(cases) :]:
        panel.set_visible(False)
    for panel, case in zip(axes.flat, cases, strict=False):
        _panel(panel, case, [row for row in steps if row.case == case])
        panel.set_ylim(most - 0.5, -0.5)
    figure.supxlabel("time of a training step / time of the floor (the line)", fontsize="medium")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return True


def _panel(axes: Any, case: str, rows: list[Row]) -> None:
    names = [title(row.method) for row in rows]
    ratios = [row.ratio or 0.0 for row in rows]
    colors = [OURS if row.method.startswith("reftune") else OTHERS for row in rows]
    shown = [min(ratio, LONGEST) for ratio in ratios]
    bars = axes.barh(names, shown, color=colors)
    axes.axvline(1, color="black", linewidth=0.8)
    # The numbers hide the line where they cross it.
    given = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}, "zorder": 3}
    labels = [f"{ratio:.2f}" for ratio in ratios]
    axes.bar_label(bars, labels=labels, padding=3, fontsize="small", **given)
    axes.set_xlim(0, LONGEST * 1.15)
    axes.tick_params(labelsize="small", labelbottom=True)
    axes.set_title(case, fontsize="medium", loc="left")
