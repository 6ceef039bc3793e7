"""The pictures of a page, each with words for those who cannot see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reftune.report.embedding import inline_svg
from reftune.report.families import Picture, pictures_of
from reftune.report.figures import Point, loss_curves, score_against_parameters
from reftune.report.naming import Metric, deviation_shown, metric_of, shown
from reftune.report.reading import Curve, Found
from reftune.report.summary import Board


@dataclass(frozen=True)
class Drawing:
    """An `<svg>` element, and the text below it."""

    svg: str
    caption: str = ""


def score_drawings(boards: Sequence[Board]) -> list[Drawing]:
    """Draw the scores against trained parameters."""
    return [
        Drawing(
            inline_svg(
                score_against_parameters(one.points, one.title, one.metric),
                f"scores-{number}",
                _scores_told(one),
            ),
            one.note,
        )
        for number, one in enumerate(pictures_of(boards), start=1)
    ]


def loss_drawings(found: Found) -> list[Drawing]:
    """Draw the losses, a picture per run and per training."""
    drawings = []
    alone = {one.name: {"training": one.curve} for one in found.trainings}
    for name, curves in {**found.curves, **alone}.items():
        whole = {key: curve for key, curve in curves.items() if curve.training or curve.held_out}
        if whole:
            figure = loss_curves(whole, name)
            told = _losses_told(name, whole)
            drawings.append(Drawing(inline_svg(figure, f"losses-{len(drawings) + 1}", told)))
    return drawings


def _scores_told(picture: Picture) -> str:
    metric = metric_of(picture.metric)
    points = "; ".join(_point_told(one, metric) for one in picture.points)
    return f"{picture.title}: {metric.label}, against trained parameters. {points}."


def _point_told(point: Point, metric: Metric) -> str:
    width = point.half_width
    half = "" if width is None else f" ± {deviation_shown(width, metric)}"
    return f"{point.label}: {point.parameters:,} parameters, {shown(point.mean, metric)}{half}"


def _losses_told(name: str, curves: Mapping[str, Curve]) -> str:
    told = [
        f"{key} from {one.training[0][1]:.3g} to {one.training[-1][1]:.3g} "
        f"at step {one.training[-1][0]:,}"
        for key, one in curves.items()
        if one.training
    ]
    return f"Loss over steps of {name}: {'; '.join(told) or 'evaluations alone'}."
