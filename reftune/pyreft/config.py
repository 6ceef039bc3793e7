"""`ReftConfig`: which parts of a model are edited, in pyreft's words."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn


class RepresentationConfig(NamedTuple):
    """One edited part of a model: pyvene 0.1.8's fourteen fields, in its order.

    Args:
        layer: index of the layer; not used if the component is a dotted path.
        component: a name such as `"block_output"`, or a dotted path from the model that ends in
            `.output` or `.input`, with indices: `"model.layers[8].output"`.
        unit: `"pos"`, positions.
        max_number_of_units: part of the key by which the edit is known.
        low_rank_dimension: rank, for an intervention that is made from its type.
        intervention_type: class of the intervention, if none is given.
        intervention: the intervention itself.
        intervention_link_key: representations with the same one share one intervention.
    """

    layer: int = 0
    component: str = "block_output"
    unit: str = "pos"
    max_number_of_units: int = 1
    low_rank_dimension: int | None = None
    intervention_type: Any = None
    intervention: Any = None
    subspace_partition: list | None = None
    group_key: Any = None
    intervention_link_key: Any = None
    moe_key: Any = None
    source_representation: Any = None
    hidden_source_representation: Any = None
    latent_dim: int | None = None


class ReftConfig:
    """Which parts of a model are edited, and by what.

    Args:
        representations: one or a list of `RepresentationConfig`, a dict of its fields, or a list or
            tuple of their values.
        intervention_types: class of the interventions that are not given with a representation:
            one for all, or one for each.
        mode: `"parallel"`, the only one that an edit without sources has.
        sorted_keys, intervention_dimensions, intervention_constant_sources: what pyvene writes into
            its files; not used.
        kwargs: kept as attributes.

    Raises:
        ValueError: a representation has a field that is not known, both an intervention and a type,
            or neither.
    """

    def __init__(
        self,
        representations: Any = None,
        intervention_types: Any = None,
        mode: str = "parallel",
        sorted_keys: list[str] | None = None,
        model_type: str | None = None,
        intervention_dimensions: list | None = None,
        intervention_constant_sources: list | None = None,
        **kwargs: Any,
    ):
        given = representations if isinstance(representations, list) else [representations]
        if len(given) > 1 and not isinstance(given[0], list | tuple | Mapping):
            given = [given]  # the values of one
        self.representations = [_representation(one) for one in given if one is not None]
        self.mode = mode
        self.sorted_keys = sorted_keys
        self.model_type = model_type
        self.intervention_dimensions = intervention_dimensions
        self.intervention_constant_sources = intervention_constant_sources
        count = len(self.representations)
        listed = isinstance(intervention_types, list | tuple)
        types = list(intervention_types) if listed else [intervention_types] * count
        if len(types) != count:
            raise ValueError(
                f"{len(types)} intervention_types for {count} representations: expected one for "
                "each, or one for all"
            )
        self.intervention_types = [
            _type_of(one, default) for one, default in zip(self.representations, types, strict=True)
        ]
        vars(self).update(kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, with classes and modules as text."""
        fields = dict(vars(self))
        fields["representations"] = [one._asdict() for one in self.representations]
        return json.loads(json.dumps(fields, default=str))

    def __repr__(self) -> str:
        return f"{type(self).__name__} {json.dumps(self.to_dict(), indent=2)}"


def _representation(given: Any) -> RepresentationConfig:
    if isinstance(given, RepresentationConfig):
        return given
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(RepresentationConfig._fields))
        if unknown:
            raise ValueError(
                f"a representation has {unknown}: expected fields out of "
                f"{', '.join(RepresentationConfig._fields)}"
            )
        return RepresentationConfig(**given)
    if isinstance(given, list | tuple) and len(given) <= len(RepresentationConfig._fields):
        return RepresentationConfig(*given)
    raise ValueError(
        f"a representation {given!r}: expected a dict of fields, or a list of their values"
    )


def _type_of(one: RepresentationConfig, default: Any) -> Any:
    """Return the class of a representation's intervention."""
    if isinstance(one.intervention, type):
        raise ValueError(
            f"intervention {one.intervention.__name__} is a class: expected an intervention, or "
            "the class as intervention_type"
        )
    if one.intervention is not None and one.intervention_type is not None:
        raise ValueError(
            f"component {one.component!r} of layer {one.layer} has an intervention and an "
            "intervention_type: expected one of them"
        )
    if one.intervention is not None:
        return type(one.intervention)
    found = one.intervention_type or default
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"component {one.component!r} of layer {one.layer} has the intervention {found!r}: "
            "expected an intervention, or a class as its intervention_type"
        )
    return found
