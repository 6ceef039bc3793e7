"""Which methods there are, in whose environment each runs, and how it is made."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        environment: the name of a file of `environments`.
        path: `module:class` below `benchmarks.methods`.
        title: its name in tables.
        options: handed to the class.
    """

    environment: str
    path: str
    title: str
    options: dict[str, Any] = field(default_factory=dict)


QV, ALL = ["q_proj", "v_proj"], "all-linear"
REUSE, NO_REUSE = {"reuse": True}, {"reuse": False}
COMPILED, PREFIX = {"compiled": True}, {"prefix_only": True}
METHODS = {
    "frozen": Entry("reftune", "method:Frozen", "frozen model"),
    "frozen_pyreft": Entry("pyreft", "method:Frozen", "frozen model, pyreft's transformers"),
    "frozen_adapters": Entry("adapters", "method:Frozen", "frozen model, adapters' transformers"),
    "floor": Entry("reftune", "bias_floor:BiasFloor", "floor: a bias"),
    "floor_compiled": Entry("reftune", "bias_floor:BiasFloor", "floor, compiled", COMPILED),
    "reftune": Entry("reftune", "reftune_adapter:Reftune", "reftune"),
    "reftune_reuse": Entry("reftune", "reftune_adapter:Reftune", "reftune, reuse", REUSE),
    "reftune_no_reuse": Entry("reftune", "reftune_adapter:Reftune", "reftune, no reuse", NO_REUSE),
    "reftune_compiled": Entry("reftune", "reftune_adapter:Reftune", "reftune, compiled", COMPILED),
    "pyreft": Entry("pyreft", "pyreft_model:Pyreft", "pyreft"),
    "adapters": Entry("adapters", "adapterhub:AdapterHub", "AdapterHub"),
    "adapters_prefix": Entry(
        "adapters", "adapterhub:AdapterHub", "AdapterHub, prefix only", PREFIX
    ),
    "lora_qv": Entry("reftune", "lora:Lora", "LoRA r 8 on q,v", {"targets": QV}),
    "lora_all": Entry("reftune", "lora:Lora", "LoRA r 8, all linear", {"targets": ALL}),
}
# Whose losses are compared, from the same R, W and b.
WITH_MATRICES = ("reftune", "reftune_reuse", "reftune_compiled", "pyreft")
