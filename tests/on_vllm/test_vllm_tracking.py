"""Requests are followed through what vLLM's scheduler says, step after step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.adapters import ServedAdapter
from reftune.serving.lowering import LINEAR
from reftune.vllm.runners import watch
from reftune.vllm.ticket import ASKED, Ticket
from reftune.vllm.tracking import TrackedRequests

ADAPTER = ServedAdapter("digest", Where(Positions(last=1), True, "none"), LINEAR, {})


def new(name, prompt, past=0, ticket=None, **more):
    extra = None if ticket is None else {ASKED: ticket.written()}
    fields = {
        "req_id": name,
        "prompt_token_ids": prompt,
        "num_computed_tokens": past,
        "sampling_params": SimpleNamespace(extra_args=extra),
    }
    return SimpleNamespace(**{**fields, **more})


def step(lengths, arrived=(), past=None, finished=()):
    """What is read of a `SchedulerOutput`."""
    past = past or {}
    cached = SimpleNamespace(req_ids=list(past), num_computed_tokens=list(past.values()))
    return SimpleNamespace(
        finished_req_ids=set(finished),
        scheduled_new_reqs=list(arrived),
        scheduled_cached_reqs=cached,
        num_scheduled_tokens=lengths,
    )


@pytest.fixture
def tracked():
    return TrackedRequests(lambda ticket: ADAPTER)


def told(tracked, order):
    return [(answer.id, past, length) for answer, past, length in tracked.runs(order)]


def test_a_prompt_in_chunks_beside_one_that_decodes(tracked) -> None:
    tracked.update(step({"a": 3, "b": 4}, [new("a", [5] * 9), new("b", [5] * 4)]))
    assert told(tracked, ["b", "a"]) == [("b", 0, 4), ("a", 0, 3)]  # the batch has its own order
    tracked.update(step({"b": 1, "a": 6}, past={"a": 3, "b": 4}))
    assert told(tracked, ["a", "b"]) == [("a", 3, 6), ("b", 4, 1)]
    tracked.update(step({"a": 1}, past={"a": 9}, finished=["b"]))
    assert told(tracked, ["a"]) == [("a", 9, 1)]
    assert len(tracked) == 1


def test_blocks_that_were_found_in_the_cache_are_not_computed(tracked) -> None:
    ticket = Ticket("folder", "digest", 20)
    tracked.update(step({"a": 4}, [new("a", [5] * 20, past=16, ticket=ticket)]))
    [(answer, past, length)] = tracked.runs(["a"])
    assert (answer.adapter, past, length) == (ADAPTER, 16, 4)
    assert answer.edited(past, past + length) == ([19], [])


def test_a_request_that_was_preempted_keeps_its_prompt(tracked) -> None:
    """It comes back as an old one or, in vLLM's second runner, as a new one."""
    ticket = Ticket("folder", "digest", 4)
    tracked.update(step({"a": 4}, [new("a", [5] * 4, ticket=ticket)]))
    tracked.update(step({"a": 1}, past={"a": 4}))
    tracked.update(step({}))
    tracked.update(step({"a": 6}, past={"a": 0}))
    [(answer, past, length)] = tracked.runs(["a"])
    assert answer.edited(past, past + length) == ([3], [])
    tracked.update(step({"a": 6}, [new("a", [5] * 4, ticket=ticket)], finished=["a"]))
    [(answer, past, length)] = tracked.runs(["a"])
    assert answer.edited(past, past + length) == ([3], [])


def test_a_batch_of_other_requests_than_were_scheduled_is_an_error(tracked) -> None:
    tracked.update(step({"a": 4}, [new("a", [5] * 4)]))
    for order in ([], ["b"], ["a", "b"]):
        with pytest.raises(RuntimeError, match="which were scheduled"):
            tracked.runs(order)


def test_what_was_not_admitted_is_an_error(tracked) -> None:
    forged = new("a", [5] * 4, sampling_params=SimpleNamespace(extra_args={ASKED: "one"}))
    with pytest.raises(RuntimeError, match="expected a ticket"):
        tracked.update(step({"a": 4}, [forged]))


def test_a_request_that_generates_no_text_has_no_adapter(tracked) -> None:
    tracked.update(step({"a": 4}, [new("a", None, sampling_params=None)]))
    assert told(tracked, ["a"]) == [("a", 0, 4)]


def test_both_runners_are_watched_before_the_model_runs() -> None:
    happened: list[object] = []
    model = nn.Identity()
    model.register_forward_hook(lambda *args: happened.append("pass"))
    batch = SimpleNamespace(req_ids=["b", "a"])
    state = SimpleNamespace(prepare_inputs=lambda batch, states: {"more": states})
    runner = SimpleNamespace(input_batch=batch, model_state=state, get_model=lambda: model)

    watch(runner, False, lambda order: happened.append(list(order)))
    model(torch.zeros(1))
    assert happened == [["b", "a"], "pass"]

    watch(runner, True, lambda order: happened.append(("second", list(order))))
    assert runner.model_state.prepare_inputs(batch, 5) == {"more": 5}
    assert happened[2:] == [("second", ["b", "a"])]
