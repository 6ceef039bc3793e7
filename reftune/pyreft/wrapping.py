"""`get_reft_model`: interventions put beside a model."""

from typing import Any

from torch import nn

from reftune.pyreft.model import ReftModel


def get_reft_model(
    model: nn.Module, reft_config: Any, set_device: bool = True, disable_model_grads: bool = True
) -> ReftModel:
    """Return a model with interventions.

    Args:
        model: a transformers model, or a PEFT model of one. It is not changed, but for its hooks.
        reft_config: which parts are edited.
        set_device: move the interventions to the model's device.
        disable_model_grads: freeze the model; otherwise what was trained in it still is.

    Raises:
        ValueError: the model has no such layer or component. It is as it was then.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"get_reft_model({type(model).__name__}, ...): expected a model first")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device: Any = model.device if set_device else None
    reft_model = ReftModel(reft_config, model)
    if set_device:
        reft_model.set_device(device, set_model=False)
    if not disable_model_grads:
        for parameter in trained:
            parameter.requires_grad_(True)
    return reft_model
