# The types are checked without vLLM.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Proof at the start that edits act at every layer, on the right tokens, and on nothing else.

The states of one prompt are written into another one of the same length. If they are those that the
model goes on with, it must say of the second prompt what it said of the first, whatever the layer.
A version of vLLM in which a hook no longer runs, or sees something else than the residual stream,
would answer without an edit, and nothing would say so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.outputs import AsyncModelRunnerOutput

from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.adapters import ServedAdapter
from reftune.serving.errors import EngineError
from reftune.serving.lowering import SCALED, Scaling
from reftune.sites import Site
from reftune.vllm.ticket import ASKED, Ticket

# Log probabilities of one state, computed in two batches, agree to this, in nats.
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
LIKELIEST = 5
NAME = "reftune-probe"


@dataclass(frozen=True, eq=False)
class Ask:
    """A prompt, and the adapter that edits it."""

    prompt: tuple[int, ...]
    adapter: ServedAdapter | None = None


Answers = list[dict[int, float]]  # of each, its likeliest tokens with their log probabilities


def probe(worker: Any) -> None:
    """Hold edited answers of a worker's own steps against those that they must equal.

    Args:
        worker: a `ReftWorker`, ready for requests and without any.

    Raises:
        EngineError: an edit did not act, acted elsewhere, or nothing can be proved.
    """
    first, second = (3, 5), (7, 11)
    half = worker.model_config.dtype not in (torch.float32, torch.float64)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    sites: Sequence[Site] = worker.reft_reader.sites
    worker.reft_editing.recording = {}
    [wanted] = _answers(worker, [Ask(first)])
    states, worker.reft_editing.recording = worker.reft_editing.recording, None
    if missed := [site.module for site in sites if site.module not in states]:
        raise EngineError(
            f"nothing went through {', '.join(missed)}: expected vLLM to call the hooks of layers"
        )
    asks = [Ask(second, _writing(site, states[site.module][:2])) for site in sites]
    plain, *edited = _answers(worker, [Ask(second), *asks])
    if _distance(plain, wanted) <= tolerance:
        raise EngineError(
            f"two prompts have the same answer {wanted}, so that nothing is proved: expected a "
            "model that reads its prompt"
        )
    late = _writing(sites[-1], states[sites[-1].module][1:2])
    names = [site.module for site in sites] + [f"{sites[-1].module}, read in two steps,"]
    for name, answer in zip(names, [*edited, _in_two_steps(worker, late)], strict=True):
        if not _distance(answer, wanted) <= tolerance:
            raise EngineError(
                f"an edit at {name} gave an answer {answer}: expected {wanted}; vLLM cannot serve "
                f"{worker.model_config.model} with adapters"
            )
    [again] = _answers(worker, [Ask(second)])
    if not _distance(again, plain) <= tolerance:
        raise EngineError(f"an answer without edits became {again}: expected {plain}, as before")
    worker.reft_editing.empty(worker.reft_editing.slots.count)  # tables that others may not need


def _writing(site: Site, states: Tensor) -> ServedAdapter:
    """Return an adapter that writes the first and the last token's states, or the last one's."""
    edits = tuple(Scaling(torch.zeros(site.width), state.float().cpu()) for state in states)
    tied = len(edits) == 1
    where = Where(Positions(first=0 if tied else 1, last=1), tied=tied, decode="none")
    return ServedAdapter(f"{NAME}-{site.module}-{len(edits)}", where, SCALED, {site: edits})


def _distance(answer: Mapping[int, float], wanted: Mapping[int, float]) -> float:
    """Return how far the likeliest tokens of two answers are apart, in nats."""
    ranked = zip(sorted(answer.values()), sorted(wanted.values()), strict=True)
    best = max(wanted, key=lambda token: wanted[token])
    own = abs(answer[best] - wanted[best]) if best in answer else float("inf")
    return max(own, *(abs(one - other) for one, other in ranked))


def _answers(worker: Any, asks: Sequence[Ask]) -> Answers:
    """Return the answers to prompts that are each read in one step, in as few steps as possible."""
    scheduler = worker.scheduler_config
    longest = max(len(ask.prompt) for ask in asks)
    blocks = worker.model_runner.kv_cache_config.num_blocks - 1
    room = min(scheduler.max_num_seqs, scheduler.max_num_batched_tokens // longest, blocks)
    if room < 1:
        raise EngineError(
            f"a step has room for {scheduler.max_num_batched_tokens} tokens and {blocks} blocks: "
            f"expected {longest} tokens and a block, for a probe"
        )
    found: Answers = []
    for begin in range(0, len(asks), room):
        part = asks[begin : begin + room]
        new = [_request(worker, number, ask) for number, ask in enumerate(part)]
        lengths = {one.req_id: len(ask.prompt) for one, ask in zip(new, part, strict=True)}
        said = _step(worker, lengths, new=new)
        found += [said[one.req_id] for one in new]
        _finish(worker, new)
    return found


def _in_two_steps(worker: Any, adapter: ServedAdapter) -> dict[int, float]:
    """Return the answer to a prompt whose last token comes in a second step."""
    one = _request(worker, 0, Ask((7, 11, 13, 17, 19), adapter))
    _step(worker, {one.req_id: 3}, new=[one])
    cached = CachedRequestData.make_empty()
    cached.req_ids, cached.num_computed_tokens = [one.req_id], [3]
    cached.num_output_tokens, cached.new_block_ids = [0], [None]
    said = _step(worker, {one.req_id: 2}, cached=cached)
    _finish(worker, [one])
    return said[one.req_id]


def _request(worker: Any, number: int, ask: Ask) -> NewRequestData:
    """Return a request as the scheduler would send it, with a block of its own."""
    extra = None
    if ask.adapter is not None:
        worker.reft_reader.know(ask.adapter)
        extra = {ASKED: Ticket("", ask.adapter.digest, len(ask.prompt)).written()}
    params = SamplingParams(temperature=0, max_tokens=2, logprobs=LIKELIEST, extra_args=extra)
    groups = len(worker.model_runner.kv_cache_config.kv_cache_groups)
    return NewRequestData(
        req_id=f"{NAME}-{number}",
        prompt_token_ids=list(ask.prompt),
        mm_features=[],
        sampling_params=params,
        pooling_params=None,
        block_ids=tuple([number + 1] for _ in range(groups)),  # 0 is nobody's
        num_computed_tokens=0,
        lora_request=None,
        prefill_token_ids=list(ask.prompt),
    )


def _step(
    worker: Any,
    lengths: dict[str, int],
    new: Sequence[NewRequestData] = (),
    cached: CachedRequestData | None = None,
) -> dict[str, dict[int, float]]:
    """Run a step of the worker; return what it says of each request."""
    scheduled = SchedulerOutput.make_empty()
    scheduled.scheduled_new_reqs = list(new)
    scheduled.scheduled_cached_reqs = cached or CachedRequestData.make_empty()
    scheduled.num_scheduled_tokens = lengths
    scheduled.total_num_scheduled_tokens = sum(lengths.values())
    output = worker.execute_model(scheduled)
    output = worker.sample_tokens(None) if output is None else output
    output = output.get_output() if isinstance(output, AsyncModelRunnerOutput) else output
    return dict(_read(output))


def _read(output: Any) -> Iterator[tuple[str, dict[int, float]]]:
    ids, values = output.logprobs.logprob_token_ids, output.logprobs.logprobs
    for name, row in output.req_id_to_index.items():
        # The chosen token comes first, and again among the likeliest.
        pairs = zip(ids[row].tolist(), values[row].tolist(), strict=True)
        yield name, dict(pairs)


def _finish(worker: Any, requests: Sequence[NewRequestData]) -> None:
    scheduled = SchedulerOutput.make_empty()
    scheduled.finished_req_ids = {one.req_id for one in requests}
    worker.execute_model(scheduled)
