"""How much memory a training step needs beyond the weights of a frozen model.

For comparing methods: the weights of the base model are there whatever is trained.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StepMemory(TrainerCallback):
    """Measures one step of a training, and leaves its result and the other steps as they are.

    On CUDA it is the peak of what is allocated during the step, less what was allocated when the
    training began, but for the trained parameters. On a CPU, which has no such statistic, it is a
    sum of bytes:

    * of the tensors that the model's forward pass, with its loss, saves for backward: every storage
      once, parameters and buffers of the model left out; with gradient accumulation those of the
      micro-batch that saves the most;
    * of the trained parameters, their gradients, and the state of the optimizer.

    The sum depends on shapes and dtypes alone. It leaves out what no tensor is saved for: the
    workspace of kernels, temporary results, the passing gradients of hidden states, tensors that an
    `autograd.Function` keeps as plain attributes, a loss that is computed outside of the model, and
    what reftune keeps for reuse in other steps (`reftune.reuse`).

    The step is the second one after the training began, or went on, because the first may be
    special: reuse computes it both ways. It is the first one if no other follows.

    Attributes:
        bytes: the memory; `None` before the measured step has ended.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._begun = 0
        self._before = 0
        self._saved = _Saved()
        self._most_saved = 0
        self._kept = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Begin anew.

        Raises:
            ValueError: the step cannot be measured: its layers run again in backward, it is
                compiled, or the loss is computed outside of the model.
        """
        self._saved.remove()  # of a training that failed in the measured step
        self.bytes, self._begun, self._most_saved = None, 0, 0
        settings = {
            "gradient_checkpointing": args.gradient_checkpointing,
            "torch_compile": args.torch_compile,
            "label_smoothing_factor": args.label_smoothing_factor,
        }
        if args.device.type == "cuda":
            self._before = torch.cuda.memory_allocated(args.device) - _size(_trained(model))
            return
        for name, value in settings.items():
            if value:
                raise ValueError(
                    f"{name}={value}: expected none, because on a CPU only tensors can be counted "
                    "that the forward pass of the model saves"
                )

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Begin to measure, if it is the step for it."""
        self._begun += 1
        if not self._measures(state.global_step == state.max_steps - 1):
            return
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)
        else:
            self._saved.watch(model)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the count of a micro-batch, whose saved tensors backward has let go of."""
        self._most_saved = max(self._most_saved, self._saved.take())

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Count the gradients while they are there."""
        if self._saved.watching:
            gradients = (p.grad for p in _trained(model) if p.grad is not None)
            self._kept = _size(_trained(model)) + _size(gradients)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Add up, if this was the step."""
        if not self._measures(state.global_step == state.max_steps):
            return
        if args.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(args.device) - self._before
            return
        self._most_saved = max(self._most_saved, self._saved.take())
        self._saved.remove()
        states = (value for of in optimizer.state.values() for value in of.values())
        state_bytes = _size(value for value in states if isinstance(value, Tensor))
        self.bytes = self._most_saved + self._kept + state_bytes

    def _measures(self, is_last: bool) -> bool:
        return self.bytes is None and (self._begun == 2 or is_last)


class _Saved:
    """Counts what the forward passes of a model save for backward.

    Attributes:
        watching: whether it does so now.
    """

    def __init__(self) -> None:
        self.watching = False
        self._handles: list[Any] = []
        self._own: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._hooks: saved_tensors_hooks | None = None

    def watch(self, model: nn.Module) -> None:
        """Count from now on; hooks that save and give back every tensor as it is."""
        tensors = (*model.parameters(), *model.buffers())
        self._own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._handles = [
            model.register_forward_pre_hook(self._enter),
            model.register_forward_hook(self._leave, always_call=True),
        ]
        self.watching = True

    def take(self) -> int:
        """Return the bytes counted so far, and begin again at 0."""
        total = sum(self._sizes.values())
        self._sizes.clear()
        return total

    def remove(self) -> None:
        """Count no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._sizes.clear()
        self.watching = False

    def _enter(self, model: nn.Module, args: Any) -> None:
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()

    def _leave(self, model: nn.Module, args: Any, output: Any) -> None:
        if self._hooks is not None:
            self._hooks.__exit__()
            self._hooks = None

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


def _trained(model: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
