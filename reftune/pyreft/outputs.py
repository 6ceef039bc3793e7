"""What calls and interventions return when it is more than one thing."""

from dataclasses import dataclass
from typing import Any

from transformers.utils.generic import ModelOutput


@dataclass
class IntervenableModelOutput(ModelOutput):
    """What a call with `return_dict=True` returns."""

    original_outputs: Any = None
    intervened_outputs: Any = None
    collected_activations: Any = None


@dataclass
class InterventionOutput(ModelOutput):
    """What an intervention may return instead of its output alone."""

    output: Any = None
    latent: Any = None
