"""What is attached to a model, and to which of its parts a site belongs."""

from typing import Any

from torch import nn
from torch._dynamo import OptimizedModule
from transformers import PreTrainedModel

from reftune.anatomy import Anatomy
from reftune.labelled_loss import LabelledLoss
from reftune.layer import InterventionLayer
from reftune.planner import Planner
from reftune.prompts import Kind
from reftune.reuse.reuse import Reuse
from reftune.sites import Site


def refuse_compiled(model: nn.Module) -> None:
    """Raise if a part of the model is compiled, as its graph would not call a new hook."""
    for name, module in model.named_modules():
        compiled = isinstance(module, OptimizedModule) or module._compiled_call_impl is not None
        if compiled or "_compiled_call" in vars(module):
            raise ValueError(
                f"{name or type(module).__name__} is compiled, and its graph would not call the "
                "edits: expected adapters to be attached before torch.compile"
            )


def layers_of(model: nn.Module) -> list[InterventionLayer]:
    """Return the edited sites of a model."""
    return [module for module in model.modules() if isinstance(module, InterventionLayer)]


def planners_of(model: nn.Module) -> list[Planner]:
    """Return the planners of a model: one, or two if it has an encoder and a decoder."""
    return list({id(layer.planner): layer.planner for layer in layers_of(model)}.values())


def reuse_of(model: nn.Module) -> list[Reuse]:
    """Return what reuses, in training, what no edit can change: one for a causal model."""
    handles = [handle for planner in planners_of(model) for handle in planner.handles]
    return [handle for handle in handles if isinstance(handle, Reuse)]


def planner_for(model: nn.Module, site: Site) -> Planner:
    """Return the planner of the forward passes that a site belongs to; make it if there is none."""
    anatomy = Anatomy(model)
    root: Any = anatomy.root
    kind: Kind = "encoder"
    owner = model.get_submodule(site.module)
    tower = _tower(root, owner)
    if tower is not None:
        root = tower
    elif anatomy.is_pair:
        encoder = root.get_encoder()
        if any(module is owner for module in encoder.modules()):
            root = encoder
        elif root.can_generate():
            kind = "decoder"
    elif anatomy.config is not None and root.can_generate():
        kind = "causal"
    for planner in planners_of(model):
        if planner.root is root:
            return planner
    planner = Planner(root, kind)
    if kind == "causal":
        Reuse(planner)
        LabelledLoss(planner)
    return planner


def _tower(root: nn.Module, owner: nn.Module) -> nn.Module | None:
    """Return the model of pictures or sounds that a module is part of within a model of text."""
    if getattr(root, "main_input_name", "input_ids") != "input_ids":
        return None
    for module in root.modules():
        other = isinstance(module, PreTrainedModel) and module.main_input_name != "input_ids"
        if other and any(part is owner for part in module.modules()):
            return module
    return None
