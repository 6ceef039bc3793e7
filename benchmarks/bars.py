"""The bars that reftune is held to, as data: what, how much, and how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.lookup import Results
from benchmarks.rows import Row, paired_difference

Value = Callable[[Results], float | None]


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: what is held.
        limit: the bar.
        how: how the value is computed.
        value: computes it; None if it was not measured.
        device: where it holds: `"cpu"`, `"cuda"`, or `""` for both.
        at_least: whether the value must reach the limit instead of staying below it.
    """

    name: str
    limit: float
    how: str
    value: Value | None = None
    device: str = ""
    at_least: bool = False

    def judge(self, results: Results) -> dict[str, Any]:
        """Return the value and whether the bar is met."""
        value = self.value(results) if self.value is not None and self.applies(results) else None
        met = None
        if value is not None:
            met = value >= self.limit if self.at_least else value <= self.limit
        verdict = {None: "not measured", True: "met", False: "not met"}[met]
        sign = "≥" if self.at_least else "≤"
        return {
            "bar": self.name,
            "limit": f"{sign} {self.limit:g}",
            "value": value,
            "verdict": verdict,
            "how": self.how,
        }

    def applies(self, results: Results) -> bool:
        """Say whether the bar is of this device."""
        return self.device in ("", results.device)


def _floor(results: Results, method: str = "reftune", floor: str = "floor") -> float | None:
    settings = ("i ", "ii ", "iii ")
    cases = [case for setting in settings for case in results.cases("steps", setting)]
    return results.worst("steps", cases, method, floor)


def _edit_overhead(results: Results) -> float | None:
    """Return the worst overhead per edit, in milliseconds; untied layers have two edits."""
    found = []
    for case in (name for name in results.cases("steps", "vi-") if name.endswith("pair")):
        own, floor = (results.row("steps", case, method) for method in ("reftune", "floor"))
        if own and floor:
            more = paired_difference(own.samples, floor.samples)
            edits = 4 * (2 if case.startswith("vi-iii") else 1)
            found.append(1000 * more / edits if more is not None else float("inf"))
    return max(found, default=None)


def _orthonormal(results: Results, memory: bool) -> float | None:
    row = results.row("orthonormal", "width 4096, rank 8, 64 at once", "reftune")
    if row is None or row.median is None:
        return None
    if memory:
        return row.details["peak bytes"] / row.details["parameter bytes"]
    return 1000 * row.median


def _peak(results: Results) -> float | None:
    peaks = [
        results.detail("steps", "memory long", method, "peak bytes")
        for method in ("reftune", "lora_qv")
    ]
    return peaks[0] / peaks[1] if all(peaks) else None


def _import(results: Results) -> float | None:
    names = ("transformers, peft, reftune", "transformers, peft")
    with_ours, without = (results.row("import", "fresh process", name) for name in names)
    if with_ours is None or without is None:
        return None
    return paired_difference(with_ours.samples, without.samples)


def _slowest(group: str) -> Value:
    """Return what computes the lowest throughput against the base model's."""

    def value(results: Results) -> float | None:
        worst = results.worst(group, results.cases(group), "reftune", "frozen")
        return None if worst is None else 1 / worst

    return value


def _tutorial_total(results: Results) -> float | None:
    rows = (results.row("tutorial", case, "reftune") for case in results.cases("tutorial"))
    return max((row.median for row in rows if row and row.median is not None), default=None)


def _tenants(results: Results) -> float | None:
    return results.worst("tenants", results.cases("tenants"), "together", "in turn")


def _against_pyreft(group: str, case: str) -> Value:
    return lambda results: results.ratio(group, case, "reftune", "pyreft")


BARS = (
    Bar("step against the floor, (i) to (iii), no reuse, CPU", 1.03, "worst case", _floor, "cpu"),
    Bar(
        "the same on the GPU, compiled",
        1.05,
        "worst of (ii) and (iii), both compiled",
        lambda results: _floor(results, "reftune_compiled", "floor_compiled"),
        "cuda",
    ),
    Bar(
        "step against pyreft, (ii), prompt 480, CPU",
        0.8,
        "ratio",
        _against_pyreft("steps", "ii long"),
        "cpu",
    ),
    Bar(
        "step against pyreft, (iii), prompt 480, CPU",
        0.7,
        "ratio",
        _against_pyreft("steps", "iii long"),
        "cpu",
    ),
    Bar(
        "overhead per edit and step, width 4096, rank 8, ms",
        3.0,
        "median of (ours - floor) / edits, worst of (vi) in pairs",
        _edit_overhead,
        "cpu",
    ),
    Bar(
        "64 orthonormal R, width 4096, rank 8, ms",
        30.0,
        "median, forward and backward",
        lambda results: _orthonormal(results, False),
        "cpu",
    ),
    Bar(
        "the same, memory",
        4.0,
        "peak / parameters, the free matrices included",
        lambda results: _orthonormal(results, True),
        "cpu",
    ),
    Bar(
        "step against pyreft, (ii), 8 × 128, GPU",
        0.4,
        "ratio; the bar is for TinyLlama's shape",
        _against_pyreft("steps", "ii short"),
        "cuda",
    ),
    Bar(
        "(v) against pyreft, prompts of 64, CPU",
        0.35,
        "total seconds",
        _against_pyreft("tutorial", "v prompt 64"),
        "cpu",
    ),
    Bar(
        "(v) against pyreft, prompts of 512, CPU",
        0.10,
        "total seconds",
        _against_pyreft("tutorial", "v prompt 512"),
        "cpu",
    ),
    Bar(
        "(v) on one GPU, TinyLlama's shape, s",
        2.0,
        "total seconds, worst prompt length",
        _tutorial_total,
        "cuda",
    ),
    Bar(
        "(iv), stored prefix against the plain path",
        0.25,
        "ratio; prompts of 512, completions of 32, rows seen before",
        lambda results: results.ratio("steps", "iv long", "reftune_reuse", "reftune"),
    ),
    Bar(
        "peak memory against LoRA on q,v, vocabulary 128k",
        0.5,
        "peaks above the loaded model",
        _peak,
    ),
    Bar(
        "decoded tokens per second against the base model",
        0.99,
        "worst case",
        _slowest("decode pair"),
        at_least=True,
    ),
    Bar(
        "prefill against the base model, f7+l7",
        0.97,
        "worst case",
        _slowest("prefill pair"),
        at_least=True,
    ),
    Bar(
        "32 tenants in one training against 32 in turn",
        0.2,
        "total seconds, worst case",
        _tenants,
    ),
    Bar(
        "32 rows with 32 adapters against the base model",
        0.95,
        "throughput",
        _slowest("mixed"),
        at_least=True,
    ),
    Bar("import reftune after transformers and peft, s", 0.3, "median difference", _import),
)


def judge(rows: list[Row], device: str) -> list[dict[str, Any]]:
    """Return every bar with its value and verdict."""
    results = Results(rows, device)
    return [bar.judge(results) for bar in BARS]
