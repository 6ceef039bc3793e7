"""The training steps as a picture: every method's time against the floor, case by case."""

from pathlib import Path

from benchmarks.report import title
from benchmarks.rows import Row


def draw(rows: list[Row], path: Path) -> bool:
    """Write a PNG; return False where matplotlib is missing or there is nothing to draw."""
    steps = [row for row in rows if row.group == "steps" and row.ratio is not None]
    try:
        import matplotlib
    except ImportError:
        return False
    if not steps:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row.case for row in steps))
    methods = list(dict.fromkeys(row.method for row in steps if row.method != "floor"))
    figure, axes = pyplot.subplots(figsize=(2 + 1.3 * len(cases), 4.5), layout="constrained")
    colors, thickness = pyplot.get_cmap("tab10"), 0.8 / max(len(methods), 1)
    for index, method in enumerate(methods):
        own = [row for row in steps if row.method == method]
        places = [cases.index(row.case) + (index + 0.5) * thickness - 0.4 for row in own]
        heights = [row.ratio or 0.0 for row in own]
        axes.bar(places, heights, thickness, label=title(method), color=colors(index % 10))
    axes.axhline(1, color="black", linewidth=0.8)
    # Wide models make pyreft an order slower than the rest.
    if max(row.ratio or 0.0 for row in steps) > 4:
        axes.set_yscale("log")
    axes.set_xticks(range(len(cases)), cases)
    axes.set_ylabel("time of a step / floor")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True
