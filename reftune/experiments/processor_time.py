"""The processor's time that something takes, with what it took before it was interrupted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reftune.output_folder import write_atomically


@contextmanager
def processor_time(file: Path) -> Iterator[Callable[[], float]]:
    """Add up the seconds of all threads of this process, however often it is interrupted.

    Unlike the clock's, they do not depend on what else the machine does.

    Args:
        file: keeps the sum.

    Yields:
        What tells the sum, once it is over.
    """
    before = float(file.read_text(encoding="utf-8")) if file.exists() else 0.0
    begun = time.process_time()
    try:
        yield lambda: float(file.read_text(encoding="utf-8"))
    finally:
        write_atomically(file, f"{before + time.process_time() - begun:.3f}")
