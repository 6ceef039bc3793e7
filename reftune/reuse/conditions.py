"""When a part of a training step is the same at every step, and when nobody can tell."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from reftune.anatomy import Anatomy, join
from reftune.divided import is_whole
from reftune.labelled_loss import narrows
from reftune.layer import InterventionLayer
from reftune.plan import Where

# A forward pass that is told anything else may do anything else with it.
KNOWN_INPUTS = {"input_ids", "attention_mask", "labels", "use_cache", "return_dict"}
KNOWN_INPUTS |= {"num_items_in_batch"}
ATTENTIONS = {"full_attention", "sliding_attention"}


def is_plain_step(root: Any, inputs: dict[str, Any]) -> bool:
    """Say whether a step is a plain one: a prompt, its completion, and transformers' own loss."""
    said = {name for name, value in inputs.items() if value is not None and value is not False}
    if said - KNOWN_INPUTS or not {"input_ids", "labels"} <= said:
        return False
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    shaped = ids.dim() == 2 and inputs["labels"].shape == ids.shape
    if not shaped or (mask is not None and mask.shape != ids.shape) or ids.device.type == "meta":
        return False
    return narrows(root, inputs)


def layers_of_stack(root: nn.Module) -> list[nn.Module]:
    """Return the layers of a model in order; none if they are not known."""
    anatomy = Anatomy(root)
    try:
        path = join(anatomy.base_path, anatomy.stack("").layers)
    except ValueError:
        return []
    return list(root.get_submodule(path).children())


def unedited(root: nn.Module, layers: list[nn.Module], adapters: Iterable[str]) -> int:
    """Return how many of the first layers give what no edit of these adapters has changed.

    What comes out of the last of them may be edited after that.
    """
    number = {id(part): i for i, layer in enumerate(layers) for part in layer.modules()}
    lowest, names = len(layers), set(adapters)
    for edits in root.modules():
        if isinstance(edits, InterventionLayer) and names & set(edits.reft_edits):
            owner = edits.get_base_layer()
            index = number.get(id(owner), 0)
            after = edits.side == "output" and any(owner is layer for layer in layers)
            lowest = min(lowest, index + after)
    return lowest


def suffix_of(where: Where) -> int | None:
    """Return how many of the last prompt tokens an adapter edits, `None` if others are, too."""
    positions = where.positions
    return None if positions.first or positions.everywhere else positions.last


def why_not(root: Any, backbone: nn.Module) -> str | None:
    """Return why nothing of a model can be reused, or `None`."""
    config = root.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTIONS
    if kinds or getattr(root, "_is_stateful", False):
        return f"it has layers of {sorted(kinds) or 'a recurrent kind'}"
    if getattr(config, "num_kv_shared_layers", 0):
        return "its layers share keys and values"
    if getattr(config, "output_router_logits", False):
        return "its loss also depends on its routers"
    for name, module in backbone.named_modules():
        if module._compiled_call_impl is not None or isinstance(module, OptimizedModule):
            return f"its {name or type(module).__name__} is compiled"
        rates = {key: rate for key, rate in vars(module).items() if "drop" in key}
        if isinstance(module, nn.Dropout):
            rates = {"p": module.p}
        for key, rate in rates.items():
            if isinstance(rate, float) and rate > 0:
                return f"its {name or type(module).__name__} has dropout ({key}={rate})"
    return _why_not_parameters(backbone)


def _why_not_parameters(backbone: nn.Module) -> str | None:
    devices = set()
    for name, parameter in frozen_parameters(backbone):
        if parameter.requires_grad:
            return f"{name} is trained, too"
        if parameter.is_meta:
            return f"{name} is off-loaded"
        if not is_whole(parameter):
            return f"{name} is sharded"
        devices.add(parameter.device)
    return f"it is on several devices, {sorted(map(str, devices))}" if len(devices) > 1 else None


def frozen_parameters(backbone: nn.Module) -> list[tuple[str, Tensor]]:
    """Return all parameters but those of the edits."""
    named = backbone.named_parameters()
    return [(name, parameter) for name, parameter in named if ".reft_edits." not in name]


def fingerprint(backbone: nn.Module) -> list[tuple]:
    """Return what changes when a parameter or the precision does."""
    states: list[tuple] = [(torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"))]
    for _, parameter in frozen_parameters(backbone):
        version = 0 if parameter.is_inference() else parameter._version
        states.append((parameter.data_ptr(), version, parameter.requires_grad))
    return states


def counts_from_first_token(backbone: nn.Module) -> bool:
    """Say whether padding before a row leaves a model as it is without `position_ids`."""
    return any("rotary" in type(module).__name__.lower() for module in backbone.modules())
