"""What a `result.json` says, as dataclasses, and the check that it says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBER, COUNT, TEXT = (int, float), (int,), (str,)
EXPECTED = {NUMBER: "a number", COUNT: "a whole number, 0 or more", TEXT: "a text"}


@dataclass(frozen=True)
class Score:
    """A score on a test set.

    Attributes:
        metric: what was measured, such as `"accuracy"`.
        value: as it was written: an accuracy is between 0 and 1.
        total: how many questions or rows there are, if it is told.
        interval: of the value over the questions of the set, if it is told.
        leaked: whether questions of the set are in the training set.
    """

    metric: str
    value: float
    total: int | None = None
    interval: tuple[float, float] | None = None
    leaked: bool = False


@dataclass(frozen=True)
class SeedResult:
    """What one seed of a run came to; `None` is what was not told.

    Attributes:
        seed: of weights, order of rows and dropout.
        trainable: how many numbers were trained, those of a classification head left out.
        scores: by the name of the test set.
        head: how many numbers of a classification head were trained.
        best_epoch: that the trained model is of, if it was chosen.
        rows: of the training set.
        steps: updates of the weights.
        loss: at the end of the training, in nats.
        train_seconds: of the training.
        test_seconds: of answering and scoring.
        memory_bytes: the most that was held during a step of the training.
    """

    seed: int
    trainable: int
    scores: Mapping[str, Score]
    head: int | None = None
    best_epoch: int | None = None
    rows: int | None = None
    steps: int | None = None
    loss: float | None = None
    train_seconds: float | None = None
    test_seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Run:
    """One `result.json`.

    Attributes:
        folder: where the file is.
        name: the folder's path below the folder that was read.
        experiment: the recipe: task, model, method, options.
        data: what the run says of its data: digests, and how many rows were taken.
        environment: machine and versions.
        seeds: at least one.
    """

    folder: Path
    name: str
    experiment: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    seeds: tuple[SeedResult, ...]

    @property
    def task(self) -> str:
        return self.experiment["task"]

    @property
    def model(self) -> str:
        return self.experiment["model"]

    @property
    def method(self) -> str:
        """The method; of representation finetuning, the intervention."""
        method = str(self.experiment.get("method") or "reft")
        options = self.experiment.get("adapter")
        if method == "reft" and isinstance(options, dict):
            return str(options.get("intervention") or "loreft")
        return method


def run_of(said: Any, folder: Path, name: str) -> Run:
    """Return the run that a `result.json` tells of; what it says besides does not matter.

    Raises:
        ValueError: it has not the form of `reftune run`.
    """
    experiment = _part(said, "experiment", "the file")
    for key in ("task", "model"):
        _field(experiment, key, TEXT, "experiment")
    seeds = said.get("seeds")
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds {seeds!r:.60}: expected a list with at least one")
    results = tuple(_seed(one, f"seeds, number {i}") for i, one in enumerate(seeds, start=1))
    if len({one.seed for one in results}) < len(results):
        raise ValueError(f"seeds {[one.seed for one in results]}: expected different ones")
    data = {key: said[key] for key in ("sha256", "train_rows", "test_rows") if key in said}
    environment = said.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    return Run(folder, name, experiment, data, environment, results)


def _seed(said: Any, where: str) -> SeedResult:
    scores = {
        name: _score(one, f"{where}, scores, {name}")
        for name, one in _part(said, "scores", where).items()
    }
    return SeedResult(
        seed=_field(said, "seed", COUNT, where),
        trainable=_field(said, "trainable", COUNT, where),
        scores=scores,
        head=_field(said, "head", COUNT, where, needed=False),
        best_epoch=_field(said, "best_epoch", COUNT, where, needed=False),
        rows=_field(said, "rows", COUNT, where, needed=False),
        steps=_field(said, "steps", COUNT, where, needed=False),
        loss=_field(said, "loss", NUMBER, where, needed=False),
        train_seconds=_field(said, "train_seconds", NUMBER, where, needed=False),
        test_seconds=_field(said, "test_seconds", NUMBER, where, needed=False),
        memory_bytes=_field(said, "memory_bytes", COUNT, where, needed=False),
    )


def _score(said: Any, where: str) -> Score:
    metric = _field(said, "metric", TEXT, where)
    value = _field(said, "value", NUMBER, where)
    total = _field(said, "total", COUNT, where, needed=False)
    match said.get("interval"):
        case [int() | float() as low, int() | float() as high]:
            interval = (float(low), float(high))
        case _:
            interval = None
    return Score(metric, float(value), total, interval, said.get("leaked") is True)


def _part(said: Any, name: str, where: str) -> dict[str, Any]:
    part = said.get(name) if isinstance(said, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"{where}: {name} {part!r:.60}; expected an object")
    return part


def _field(said: Any, name: str, kind: tuple[type, ...], where: str, needed: bool = True) -> Any:
    value = said.get(name) if isinstance(said, dict) else None
    if value is None and not needed:
        return None
    negative = kind is COUNT and isinstance(value, int) and value < 0
    if isinstance(value, bool) or not isinstance(value, kind) or negative:
        raise ValueError(f"{where}: {name} {value!r:.60}; expected {EXPECTED[kind]}")
    return value
