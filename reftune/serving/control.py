"""Reaching into every step of transformers' continuous batching.

The engine asks its list of logits processors twice per step: before the forward pass, with all
requests of the batch, and after it, with the logits. Both happen in its own thread, one step after
the other, so what is planned in the first call is what the hooks of the forward pass find. Nothing
else of the engine knows of adapters.

https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/generation/continuous_batching
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import (
    FutureRequestState,
    GenerationOutput,
)

from reftune.serving.answer import Answer, chosen
from reftune.serving.editing import Editing
from reftune.serving.step import plan_step


class StepControl(ContinuousBatchingLogitsProcessorList):
    """Plans the edits of a step, and chooses its tokens.

    Args:
        answer_of: gives the answer with a request's id.
        editing: applies what is planned.
        device: of the model.
        prepared: called when a step is.
    """

    def __init__(
        self,
        answer_of: Callable[[str], Answer],
        editing: Editing,
        device: torch.device,
        prepared: Callable[[], None],
    ) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self._answer_of, self._editing, self._device = answer_of, editing, device
        self._prepared = prepared
        self._choosing: list[Answer] = []

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: Tensor
    ) -> Tensor:
        """Plan the step that comes."""
        runs, self._choosing = [], []
        for request in requests_in_batch:
            answer = self._answer_of(request.state.request_id)
            # The engine has already moved on by what this step adds.
            past = request.state.position_offset - request.query_length
            runs.append((answer, past, request.query_length))
            if request.has_new_token:
                self._choosing.append(answer)
        self._editing.begin(plan_step(runs, self._device))
        self._prepared()
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, logits_processor_args: Tensor) -> Tensor:
        """Make the chosen token of every row the likeliest, which the engine then takes.

        Raises:
            RuntimeError: an edit that was planned was not applied.
        """
        self._editing.end()
        count = len(self._choosing)  # the rows after these mean nothing
        if count == 0:
            return scores
        tokens = chosen(scores[:count], self._choosing)
        # In place: nobody reads them after this but the engine, for the largest of each row.
        scores[torch.arange(count, device=scores.device), tokens] = torch.inf
        return scores


class Router(OutputRouter):
    """Hands what the engine has to say to a function, in the engine's thread."""

    def __init__(self, deliver: Callable[[GenerationOutput], None]) -> None:
        super().__init__()
        self._deliver = deliver

    def deliver(self, output: GenerationOutput) -> None:
        """Hand over one output."""
        self._deliver(output)

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        """Hand over several."""
        for output in outputs:
            self._deliver(output)
