"""The pictures, as figures of matplotlib that know no window and no global state."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reftune.report.marks import FILLS, mark_of
from reftune.report.naming import metric_of
from reftune.report.reading import Curve
from reftune.report.spacing import beside, decades, smoothed, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of all that is not data. They are no usual colours: a page can put its own in their place.
INK, GROUND = "#1d2733", "#fefefd"
WIDTH = 4.8  # inches: a phone's width, so that the letters stay legible there
SEED_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8609a", "#8c7a00", "#777777")


@dataclass(frozen=True)
class Point:
    """A method in the picture of scores.

    Attributes:
        label: what the legend calls it.
        method: its key, which says colour and mark.
        parameters: how many numbers it trains.
        mean: its score, as it was measured: an accuracy is between 0 and 1.
        half_width: of the interval of the mean; `None` if there is none.
    """

    label: str
    method: str
    parameters: int
    mean: float
    half_width: float | None = None


def check_extra() -> None:
    """Make sure that what draws and writes pages is installed.

    Raises:
        ModuleNotFoundError: something is missing; names the extra that brings it.
    """
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"a report needs {' and '.join(missing)}: pip install 'reftune[plots]'"
        )


def score_against_parameters(points: Sequence[Point], title: str, metric: str) -> "Figure":
    """Draw scores over the number of trained parameters, on a logarithmic axis.

    A point that trains nothing of its own is a dashed line over the whole width. Points with about
    the same number stand side by side. Points without a finite mean are left out.

    Args:
        metric: what was measured, see `reftune.report.naming.METRICS`.

    Raises:
        ValueError: there is nothing to draw.
    """
    drawn = [one for one in points if math.isfinite(one.mean)]
    if not drawn:
        raise ValueError(f'the picture "{title}" has no points with a score; expected at least one')
    figure, axes = _empty(height=3.4 + 0.11 * len(drawn))
    how = metric_of(metric)
    somewhere = [one for one in drawn if one.parameters > 0]
    places = beside([one.parameters for one in somewhere])
    before: Counter[str] = Counter()
    for point, x in zip(somewhere, places, strict=True):
        fill = FILLS[before[point.method] % len(FILLS)]
        _mark_at(axes, x, point, how.factor, fill)
        before[point.method] += 1
    for number, point in enumerate(one for one in drawn if one.parameters == 0):
        _line_across(axes, point, how.factor, dashes=(3 + 3 * number, 2))
    _scale_by_decades(axes, [one.parameters for one in somewhere])
    axes.margins(y=0.1)
    (low, high), (least, most) = axes.get_ylim(), how.bounds
    # Intervals of few seeds may reach beyond what a score can be; marks at the bound stay whole.
    axes.set_ylim(max(low, least - 2 * how.factor / 100), min(high, most + 2 * how.factor / 100))
    axes.set_ylabel(_plain(how.label), color=INK)
    axes.set_title(_plain(title), color=INK, fontsize=11)
    _legend(figure, axes, 1 if max(len(one.label) for one in drawn) > 28 else 2)
    return figure


def loss_curves(curves: Mapping[str, Curve], title: str = "") -> "Figure":
    """Draw losses over steps: a running mean over the faint line of what was logged.

    The mean is over a twentieth of the steps; evaluations are points.

    Args:
        curves: by what the legend calls them.

    Raises:
        ValueError: there is nothing to draw.
    """
    drawn = {name: curve for name, curve in curves.items() if curve.training or curve.held_out}
    if not drawn:
        raise ValueError(f'the picture "{title}" has no losses; expected at least one')
    figure, axes = _empty(height=2.6)
    for number, (name, curve) in enumerate(drawn.items()):
        colour = SEED_COLOURS[number % len(SEED_COLOURS)]
        if curve.training:
            axes.plot(
                *zip(*thinned(curve.training), strict=True), color=colour, alpha=0.35, linewidth=0.8
            )
            smooth = thinned(smoothed(curve.training))
            # A line of one point would not be seen.
            marker = "o" if len(smooth) == 1 else ""
            axes.plot(*zip(*smooth, strict=True), color=colour, marker=marker, label=_plain(name))
        if curve.held_out:
            axes.plot(
                *zip(*thinned(curve.held_out), strict=True),
                color=colour,
                linestyle=":",
                marker="s",
                markersize=4,
            )
    if any(curve.held_out for curve in drawn.values()):
        axes.plot([], [], color=INK, linestyle=":", marker="s", markersize=4, label="held out")
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("loss, nats", color=INK)
    axes.set_title(_plain(title), color=INK, fontsize=10)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        _legend(figure, axes, 3)
    return figure


def _empty(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=INK, alpha=0.15, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", colors=INK)
    return figure, axes


def _mark_at(axes: "Axes", x: float, point: Point, factor: float, fill: str) -> None:
    mark = mark_of(point.method)
    axes.errorbar(
        x,
        factor * point.mean,
        yerr=None if point.half_width is None else factor * point.half_width,
        label=_plain(point.label),
        color=mark.colour,
        marker=mark.shape,
        fillstyle="full" if fill == "hollow" else fill,
        markerfacecolor=GROUND if fill == "hollow" else mark.colour,
        markerfacecoloralt=GROUND,
        markersize=7,
        capsize=3,
        linestyle="none",
    )


def _line_across(axes: "Axes", point: Point, factor: float, dashes: tuple[int, int]) -> None:
    colour, level = mark_of(point.method).colour, factor * point.mean
    axes.axhline(
        level, color=colour, linestyle=(0, dashes), linewidth=1.4, label=_plain(point.label)
    )
    if point.half_width is not None:
        half = factor * point.half_width
        axes.axhspan(level - half, level + half, color=colour, alpha=0.12, linewidth=0)


def _scale_by_decades(axes: "Axes", counts: Sequence[int]) -> None:
    """Show whole powers of ten, and at least one of them to each side of a point."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xlabel("trained parameters", color=INK)
    if not counts:
        axes.xaxis.set_major_locator(NullLocator())
        return
    first, last = decades(counts)
    axes.set_xscale("log")
    axes.set_xlim(10.0**first, 10.0**last)
    axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in range(first, last + 1)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def short_count(value: float) -> str:
    """Write a power of ten as people say it: `"10k"`, `"1M"`."""
    for factor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def _legend(figure: "Figure", axes: "Axes", columns: int) -> None:
    """Put the legend below the axes, where it covers no mark."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def _plain(text: str) -> str:
    """Keep matplotlib from reading mathematics in a text, or from failing to draw it."""
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    # A label that begins with an underscore would be left out of the legend.
    return shown.replace("$", r"\$").removeprefix("_") if shown.strip("_") else "-"
