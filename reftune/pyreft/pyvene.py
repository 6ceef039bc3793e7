"""What scripts for pyreft import from pyvene: the classes that interventions derive from, and a few
more that stand for ours.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from reftune.pyreft.applying import CollectIntervention, LambdaIntervention
from reftune.pyreft.bases import (
    BasisAgnosticIntervention,
    ConstantSourceIntervention,
    DistributedRepresentationIntervention,
    Intervention,
    LocalistRepresentationIntervention,
    SharedWeightsTrainableIntervention,
    SourcelessIntervention,
    TrainableIntervention,
)
from reftune.pyreft.config import ReftConfig as IntervenableConfig
from reftune.pyreft.config import RepresentationConfig
from reftune.pyreft.model import ReftModel as IntervenableModel
from reftune.pyreft.outputs import IntervenableModelOutput, InterventionOutput
from reftune.pyreft.sites import INPUT_HOOK as CONST_INPUT_HOOK
from reftune.pyreft.sites import OWN_COMPONENTS as type_to_module_mapping
from reftune.pyreft.sublayers import LowRankRotateLayer
from reftune.pyreft.trained_parts import count_parameters

CONST_OUTPUT_HOOK = "register_forward_hook"
type_to_dimension_mapping: dict[type, dict[str, tuple]] = {}  # the widths are read from the modules


class ZeroIntervention(ConstantSourceIntervention, LocalistRepresentationIntervention):
    """Hidden states become zero."""

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        return torch.zeros_like(base)


class _WithConstant(Intervention, LocalistRepresentationIntervention):
    """Those that need a `source_representation`."""

    def constant(self) -> Tensor:
        """Return it.

        Raises:
            ValueError: there is none.
        """
        if self.source_representation is None:
            raise ValueError(f"{type(self).__name__}: expected a source_representation")
        return self.source_representation


class AdditionIntervention(_WithConstant):
    """A constant, `source_representation`, is added."""

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        return base + self.constant()


class SubtractionIntervention(_WithConstant):
    """A constant, `source_representation`, is subtracted."""

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        return base - self.constant()


class VanillaIntervention(_WithConstant):
    """A constant, `source_representation`, takes the place of the hidden states."""

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        return torch.zeros_like(base) + self.constant()


__all__ = [
    "CONST_INPUT_HOOK",
    "CONST_OUTPUT_HOOK",
    "AdditionIntervention",
    "BasisAgnosticIntervention",
    "CollectIntervention",
    "ConstantSourceIntervention",
    "DistributedRepresentationIntervention",
    "IntervenableConfig",
    "IntervenableModel",
    "IntervenableModelOutput",
    "Intervention",
    "InterventionOutput",
    "LambdaIntervention",
    "LocalistRepresentationIntervention",
    "LowRankRotateLayer",
    "RepresentationConfig",
    "SharedWeightsTrainableIntervention",
    "SourcelessIntervention",
    "SubtractionIntervention",
    "TrainableIntervention",
    "VanillaIntervention",
    "ZeroIntervention",
    "count_parameters",
    "set_seed",
    "type_to_dimension_mapping",
    "type_to_module_mapping",
]
