"""What interventions of one's own derive from: the base classes of pyvene, by their names.

A class combines them as in pyvene 0.1.8 (`pyvene/models/interventions.py`), and writes
`forward(base, source=None, subspaces=None)`, where `base` is `(batch, positions, width)`.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Intervention(nn.Module):
    """An edit of hidden states.

    Args:
        embed_dim: width of the hidden states; kept as a buffer, as pyvene has it in its files.
        keep_last_dim: whether `forward` takes `(batch, positions, width)`; otherwise it takes
            `(batch, positions * width)`.
        source_representation: a constant to put in, kept as a buffer.
        kwargs: whatever else a representation holds; a class of one's own may read it.
    """

    embed_dim: Any
    interchange_dim: Any
    source_representation: Tensor | None
    trainable = False
    is_source_constant = False
    # Older versions of pyvene asked for these.
    use_fast = False
    subspace_partition: list | None = None

    def __init__(self, **kwargs: Any):
        super().__init__()
        self.keep_last_dim = kwargs.get("keep_last_dim", False)
        self.use_fast = kwargs.get("use_fast", False)
        self.subspace_partition = kwargs.get("subspace_partition")
        width = kwargs.get("embed_dim")
        size = None if width is None else torch.as_tensor(width)
        self.register_buffer("embed_dim", size)
        self.register_buffer("interchange_dim", None if size is None else size.clone())
        source = kwargs.get("source_representation")
        self.register_buffer("source_representation", source)
        self.is_source_constant = source is not None

    def __getitem__(self, index: int) -> Any:
        """Return itself at 0: older versions kept pairs of an intervention and its hook."""
        return (self, None)[index]

    def set_interchange_dim(self, interchange_dim: Any) -> None:
        self.interchange_dim = torch.as_tensor(interchange_dim)

    def set_source_representation(self, source_representation: Tensor) -> None:
        self.is_source_constant = True
        self.source_representation = source_representation

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: expected a forward of its own")


class LocalistRepresentationIntervention(nn.Module):
    """Acts on hidden states in their own basis."""

    def __init__(self, **kwargs: Any):
        super().__init__()
        self.is_repr_distributed = False


class DistributedRepresentationIntervention(nn.Module):
    """Acts on hidden states in a basis of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__()
        self.is_repr_distributed = True


class TrainableIntervention(Intervention):
    """Has parameters that are trained and saved."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.trainable = True

    def tie_weight(self, linked_intervention: nn.Module) -> None:
        """Do nothing, as in pyvene."""


class ConstantSourceIntervention(Intervention):
    """Puts in something that comes from no other input."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.is_source_constant = True


class SourcelessIntervention(Intervention):
    """Needs nothing but the hidden states."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.is_source_constant = True


class BasisAgnosticIntervention(Intervention):
    """Acts in any basis."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.basis_agnostic = True


class SharedWeightsTrainableIntervention(TrainableIntervention):
    """Shares its parameters with others."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.shared_weights = True
