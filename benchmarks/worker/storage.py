"""Seconds of saving and of loading, and what lies on the disk."""

import tempfile
from pathlib import Path

from benchmarks.worker.session import Session
from benchmarks.worker.stopwatch import seconds


def save_and_load(session: Session, seed: int) -> dict[str, float]:
    """Save the method's adapter into an empty folder, and load it onto a fresh frozen model."""
    method = session.method
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        path.mkdir()
        saved = seconds(session.device, lambda: method.save(path))
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        base = session.fresh_base()
        loaded = seconds(session.device, lambda: method.load(path, base))
    return {"save": saved, "load": loaded, "bytes": size, "files": len(files)}
