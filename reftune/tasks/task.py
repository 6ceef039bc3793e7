"""What a task is: sets of rows, their prompts and completions, and who says what is right."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reftune.data import Row


@dataclass(frozen=True)
class Judged:
    """What was read from an answer, and whether it is right."""

    found: str
    right: bool


@dataclass(frozen=True)
class Score:
    """How many answers of how many are right."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.right / self.total

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Return Wilson's interval of the accuracy, at 95% by default.

        It is about the test set's size alone; seeds are another source of variance.
        """
        share, n = self.accuracy, self.total
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Task:
    """A task of text and answer.

    Attributes:
        name: what recipes call it.
        source: where prompts and scoring are from.
        train: names of its training sets.
        tests: names of its test sets.
        prompt: the prompt of a row.
        completion: what training appends to it.
        judge: of an answer, `None` where this is not for a program to say.
        max_new_tokens: length of an answer.
        loss: whether the loss of its reference answers is a score too, besides the judge's; where
            there is no judge, it always is.
        leaked: test sets of which questions are in the paper's training set.
        hub: where its sets are on the hub, `"OWNER/NAME:CONFIG"`, if they have one place there.
    """

    name: str
    source: str
    train: tuple[str, ...]
    tests: tuple[str, ...]
    prompt: Callable[[Row], str]
    completion: Callable[[Row], str]
    judge: Callable[[str, Row], Judged] | None
    max_new_tokens: int
    loss: bool = False
    leaked: frozenset[str] = frozenset()
    hub: str = ""

    def example(self, row: Row, where: str) -> dict[str, Any]:
        """Return a row of training, `"prompt"` and `"completion"`.

        Raises:
            ValueError: the row lacks a column.
        """
        return {**self.question(row, where), "completion": self._of(self.completion, row, where)}

    def question(self, row: Row, where: str) -> dict[str, Any]:
        """Return a row without the answer, `"prompt"`.

        Raises:
            ValueError: the row lacks a column.
        """
        return {"prompt": self._of(self.prompt, row, where)}

    def judged(self, answer: str, row: Row, where: str) -> Judged:
        """Return what the judge says of an answer; there must be one.

        Raises:
            ValueError: the row lacks a column.
        """
        judge = self.judge
        assert judge is not None
        return self._of(lambda one: judge(answer, one), row, where)

    def _of(self, part: Callable[[Row], Any], row: Row, where: str) -> Any:
        try:
            return part(row)
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{where}: a row of {self.name} with {', '.join(map(str, row))} ({error!r}); "
                f"expected the form of {self.source}"
            ) from error
