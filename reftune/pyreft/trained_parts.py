"""What of a `ReftModel` is trained, how much that is, and where it lies."""

from typing import Any

from torch import nn

from reftune.pyreft.attachment import Interventions
from reftune.pyreft.bases import TrainableIntervention


class TrainedParts(nn.Module):
    """The part of a `ReftModel` that knows modules and parameters alone."""

    model: nn.Module
    interventions: Interventions

    def __getattr__(self, name: str) -> Any:
        # No properties, because scripts assign them too.
        return (
            getattr(self.model, name) if name in ("device", "dtype") else super().__getattr__(name)
        )

    def set_device(self, device: Any, set_model: bool = True) -> None:
        """Move the interventions, and the model."""
        self.interventions.to(device)
        if set_model:
            self.model.to(device)

    def get_device(self) -> Any:
        return self.model.device

    def enable_model_gradients(self) -> None:
        """Train the model itself too."""
        self.model.train()
        self.model.requires_grad_(True)

    def disable_model_gradients(self) -> None:
        """Freeze the model."""
        self.model.eval()
        self.model.requires_grad_(False)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        model: Any = self.model
        # transformers 5.2x renamed it.
        name = "activation_checkpointing_enable"
        getattr(model, name, model.gradient_checkpointing_enable)(*args, **kwargs)

    activation_checkpointing_enable = gradient_checkpointing_enable

    def get_trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the interventions, and those of the model that are trained."""
        own = [p for one in self._trainable() for p in one.parameters()]
        return own + [p for p in self.model.parameters() if p.requires_grad]

    def count_parameters(self, include_model: bool = False) -> int:
        """Return how many parameters of the interventions, and of the model, are trained."""
        count = sum(count_parameters(one) for one in self._trainable())
        return count + (count_parameters(self.model) if include_model else 0)

    def _trainable(self) -> list[nn.Module]:
        """Return the trained interventions; one that several representations share comes once."""
        found = dict.fromkeys(self.interventions.values())
        return [one for one in found if isinstance(one, TrainableIntervention)]

    def print_trainable_parameters(self) -> None:
        """Print the counts, in pyreft's words."""
        own, model = self.count_parameters(), count_parameters(self.model)
        every = sum(parameter.numel() for parameter in self.model.parameters())
        print(
            f"trainable intervention params: {own:,d} || trainable model params: {model:,d}\n"
            f"model params: {every:,d} || trainable%: {100 * (own + model) / every}"
        )

    def set_zero_grad(self) -> None:
        self.zero_grad()


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters that require gradients."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
