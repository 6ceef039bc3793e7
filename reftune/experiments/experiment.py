"""One experiment: what a recipe file says, checked."""

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from reftune.dtypes import DTYPES, FLOATING, QUANTIZED
from reftune.experiments.methods import method_of
from reftune.experiments.methods.method import Method
from reftune.experiments.methods.own_method import OwnMethod
from reftune.generation import GenerationSettings
from reftune.recipe import TrainingRecipe
from reftune.tasks import TASKS, ClassificationTask, Task

RECIPES = Path(__file__).parent / "recipes"
SEEDS = 2**32  # as many has numpy


@dataclass(frozen=True)
class Experiment:
    """A model finetuned for a task and scored on its test sets, once per seed.

    Attributes:
        task: a name in `reftune.tasks.TASKS`.
        model: the base model, a folder or a hub id.
        method: how it is finetuned, a name in `reftune.experiments.methods.METHODS`.
        adapter: options of the method; of `reft` the fields of `ReftConfig`.
        training: fields of `TrainingRecipe`; the seeds are apart.
        generation: fields of `GenerationSettings`; the task says how long an answer is. Of no
            meaning in classification.
        metric: of the task `classification`, a name in `reftune.tasks.metrics.METRICS`: accuracy if
            empty; `pearson` means that labels are numbers.
        seeds: of weights, order of rows and dropout, a training each; of the head, and of the
            halves of GLUE's validation sets.
        dtype: of the base model, one of `reftune.dtypes.DTYPES`; `nf4` and `int8` quantize it.
        train: training set, the task's own if empty.
        tests: test sets, the task's own if empty.
        trainable: how many numbers are trained with this model, a classification head left out, to
            be held against.
        source: where the settings are from, and what is not known of them.
    """

    task: str
    model: str
    method: str = "reft"
    adapter: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    seeds: tuple[int, ...] = (42, 43, 44)
    dtype: str = "bfloat16"
    train: str = ""
    tests: tuple[str, ...] = ()
    trainable: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r}: expected one of {', '.join(TASKS)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        seeds = self.seeds
        numbers = all(isinstance(seed, int) and 0 <= seed < SEEDS for seed in seeds)
        if not seeds or not numbers or len(set(seeds)) < len(seeds):
            raise ValueError(
                f"seeds {list(seeds)}: expected different numbers, 0 or more and below {SEEDS}"
            )
        for name in ("seed", "template"):
            if name in self.training:
                raise ValueError(f"training: {name} is not for a recipe to say; expected none")
        method = self.its_method()
        if self.dtype in QUANTIZED and isinstance(method, OwnMethod):
            raise ValueError(
                f"method {self.method} with dtype {self.dtype}: expected one of "
                f"{', '.join(FLOATING)}; upon a quantized model only what PEFT puts there is "
                "trained"
            )
        self.recipe(seeds[0])
        self._check_kind()

    def _check_kind(self) -> None:
        """Check what only one kind of task has."""
        task = self.its_task
        if isinstance(task, Task):
            self.settings()
        elif self.generation:
            raise ValueError(
                f"generation {self.generation}: expected none, {task.name} has classes"
            )
        elif task.halves and self.tests not in ((), task.tests):
            raise ValueError(
                f"tests {', '.join(self.tests)}: expected none, {task.name} is scored on half of "
                "its validation set"
            )

    @property
    def its_task(self) -> Task | ClassificationTask:
        """The task, with the metric of the experiment.

        Raises:
            ValueError: the metric is not for this task to choose.
        """
        task = TASKS[self.task]
        if not self.metric:
            return task
        if task.name != "classification":
            raise ValueError(f"metric {self.metric!r}: expected none, {task.name} has its own")
        return replace(task, metric=self.metric)

    @property
    def training_set(self) -> str:
        return self.train or self.its_task.train[0]

    @property
    def test_sets(self) -> tuple[str, ...]:
        return self.tests or self.its_task.tests

    def its_method(self) -> Method:
        """Return the method.

        Raises:
            ValueError: there is none of that name, or it has no such options.
        """
        return method_of(self.method, self.adapter)

    def recipe(self, seed: int) -> TrainingRecipe:
        """Return the training of a seed."""
        given = {**self.training, "seed": seed, "template": "plain"}
        return _built(TrainingRecipe, "training", given)

    def settings(self) -> GenerationSettings:
        """Return how the questions of a language task are answered."""
        task = self.its_task
        assert isinstance(task, Task)
        given = {"max_new_tokens": task.max_new_tokens, **self.generation}
        return _built(GenerationSettings, "generation", {**given, "template": "plain"})


def load_experiment(name: str | Path, **changes: Any) -> Experiment:
    """Read a recipe: a file, or the name of one that comes with reftune.

    Args:
        changes: fields that take the place of the recipe's.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: it says something that has no meaning; the message names the file.
    """
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(recipe_names())
        raise FileNotFoundError(f'recipe "{name}": no such file, and none of {known}')
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        if not isinstance(said, dict):
            raise ValueError(f"found {said!r:.60}; expected names and values")
        given = {**said, **changes}
        for key in given.keys() & {"adapter", "training", "generation"}:
            given[key] = {} if given[key] is None else given[key]
            if not isinstance(given[key], dict):
                raise ValueError(f"{key} {given[key]!r:.60}: expected names and values")
        for key in given.keys() & {"seeds", "tests"}:
            if not isinstance(given[key], list | tuple):
                raise ValueError(f"{key} {given[key]!r:.60}: expected a list, as in [a, b]")
        if given.get("model") != said.get("model"):
            given["trainable"] = changes.get("trainable")  # the recipe's is that of its own model
        given |= {key: tuple(given[key]) for key in ("seeds", "tests") if key in given}
        return _built(Experiment, "the recipe", given)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as the number that it is in YAML 1.2, and not as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with reftune."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _built(kind: type, where: str, given: dict[str, Any]) -> Any:
    known = {one.name for one in fields(kind) if one.init}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)}: expected some of {', '.join(known)}")
    return kind(**given)
