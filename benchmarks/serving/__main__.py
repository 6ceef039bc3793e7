"""Measure serving: `python -m benchmarks.serving`; the load comes from this process."""

import argparse
import json
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.serving.load import run_load, teach
from benchmarks.serving.server import loading_seconds, serving, write_adapters
from reftune.assets import EMOJI_TRAIN
from reftune.data import load_rows

CLIENTS, SLOTS, STRENGTH = 32, 64, 1e-5
VERSIONS = {name: version(name) for name in ("torch", "transformers", "fastapi", "uvicorn")}
HEAD = (
    f"The bundled model, {CLIENTS} clients on loopback, {SLOTS} slots; adapters of rank 4 at one\n"
    "layer and the last prompt token. Rates are of generated tokens over all clients. Written by\n"
    "`python -m benchmarks.serving`."
)
SOAK = """\
{minutes:g} minutes at full load: clients break off streams, close connections, send nonsense and
post jobs, while an adapter is replaced all the time. Every whole answer is held against `generate`.
Written by `python -m benchmarks.serving.soak`."""


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the figures by name; ratios are of rounds that took turns."""
    adapters = folder / "adapters"
    names = write_adapters(adapters, args.adapters, STRENGTH)
    loads = sorted(loading_seconds(adapters, names[:200], SLOTS))
    found = {
        "loading a missing adapter into a slot, ms, median": 1e3 * statistics.median(loads),
        "the same, 99th of 100, ms": 1e3 * loads[int(0.99 * len(loads))],
    }
    kinds = {"base": ["base"], "32 adapters": names[:CLIENTS], "all adapters": names}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    tokens = dict.fromkeys(kinds, 0)
    different = 0
    with serving(folder, adapters, args.port, SLOTS, args.threads) as address:
        for models in kinds.values():
            run_load(address, models, CLIENTS, 1, args.length)  # warm
        for number in range(args.rounds):
            # In turn, so that none is always the first.
            for kind, models in sorted(kinds.items(), reverse=number % 2 == 1):
                load = run_load(address, models, CLIENTS, args.requests, args.length)
                rates[kind].append(load.rate)
                tokens[kind] += load.tokens
                different += sum(len(answers) > 1 for answers in load.answers.values())
        rows = [dict(row) for row in load_rows(EMOJI_TRAIN)]
        found["from ten examples to the first answer, s"] = teach(address, rows)
    found["tokens per second, base model"] = statistics.median(rates["base"])
    for kind in list(kinds)[1:]:
        ratios = [ours / base for ours, base in zip(rates[kind], rates["base"], strict=True)]
        found[f"{kind} against the base model, median of rounds"] = statistics.median(ratios)
        found[f"{kind} against the base model, lowest"] = min(ratios)
        found[f"{kind}, tokens of an answer against the base model's"] = (
            tokens[kind] / tokens["base"]
        )
    found["prompts with more than one greedy answer"] = different
    return found


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--adapters", type=int, default=1000, help="in the store (1000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4, help="of a client, in a round (4)")
    parser.add_argument("--length", type=int, default=64, help="tokens of an answer at most (64)")
    parser.add_argument("--threads", type=int, default=2, help="of the server (2)")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--out", type=Path, help="a page for the figures, with a JSON beside it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    for name, value in found.items():
        print(f"{value:10.3f}  {name}")
    if args.out:
        settings = {
            name: value for name, value in vars(args).items() if name not in ("out", "port")
        }
        result = {"machine": describe_machine(), "versions": VERSIONS, "settings": settings}
        written = json.dumps({**result, "figures": found}, indent=1) + "\n"
        args.out.with_suffix(".json").write_text(written, encoding="utf-8")
        soak = args.out.with_name(f"{args.out.stem}-soak.json")
        soaked = json.loads(soak.read_text(encoding="utf-8")) if soak.exists() else None
        args.out.write_text(page(result, found, soaked), encoding="utf-8")


def page(
    told: dict[str, dict[str, object]],
    found: dict[str, float],
    soaked: dict[str, Any] | None = None,
) -> str:
    """Return the figures as a page of Markdown, with what came of a soak if there was one."""
    facts = [
        f"* {name}: {', '.join(f'{key} {value}' for key, value in of.items())}"
        for name, of in told.items()
    ]
    rows = [f"| {name} | {value:.3g} |" for name, value in found.items()]
    parts = ["# Serving, measured", HEAD, "\n".join(facts)]
    parts.append("\n".join(["| figure | |", "| --- | --- |", *rows]))
    return "\n\n".join([*parts, *([] if soaked is None else soak_parts(soaked))]) + "\n"


def soak_parts(soaked: dict[str, Any]) -> list[str]:
    """Return the section about a soak."""
    memory = {
        f"memory of the server {when}, MB": round(of) for when, of in soaked["memory, MB"].items()
    }
    figures = {**soaked["counts"], "answers that were wrong": len(soaked["wrong"]), **memory}
    rows = [f"| {name} | {value:,} |" for name, value in figures.items()]
    return [
        "## Everything that goes wrong",
        SOAK.format(minutes=soaked["minutes"]),
        "\n".join(["| figure | |", "| --- | --- |", *rows]),
    ]


if __name__ == "__main__":
    main()
