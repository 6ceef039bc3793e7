"""A row of the results: what was measured of one method in one case, against what."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.interleaving import Samples


@dataclass
class Row:
    """One method in one case.

    Attributes:
        group: the kind of measurement: `steps`, `generation`, ...
        case: the setting within it.
        method: a key of `METHODS`, or another name where the group has its own.
        unit: of the samples.
        samples: by number of the round.
        reference: the method that the ratio is against.
        ratio: the median over rounds of this sample to that of the reference, of the same round.
        error: why there are no samples.
        details: what else was found: bytes at the peak, FLOPs, ...
        work: the name of `--only` under which it was measured.
    """

    group: str
    case: str
    method: str
    unit: str = "s"
    samples: dict[int, float] = field(default_factory=dict)
    reference: str = ""
    ratio: float | None = None
    error: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    work: str = ""

    @property
    def median(self) -> float | None:
        """Return the median of the samples."""
        return statistics.median(self.samples.values()) if self.samples else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """Return the first and the third quartile; of few samples, the ends."""
        values = sorted(self.samples.values())
        if len(values) < 4:
            return (values[0], values[-1]) if values else None
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, high

    def plain(self) -> dict[str, Any]:
        """Return the row for JSON, with median and quartiles."""
        return {**asdict(self), "median": self.median, "quartiles": self.quartiles}


def paired_ratio(own: dict[int, float], other: dict[int, float]) -> float | None:
    """Return the median ratio over the rounds that both have.

    Both halves of a ratio are of one round, because a shared machine's speed drifts.
    """
    ratios = [own[number] / other[number] for number in own if other.get(number)]
    return statistics.median(ratios) if ratios else None


def paired_difference(own: dict[int, float], other: dict[int, float]) -> float | None:
    """Return the median difference over the rounds that both have."""
    differences = [own[number] - other[number] for number in own if number in other]
    return statistics.median(differences) if differences else None


def make_rows(
    group: str,
    case: str,
    samples: Samples,
    errors: dict[str, str],
    references: dict[str, str],
    details: dict[str, dict],
) -> list[Row]:
    """Return the rows of a case: those measured, then those that failed.

    Args:
        references: by method, what it is compared with; `""` for those not named.
        details: by method.
    """
    rows = []
    for method, values in samples.items():
        reference = references.get(method, references.get("", ""))
        ratio = paired_ratio(values, samples.get(reference, {}))
        row = Row(group, case, method, "s", values, reference, ratio, errors.get(method, ""))
        row.details = details.get(method, {})
        rows.append(row)
    failed = [method for method in errors if method not in samples]
    rows += [Row(group, case, method, error=errors[method]) for method in failed]
    return rows
