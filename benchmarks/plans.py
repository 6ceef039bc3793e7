"""How much is measured in a run: sizes and budgets, on a CPU, on a GPU, or quickly."""

from dataclasses import dataclass

from benchmarks.settings import Case, cpu_cases, cuda_cases, quick_cases


@dataclass(frozen=True)
class Plan:
    """Sizes and budgets, in seconds.

    Attributes:
        cases: the training steps.
        shape: the model of everything else.
        storage: the model that adapters are saved and loaded with.
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
    imports: int = 5
    completion: int = 16


def cpu_plan() -> Plan:
    """Return what `make bench` measures: at most 40 minutes on two cores."""
    return Plan(
        cases=tuple(cpu_cases()),
        shape="60m",
        storage="wide",
        prompts=(64, 512),
        epochs=100,
        tutorial=35,
        generation=((1, 96), (8, 96), (8, 480)),
        new=64,
        mixed=(32, 32, 32),
        widths=(768, 4096),
        stacks=(1, 8, 64),
        rounds=15,
        budget=40,
    )


def cuda_plan(shape: str) -> Plan:
    """Return what is measured on a GPU with a shape."""
    return Plan(
        cases=tuple(cuda_cases(shape)),
        shape=shape,
        storage=shape,
        prompts=(64, 512),
        epochs=100,
        tutorial=15,
        generation=((1, 96), (8, 96), (8, 480)),
        new=64,
        mixed=(32, 96, 32),
        widths=(4096,),
        stacks=(1, 64),
        rounds=15,
        budget=15,
    )


def quick_plan() -> Plan:
    """Return everything with a tiny model, to see that it works."""
    return Plan(
        cases=tuple(quick_cases()),
        shape="tiny",
        storage="tiny-wide",
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
