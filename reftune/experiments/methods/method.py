"""What a finetuning method is to an experiment."""

from pathlib import Path
from typing import Any, Protocol


class Method(Protocol):
    """Puts something trainable on a base model, and takes it off again.

    Made from a name and options by `reftune.experiments.methods.method_of`. One method is on a
    model at a time, and `detach` leaves the base model bit for bit as it was.
    """

    def attach(self, model: Any, task_type: str) -> Any:
        """Return a base model with what the method trains on it, and only that, trainable.

        Args:
            model: a transformers model without adapters, in training or evaluation mode.
            task_type: PEFT's name of what is trained for: `"CAUSAL_LM"` or `"SEQ_CLS"`. With the
                latter the classification head is trained too.

        Raises:
            ValueError: the method does not fit the model; the model is unchanged.
        """
        ...

    def count(self, attached: Any) -> int:
        """Return how many numbers the method trains, those of a classification head left out.

        Raises:
            ValueError: no method is on the model.
        """
        ...

    def save(self, attached: Any, folder: Path) -> None:
        """Write what was trained, and enough to load it, into a folder; older files are replaced.

        Raises:
            ValueError: no method is on the model.
        """
        ...

    def load(self, model: Any, folder: Path) -> Any:
        """Return a base model with what `save` wrote, in evaluation mode, nothing of it trainable.

        Raises:
            FileNotFoundError: the folder has none of the method's files.
            ValueError: it has those of another method, or of another model; the model is unchanged.
        """
        ...

    def detach(self, attached: Any) -> Any:
        """Return the base model, as it was before `attach` or `load`, on the device it is on now.

        Raises:
            ValueError: no method is on the model.
        """
        ...
