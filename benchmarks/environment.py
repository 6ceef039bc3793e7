"""What is installed where this runs, as JSON: `python -m benchmarks.environment <device>`."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "peft", "reftune", "pyreft", "pyvene", "adapters", "numpy")


def describe(device: str) -> dict[str, str]:
    """Return the versions of Python and of what is measured, and the GPU."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if device == "cuda":
        import torch

        found["cuda"] = str(torch.version.cuda)
        found["gpu"] = torch.cuda.get_device_name()
    return found


def ask(python: str, device: str, folder: Path) -> dict[str, str] | None:
    """Return what another interpreter says of itself, or None if it cannot run.

    Args:
        folder: where `benchmarks` is.
    """
    command = [python, "-m", "benchmarks.environment", device]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1])))
