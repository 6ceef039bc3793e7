"""When to plan a step: vLLM's two model runners know the order of the batch at different places."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

Plan = Callable[[Sequence[str]], None]


def watch(runner: Any, is_second: bool, plan: Plan) -> None:
    """Have every step planned right before its forward pass.

    Args:
        runner: of a worker, with its model loaded.
        is_second: whether it is vLLM's Model Runner V2.
        plan: gets the names of the requests in the order of the batch.
    """
    if is_second:
        _watch_second(runner.model_state, plan)
    else:
        _watch_first(runner, plan)


def _watch_first(runner: Any, plan: Plan) -> None:
    """The batch is an attribute of the runner, and in order when the model is called."""

    def before(module: nn.Module, args: tuple) -> None:
        plan(runner.input_batch.req_ids)

    runner.get_model().register_forward_pre_hook(before)


def _watch_second(state: Any, plan: Plan) -> None:
    """The batch is told to the model's state, which may add inputs of its own, before each pass."""
    prepare = state.prepare_inputs

    def prepare_inputs(input_batch: Any, req_states: Any) -> Any:
        plan(input_batch.req_ids)
        return prepare(input_batch, req_states)

    state.prepare_inputs = prepare_inputs
