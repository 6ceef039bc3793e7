"""What a finetuning method is to an experiment."""

from pathlib import Path
from typing import Any, Protocol


class Method(Protocol):
    """Puts something trainable on a base model, and takes it off again.

    Made from a name and options by `reftune.experiments.methods.method_of`. `attach` and `load`
    leave the base model bit for bit as it was once `detach` has been called.
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
        """Return how many numbers the method trains, those of a classification head left out."""
        ...

    def save(self, attached: Any, folder: Path) -> None:
        """Write what was trained, and enough to load it, into a folder."""
        ...

    def load(self, model: Any, folder: Path) -> Any:
        """Return a base model with what `save` wrote."""
        ...

    def detach(self, attached: Any) -> Any:
        """Return the base model, as it was before `attach` or `load`."""
        ...
