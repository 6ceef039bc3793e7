"""The workers of a run: one per method, opened when first needed, on one shape at a time."""

from pathlib import Path
from typing import Any

from benchmarks.methods.table import METHODS, WITH_MATRICES
from benchmarks.process import Refused, Worker
from benchmarks.shapes import SHAPES

SEED = 0


class Crew:
    """Starts workers, loads models into them, and keeps what went wrong.

    Args:
        pythons: the interpreter of every environment that is there.
        folder: where weights, matrices and logs go.
        device: `"cpu"` or `"cuda"`.
        threads: of torch, in every worker.
    """

    def __init__(self, pythons: dict[str, str], folder: Path, device: str, threads: int):
        self.pythons, self.folder = pythons, folder
        self.device, self.threads = device, threads
        self.workers: dict[str, Worker] = {}
        self.shapes: dict[str, str] = {}

    def worker(self, method: str, shape: str | None = None) -> Worker:
        """Return the worker of a method, with the frozen model of a shape if one is named.

        Raises:
            Refused: it does not start, or cannot load the model.
        """
        environment = METHODS[method].environment
        worker = self.workers.get(method)
        if worker is None or worker.process.poll() is not None:
            log = self.folder / f"{method}.log"
            worker = self.workers[method] = Worker(self.pythons[environment], log, self.threads)
            self.shapes.pop(method, None)
            worker.ask("hello", device=self.device, threads=self.threads)
        if shape is not None and self.shapes.get(method) != shape:
            self.shapes.pop(method, None)
            worker.ask("open", **self.model(shape), path=METHODS[method].path)
            self.shapes[method] = shape
        return worker

    def model(self, shape: str) -> dict[str, Any]:
        """Return what a worker needs to load a shape; its weights are made on the way."""
        given = {
            "arguments": SHAPES[shape].arguments(),
            "folder": str(self.folder),
            "name": shape,
            "seed": SEED,
        }
        if self.device == "cpu" and not (self.folder / f"weights-{shape}.safetensors").exists():
            self.worker("floor").ask("write", **given)
        return given

    def edits(self, name: str, shape: str, edits: dict) -> str:
        """Write the matrices that pyreft and reftune start from; return the file."""
        path = self.folder / f"edits-{shape}-{name}.safetensors"
        width = SHAPES[shape].hidden_size
        asked = {"path": str(path), "edits": edits, "width": width, "seed": SEED}
        self.worker("floor").ask("write_edits", **asked)
        return str(path)

    def build(
        self,
        method: str,
        shape: str,
        edits: dict,
        prompt: int,
        adopt: str | None = None,
        **options: Any,
    ) -> dict:
        """Have a worker build its method; return what it says of it.

        Args:
            adopt: the file of R, W and b for methods that have them.
            options: of the method, unless the table says otherwise.

        Raises:
            Refused: it cannot.
        """
        entry = METHODS[method]
        return self.worker(method, shape).ask(
            "build",
            path=entry.path,
            edits=edits,
            options={**options, **entry.options, "prompt": prompt},
            adopt=adopt if method in WITH_MATRICES else None,
        )

    def keep(self, methods: tuple[str, ...]) -> list[str]:
        """End the workers of other methods, and return those whose environment is there."""
        for name in set(self.workers) - {*methods, "floor"}:
            self.workers.pop(name).close()
            self.shapes.pop(name, None)
        return [name for name in methods if METHODS[name].environment in self.pythons]

    def dismiss(self) -> None:
        """End all workers."""
        for name in list(self.workers):
            self.workers.pop(name).close()


def attempt(errors: dict[str, str], method: str, work: Any) -> Any:
    """Return what `work` returns; or note why it was refused, and return None."""
    try:
        return work()
    except Refused as error:
        errors[method] = str(error)
        return None
