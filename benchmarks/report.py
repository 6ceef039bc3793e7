"""The results in Markdown."""

from typing import Any

from benchmarks.archive import Archive
from benchmarks.methods.table import METHODS
from benchmarks.rows import Row
from benchmarks.settings import SETTINGS

TITLES = {
    "steps": "A training step",
    "tutorial": "The tutorial as a whole: 10 examples, 100 epochs",
    "generate": "Whole answers, all layers f7+l7 edited",
    "prefill": "The prompt alone",
    "decode": "The tokens after the first",
    "prefill pair": "The prompt alone, in many rounds",
    "decode pair": "The tokens after the first, in many rounds",
    "mixed": "A batch with an adapter per row",
    "mixed prefill": "The same, the prompt alone",
    "tenants": "Many trainings, together and in turn",
    "build": "Building an adapter, all layers, rank 8",
    "save": "Saving it",
    "load": "Loading it onto a loaded model",
    "import": "Import",
    "orthonormal": "Orthonormal rows alone, forward and backward",
}
SHORT = {"peak bytes": "peak", "bytes on disk": "disk", "parameter bytes": "parameters"}


def render(archive: Archive) -> str:
    """Return the report: the machine, the bars, and a table per group."""
    about, rows = archive.about, archive.rows
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    seconds = sum(run["seconds"] for run in archive.runs.values())
    lines = [
        "# Benchmark",
        "",
        f"{machine}; device {about['device']}, torch threads "
        f"{about['threads']}, seed {about['seed']}, {seconds:.0f} s in all.",
        "",
    ]
    for name, versions in archive.versions.items():
        listed = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"* {name}: {listed}")
    lines += [*_left_out(archive), "", "## Bars", ""]
    lines += _table(("bar", "", "measured", ""), [_bar_cells(bar) for bar in archive.bars()])
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        lines += ["", f"## {TITLES.get(group, group)}", ""]
        if group == "steps":
            lines += [f"* {name}: {SETTINGS[name]}" for name in _settings(own)] + [""]
        head = ("case", "method", "median", "quartiles", "n", "ratio", "to", "further")
        lines += _table(head, [_cells(row) for row in own])
    return "\n".join(lines) + "\n"


def _left_out(archive: Archive) -> list[str]:
    """Say whose rows are missing where."""
    missing: dict[str, list[str]] = {}
    for work, run in archive.runs.items():
        for name in run["left out"]:
            missing.setdefault(name, []).append(work)
    return [
        f"* {name}: left out, no environment that runs"
        + ("" if len(works) == len(archive.runs) else f" ({', '.join(works)})")
        for name, works in missing.items()
    ]


def title(method: str) -> str:
    """Return a method's name in tables."""
    return METHODS[method].title if method in METHODS else method


def _settings(rows: list[Row]) -> list[str]:
    found = dict.fromkeys(row.case.split()[0] for row in rows)
    return [name for name in found if name in SETTINGS]


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *body]
    return [f"| {' | '.join(line)} |" for line in lines]


def _bar_cells(bar: dict[str, Any]) -> tuple[str, ...]:
    value = "" if bar["value"] is None else f"{bar['value']:.3g}"
    return f"{bar['bar']} ({bar['how']})", bar["limit"], value, bar["verdict"]


def _cells(row: Row) -> tuple[str, ...]:
    quartiles = row.quartiles
    return (
        row.case,
        title(row.method),
        "" if row.median is None else _seconds(row.median),
        "" if quartiles is None else " to ".join(map(_seconds, quartiles)),
        str(len(row.samples) or ""),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        title(row.reference) if row.ratio is not None else "",
        _further(row),
    )


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if abs(value) >= 0.1 else f"{1000 * value:.3g} ms"


def _further(row: Row) -> str:
    parts = [f"failed: {row.error}".replace("|", "/")] if row.error else []
    for name, value in row.details.items():
        if value is None:
            continue
        if "bytes" in name:
            parts.append(f"{SHORT.get(name, name)} {value / 2**20:,.1f} MiB")
        elif name == "flops":
            parts.append(f"{value / 1e9:.4g} GFLOP")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.5g}")
        else:
            parts.append(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}")
    return "; ".join(parts)
