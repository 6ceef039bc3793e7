"""What scripts for pyreft import from pyvene: the classes that interventions derive from, and a few
more that stand for ours.
"""

from pathlib import Path
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
CONST_GRAD_HOOK = "register_hook"
# Scripts import them beside what they use; whoever calls one is told that it is not here.
NOT_HERE = frozenset(
    """
    AutoencoderIntervention BoundlessRotatedSpaceIntervention GET_LOC HandlerList
    IntervenableNdifModel InterventionState JumpReLUAutoencoderIntervention
    LowRankRotatedSpaceIntervention NoiseIntervention PCARotatedSpaceIntervention RotateLayer
    RotatedSpaceIntervention SigmoidMaskIntervention SigmoidMaskRotatedSpaceIntervention
    SkipIntervention SubspaceLowRankRotateLayer b_sd_to_bsd bhsd_to_bs_hd bs_hd_to_bhsd
    bsd_to_b_sd build_intervenable_model closeness_to_permutation_loss create_gpt2
    create_gpt2_lm create_gpt_neo create_gru create_llama do_intervention embed_to_distrib
    format_token gather_neurons get_dimension_by_component get_internal_model_type
    get_module_hook get_type_from_string getattr_for_torch_module harmonic_sigmoid_boundary
    is_gru is_mlp is_stateless is_transformer output_to_subcomponent print_forward_hooks
    random_permutation_matrix remove_forward_hooks scatter_neurons sigmoid_boundary
    simple_output_to_subcomponent simple_scatter_intervention_output top_vals weighted_average
    """.split()
)
type_to_dimension_mapping: dict[type, dict[str, tuple]] = {}  # the widths are read from the modules


def get_batch_size(model_input: Any) -> int:
    """Return the number of rows of a model's inputs, or of a tensor."""
    return len(model_input if isinstance(model_input, Tensor) else next(iter(model_input.values())))


def create_directory(path: str) -> None:
    """Make a folder, if there is none."""
    Path(path).mkdir(parents=True, exist_ok=True)


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
    "CONST_GRAD_HOOK",
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
    "create_directory",
    "get_batch_size",
    "set_seed",
    "type_to_dimension_mapping",
    "type_to_module_mapping",
]
