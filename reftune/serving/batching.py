"""Transformers' continuous batching, set up so that every step can be planned on the host."""

import copy
import itertools
from collections.abc import Collection
from dataclasses import fields
from importlib.metadata import version
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager

from reftune.serving.control import Router, StepControl
from reftune.serving.errors import EngineError
from reftune.serving.settings import EngineSettings


def make_manager(
    model: PreTrainedModel,
    settings: EngineSettings,
    ends: Collection[int],
    control: StepControl,
    router: Router,
) -> ContinuousBatchingManager:
    """Return a manager whose steps are ours to plan; it is not started yet.

    Args:
        model: that it runs. Its attention may be switched.
        settings: how much it holds.
        ends: tokens that end an answer.
        control: plans its steps.
        router: gets what it has to say.

    Raises:
        EngineError: the model cannot be run so, or transformers is too old.
    """
    if "page_size" not in {field.name for field in fields(ContinuousBatchingConfig)}:
        raise EngineError(
            f"transformers {version('transformers')} has an older continuous batching than the "
            "engine reaches into: expected 5.23 or newer"
        )
    config = ContinuousBatchingConfig(
        page_size=settings.page_tokens,
        num_blocks=-(-settings.cache_tokens // settings.page_tokens),
        max_batch_tokens=settings.batch_tokens,
        max_requests_per_batch=min(settings.requests, settings.batch_tokens),
        # Blocks are found by their tokens alone, which is not enough where states are edited.
        allow_block_sharing=False,
        # Plans differ from step to step, and are made right before each: no step may be prepared
        # while another runs, or be replayed from a recording.
        use_async_batching=False,
        use_cuda_graph=False,
    )
    generation = GenerationConfig(do_sample=False, eos_token_id=sorted(ends) or None)
    try:
        begin: Any = model.init_continuous_batching
        manager = begin(generation, config)
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(f"{type(model).__name__} cannot be served: {error}") from error
    manager.logit_processor, manager.output_router = control, router
    return manager


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model's modules upon the same weights."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
