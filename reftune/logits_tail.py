"""What a model does with its logits between head and loss, such as softcapping.

It is noted while it is done to the logits of some tokens, and can then be done to those of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


@dataclass(frozen=True)
class Place:
    """Stands in a noted step for the result of an earlier one."""

    number: int


class Tail(TorchFunctionMode):
    """Notes all that is done to the logits of a head, to do it to others.

    It is switched on where the head ends, and off where the loss begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Any, tuple, dict]] = []
        self._results: list[Any] = []  # the head's, then that of each step
        self._runs = False

    def begin(self, logits: Tensor) -> None:
        if not self._results:
            self._results.append(logits)
            self._runs = True
            self.__enter__()

    def end(self) -> None:
        if self._runs:
            self._runs = False
            self.__exit__(None, None, None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._steps.append((func, args, kwargs or {}))
        self._results.append(result)
        return result

    def replay(self, logits: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what makes of the head's logits those that the loss gets, as noted here.

        Args:
            logits: those that the loss got.
        """
        # A step may return what it was given; its first place is the one that is there in time.
        numbered = reversed(list(enumerate(self._results)))
        places = {
            id(value): Place(number) for number, value in numbered if isinstance(value, Tensor)
        }
        steps = tree_map(lambda value: places.get(id(value), value), self._steps)
        last = places[id(logits)].number

        def again(whole: Tensor) -> Tensor:
            results: list[Any] = [whole]

            def there(value: Any) -> Any:
                return results[value.number] if isinstance(value, Place) else value

            for func, args, kwargs in steps:
                results.append(func(*tree_map(there, args), **tree_map(there, kwargs)))
            return results[last]

        return again
