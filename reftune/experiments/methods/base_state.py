"""What a base model is before something is put on it, so that it can be made so again."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig


class BaseState:
    """The state of a model when this is built: its parts, hooks, flags, buffers and configs.

    Values of parameters are kept only of those that `keep` is called with: a copy of all of them
    takes as much memory as the model.
    """

    def __init__(self, model: nn.Module):
        self.attributes = [(module, dict(vars(module))) for module in model.modules()]
        # Parts, parameters and hooks of a module are in dictionaries, which are changed in place.
        self.contents = [
            (value, dict(value))
            for _, attributes in self.attributes
            for value in attributes.values()
            if isinstance(value, dict)
        ]
        self.buffers = [
            (module, name, buffer, buffer.clone())
            for module, _ in self.attributes
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self.flags = [(p, p.requires_grad, p.grad is None) for p in model.parameters()]
        configs = [attributes.get("config") for _, attributes in self.attributes]
        different = {id(one): one for one in configs if isinstance(one, PretrainedConfig)}
        self.contents += [(vars(config), dict(vars(config))) for config in different.values()]
        self.values: list[tuple[nn.Parameter, Tensor]] = []

    def keep(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep the values of those parameters that the model has had from the beginning."""
        own = {id(parameter) for parameter, _, _ in self.flags}
        self.values += [(p, p.detach().clone()) for p in parameters if id(p) in own]

    def restore(self) -> None:
        """Make the model what it was, on the device that it is on now."""
        devices = [module._buffers.get(name) for module, name, _, _ in self.buffers]
        for module, attributes in self.attributes:
            vars(module).clear()
            vars(module).update(attributes)
        for dictionary, content in self.contents:
            dictionary.clear()
            dictionary.update(content)
        with torch.no_grad():
            for (module, name, buffer, value), now in zip(self.buffers, devices, strict=True):
                there = buffer if now is None else buffer.to(now.device)
                module._buffers[name] = there.copy_(value)
            for parameter, value in self.values:
                parameter.copy_(value)
        for parameter, requires_grad, had_none in self.flags:
            parameter.requires_grad_(requires_grad)
            if had_none:
                parameter.grad = None


@contextmanager
def undone_on_error(model: nn.Module) -> Iterator[BaseState]:
    """Give the state of a model, and make the model so again if the block raises."""
    state = BaseState(model)
    try:
        yield state
    except BaseException:  # Ctrl-C too
        state.restore()
        raise
