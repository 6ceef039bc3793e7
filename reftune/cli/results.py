"""What is printed of trainings."""

import json
from typing import Any

from reftune.cli.console import table


def facts_of(result: Any) -> dict[str, Any]:
    """Gather what is printed of a `TrainingResult`."""
    from reftune.output_folder import LOG_FILE, PICTURE

    return {
        "adapter": str(result.out),
        "trainable_parameters": result.trainable_parameters,
        "size_bytes": result.adapter_bytes,
        "rows": result.rows,
        "rows_dropped": result.dropped.rows,
        "steps": result.steps,
        "loss": result.loss,
        "seconds": result.seconds,
        "log": str(result.out / LOG_FILE),
        "picture": str(result.out / PICTURE) if (result.out / PICTURE).exists() else None,
    }


def print_results(results: list[Any], as_json: bool) -> None:
    """Print many results, as a table with a line for each or as one JSON list."""
    if as_json:
        print(json.dumps([facts_of(result) for result in results], ensure_ascii=False))
        return
    rows = [(r.out, r.rows, r.steps, f"{r.loss:.4g}", f"{r.seconds:.4g}") for r in results]
    print(table(rows, ["adapter", "rows", "steps", "loss", "seconds"]))
