"""How much is measured in a run: sizes and budgets, on a CPU, on a GPU, or quickly."""

from dataclasses import dataclass

from benchmarks.settings import Case, Rows, cpu_cases, cuda_cases, quick_cases


@dataclass(frozen=True)
class Tenants:
    """Trainings at once against trainings in turn, on one model.

    Attributes:
        shape: the model.
        count: how many.
        measured: how many of them are trained in turn; the rest takes as long.
        rows: of each.
        epochs: of each; its rows are one batch.
        rounds: how often.
    """

    shape: str
    count: int
    measured: int
    rows: Rows
    epochs: int
    rounds: int


@dataclass(frozen=True)
class Plan:
    """Sizes and budgets, in seconds.

    Attributes:
        cases: the training steps.
        shape: the model of everything else.
        storage: the model that adapters are saved and loaded with.
        tenants: trainings at once, by model.
        prompts: of the tutorial, in tokens.
        epochs: of the tutorial.
        tutorial: seconds per method and prompt, after which the rest is extrapolated.
        generation: rows and prompt tokens of every case.
        new: tokens to generate.
        mixed: rows, prompt and new tokens of the batch with an adapter per row.
        widths: of the orthonormal rows alone.
        stacks: how many of them at once.
        rounds: at most.
        imports: rounds of the import times, which take long.
        budget: per case, where the case does not say it.
    """

    cases: tuple[Case, ...]
    shape: str
    storage: str
    tenants: tuple[Tenants, ...]
    prompts: tuple[int, ...]
    epochs: int
    tutorial: float
    generation: tuple[tuple[int, int], ...]
    new: int
    mixed: tuple[int, int, int]
    widths: tuple[int, ...]
    stacks: tuple[int, ...]
    rounds: int
    budget: float
    imports: int = 3
    completion: int = 16


def cpu_plan() -> Plan:
    """Return what `make bench` measures: at most 40 minutes on two cores."""
    return Plan(
        cases=tuple(cpu_cases()),
        shape="60m",
        storage="wide",
        tenants=(
            Tenants("bundled", 32, 16, Rows(10, 64, 16), 20, 2),
            Tenants("60m", 32, 2, Rows(10, 64, 16), 10, 1),
        ),
        prompts=(64, 512),
        epochs=100,
        tutorial=20,
        generation=((1, 96), (8, 96), (8, 480)),
        new=64,
        mixed=(32, 32, 32),
        widths=(768, 4096),
        stacks=(1, 8, 64),
        rounds=15,
        budget=15,
    )


def cuda_plan(shape: str) -> Plan:
    """Return what is measured on a GPU with a shape."""
    return Plan(
        cases=tuple(cuda_cases(shape)),
        shape=shape,
        storage=shape,
        tenants=(Tenants(shape, 32, 4, Rows(10, 64, 16), 20, 1),),
        prompts=(64, 512),
        epochs=100,
        tutorial=10,
        generation=((1, 96), (8, 480)),
        new=64,
        mixed=(32, 96, 32),
        widths=(4096,),
        stacks=(1, 64),
        rounds=15,
        budget=10,
    )


def quick_plan() -> Plan:
    """Return everything with a tiny model, to see that it works."""
    return Plan(
        cases=tuple(quick_cases()),
        shape="tiny",
        storage="tiny-wide",
        tenants=(Tenants("tiny", 3, 2, Rows(2, 16, 4), 2, 1),),
        prompts=(16,),
        epochs=4,
        tutorial=5,
        generation=((1, 16), (2, 16)),
        new=4,
        mixed=(3, 16, 3),
        widths=(32,),
        stacks=(1, 4),
        rounds=2,
        budget=0.2,
        completion=4,
        imports=1,
    )
