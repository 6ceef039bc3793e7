"""The pictures show the numbers, and their marks can be told apart."""

import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from reftune.experiments.methods import METHODS
from reftune.interventions import INTERVENTIONS
from reftune.report.estimates import estimate, student_quantile
from reftune.report.figures import Point, loss_curves, score_against_parameters
from reftune.report.marks import MARKS, mark_of
from reftune.report.reading import Curve
from reftune.report.spacing import smoothed, thinned

POINTS = [
    Point("LoReFT", "loreft", 18_444, 0.81, 0.01),
    Point("DiReFT", "direft", 18_444, 0.80, 0.02),
    Point("RED", "red", 18_432, 0.79),
    Point("LoRA (r 4)", "lora", 300_000, 0.80, 0.01),
    Point("LoRA (r 8)", "lora", 600_000, 0.82, 0.01),
    Point("costs $5 to $9", "mine", 10_000_000, 0.7),
    Point("probe", "probe", 0, 0.6, 0.01),
    Point("no score", "ia3", 50_000, math.nan),
]


def drawn(points=POINTS):
    figure = score_against_parameters(points, "GLUE", "glue")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    return figure, axes, canvas.get_renderer()


def marks_of(axes) -> dict:
    return {bars.get_label(): bars.lines[0] for bars in axes.containers}


def test_marks_stand_at_the_numbers():
    _, axes, _ = drawn()
    marks = marks_of(axes)
    assert set(marks) == {p.label.replace("$", r"\$") for p in POINTS if p.parameters} - {
        "no score"
    }
    for point in POINTS[3:6]:
        ((x,), (y,)) = marks[point.label.replace("$", r"\$")].get_data()
        assert (x, y) == (point.parameters, pytest.approx(100 * point.mean))
    bars = {one.get_label(): one for one in axes.containers}
    ((low, high),) = [
        (path[0, 1], path[1, 1]) for path in bars["DiReFT"].lines[2][0].get_segments()
    ]
    assert (low, high) == (pytest.approx(78), pytest.approx(82))
    assert axes.get_xscale() == "log"
    (line,) = [one for one in axes.lines if one.get_label() == "probe"]
    assert list(line.get_ydata()) == [60, 60]


def test_an_axis_ends_where_scores_end():
    wide = [Point("a", "lora", 1000, 0.5, 2.0), Point("b", "loreft", 1000, 1.0)]
    for metric, least in (("accuracy", 0), ("matthews", -100)):
        (axes,) = score_against_parameters(wide, "", metric).axes
        assert axes.get_ylim() == (pytest.approx(least - 2), pytest.approx(102))
    (axes,) = score_against_parameters(wide, "", "unknown").axes
    assert axes.get_ylim()[0] < -1.5


def test_marks_do_not_cover_each_other_and_the_legend_covers_nothing():
    points = [Point(f"{i}", "lora", 18_444 + i, 0.8) for i in range(5)]
    for given in (POINTS, points):
        figure, axes, _ = drawn(given)
        places = [
            axes.transData.transform([float(one[0]) for one in mark.get_data()])
            for mark in marks_of(axes).values()
        ]
        apart = [np.hypot(*(a - b)) * 72 / figure.dpi for a, b in combinations(places, 2)]
        assert min(apart) >= 7  # the size of a mark in points
        (legend,) = figure.legends
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
        assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_a_method_looks_the_same_everywhere_and_like_no_other():
    _, first, _ = drawn()
    _, second, _ = drawn(POINTS[3:])
    for label, mark in marks_of(second).items():
        assert mark.get_color() == marks_of(first)[label].get_color()
        assert mark.get_marker() == marks_of(first)[label].get_marker()
    assert len(set(MARKS.values())) == len(MARKS)
    known = set(METHODS) - {"reft"} | set(INTERVENTIONS) & {"loreft", "direft", "red"}
    assert known <= set(MARKS)
    fills = [marks_of(first)[f"LoRA (r {r})"].get_markerfacecolor() for r in (4, 8)]
    assert fills[0] != fills[1]
    assert mark_of("mine") == mark_of("mine")
    assert mark_of("mine") not in MARKS.values()


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


@pytest.mark.parametrize("ground", ["#ffffff", "#14181d"])
def test_colours_have_contrast_on_light_and_on_dark(ground):
    for mark in MARKS.values():
        low, high = sorted([luminance(mark.colour), luminance(ground)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_a_picture_of_lines_alone_or_of_nothing():
    _, axes, _ = drawn([POINTS[6]])
    assert len(axes.get_xticks()) == 0
    with pytest.raises(ValueError, match='"GLUE" has no points with a score'):
        drawn([POINTS[7]])
    with pytest.raises(ValueError, match='"x" has no losses'):
        loss_curves({"a": Curve(())}, "x")


def test_smoothing_is_a_mean_of_neighbours():
    draw = np.random.default_rng(0)
    steps = np.cumsum(draw.integers(1, 4, 300))
    values = draw.normal(size=300)
    points = list(zip(steps.tolist(), values.tolist(), strict=True))
    reach = (steps[-1] - steps[0]) / 40
    for step, mean in smoothed(points):
        assert mean == pytest.approx(values[abs(steps - step) <= reach].mean())
    assert smoothed([(3, 1.5)]) == [(3, 1.5)]
    many = [(i, 0.0) for i in range(12_345)]
    thin = thinned(many)
    assert len(thin) <= 402
    assert (thin[0], thin[-1]) == (many[0], many[-1])
    assert thinned(many[:400]) == many[:400]


def test_a_loss_picture_has_a_line_per_seed():
    curve = Curve(((1, 2.0), (2, 1.0)), ((2, 1.5),))
    figure = loss_curves({"seed 1": curve, "seed 2": Curve(((1, 3.0),))}, "run")
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["seed 1", "seed 2", "held out"]


@pytest.mark.parametrize("freedom", [*range(1, 13), 20, 30, 60, 1000])
def test_the_quantile_is_that_of_the_density(freedom):
    """The density's integral from 0 to the quantile is 0.475, by Simpson's rule."""
    factor = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    x = np.linspace(0, student_quantile(freedom), 20_001)
    density = factor / math.sqrt(freedom * math.pi) * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    weights = np.ones(20_001)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    assert (density @ weights) * x[1] / 3 == pytest.approx(0.475, abs=2e-5)


def test_an_estimate_is_of_the_sample():
    values = [0.81, 0.79, 0.84]
    found = estimate(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert found.half_width == pytest.approx(4.303 * np.std(values, ddof=1) / math.sqrt(3))
    assert estimate([0.5]).deviation is None
    assert estimate([0.5]).half_width is None
    assert math.isnan(estimate([0.5, math.inf]).mean)
    with pytest.raises(ValueError, match="no values"):
        estimate([])
