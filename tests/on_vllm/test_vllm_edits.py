"""The right tokens of a step are edited by the right adapter, whatever the chunks and the slots."""

import random
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from reftune.plan import Where
from reftune.positions import Positions
from reftune.serving.adapters import ServedAdapter
from reftune.serving.lowering import LINEAR, SCALED, LowRank, Scaling
from reftune.serving.slots import Slots
from reftune.sites import Site
from reftune.vllm.editing import StepEditing
from reftune.vllm.rounds import plan_rounds, request

WIDTH = 6
CPU = torch.device("cpu")
SITES = [Site("layers.0", "output", WIDTH), Site("layers.2", "output", WIDTH)]


class Pair(nn.Module):
    """Gives the residual stream as most layers of vLLM do: as two tensors whose sum it is."""

    def forward(self, hidden, residual):
        return hidden * 2, residual + 1


class One(nn.Module):
    def forward(self, hidden, residual):
        return hidden + residual


class Three(nn.Module):
    def forward(self, hidden):
        return hidden, hidden, hidden


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Pair(), Pair(), One()])

    def forward(self, hidden):
        """Return what comes out of each layer, as one tensor."""
        residual, seen = torch.zeros_like(hidden), []
        for layer in self.layers[:2]:
            hidden, residual = layer(hidden, residual)
            seen.append(hidden + residual)
        return [*seen, self.layers[2](hidden, residual)]


def adapter(number: int, positions: str = "l1", decode="none", tied: bool = True) -> ServedAdapter:
    """An adapter that says by what it adds which one it is, and which of its parts."""
    draws = torch.Generator().manual_seed(number)

    def edit():
        if number % 2:
            return Scaling(*torch.randn(2, WIDTH, generator=draws))
        A, B = torch.randn(2, 2, WIDTH, generator=draws)
        return LowRank(A, torch.randn(2, generator=draws), B)

    sites = SITES if number % 3 else SITES[:1]
    where = Where(Positions.parse(positions), tied, decode)
    edits = {site: tuple(edit() for _ in range(1 if tied else 2)) for site in sites}
    return ServedAdapter(f"digest {number}", where, SCALED if number % 2 else LINEAR, edits)


def part_of(place: int, prompt: int, where: Where) -> int | None:
    """Say which of an adapter's edits a token gets, from the definition of positions alone."""
    last = 0 if where.tied else 1
    if place >= prompt:
        reach = {"none": 0, "all": 10**6}.get(where.decode, where.decode)
        return last if place - prompt < reach else None
    f, m, every = where.positions.first, where.positions.last, where.positions.everywhere
    if f and m:
        f, m = min(f, prompt // 2), min(m, (prompt + 1) // 2)
    if every or place < f:
        return 0
    return last if place >= prompt - m else None


def by_hand(h, edit):
    if isinstance(edit, Scaling):
        return edit.s * h + edit.t
    return h + (edit.A @ h + edit.b) @ edit.B


@dataclass
class Asked:
    answer: object
    length: int
    past: int = 0


def expected(hidden, run) -> list[torch.Tensor]:
    """Edit the tokens of a request one by one, layer after layer."""
    answer, past, length = run
    one, seen = answer.adapter, [[], [], []]
    for at in range(length):
        h, residual = hidden[at], torch.zeros(WIDTH)
        part = None if one is None else part_of(past + at, len(answer.prompt), one.where)
        for layer in range(3):
            h, residual = (h * 2, residual + 1) if layer < 2 else (h + residual, torch.zeros(WIDTH))
            edits = {} if one is None else {s.module: of for s, of in one.edits.items()}
            if part is not None and f"layers.{layer}" in edits:
                h, residual = by_hand(h + residual, edits[f"layers.{layer}"][part]), residual * 0
            seen[layer].append(h + residual)
    return [torch.stack(states) for states in seen]


def step(editing, model, hidden, runs) -> list[torch.Tensor]:
    """Run one step as the worker does."""
    editing.begin()
    editing.plan(runs)
    seen = model(hidden.clone())
    editing.end(len(hidden))
    return seen


def wheres():
    for positions in ("l1", "f2+l3", "f3", "all"):
        for decode in ("none", "all", 2):
            for tied in (True, False):
                if tied or "+" in positions:
                    yield positions, decode, tied


@pytest.mark.parametrize(("slots", "seed"), [(1, 0), (3, 1), (40, 2)])
def test_every_token_of_many_steps(slots, seed) -> None:
    """Prompts come in chunks beside requests that decode; now and then one begins anew."""
    draws, model = random.Random(seed), Toy()
    torch.manual_seed(seed)
    editing = StepEditing(model, SITES, slots, CPU)
    adapters = [None, *(adapter(n, *where) for n, where in enumerate(wheres()))]
    asked = [
        Asked(request(str(n), [0] * prompt, one), prompt + draws.randint(1, 5))
        for n, one in enumerate(adapters * 2)
        for prompt in [draws.randint(1, 12)]
    ]
    edited = 0
    while going := [one for one in asked if one.past < one.length]:
        part = draws.sample(going, min(len(going), draws.randint(1, 20)))
        runs = []
        for one in part:
            if one.past and draws.random() < 0.05:  # preempted: it is computed from the beginning
                one.past = 0
            length = draws.randint(1, min(5, one.length - one.past))
            runs.append((one.answer, one.past, length))
            one.past += length
        hidden = torch.randn(sum(length for *_, length in runs), WIDTH)
        seen = step(editing, model, hidden, runs)
        at = 0
        for run in runs:
            wanted = expected(hidden[at : at + run[2]], run)
            for found, states in zip(seen, wanted, strict=True):
                torch.testing.assert_close(found[at : at + run[2]], states, rtol=1e-4, atol=1e-4)
            at += run[2]
        edited += len(editing._rounds)
    assert edited > 5


def test_tokens_that_nobody_edits_keep_their_bits() -> None:
    model, hidden = Toy(), torch.randn(5, WIDTH)
    editing = StepEditing(model, SITES, 2, CPU)
    plain = model(hidden.clone())
    editing.begin()
    editing.plan([(request("a", [0] * 3, adapter(1)), 0, 3), (request("b", [0] * 2, None), 0, 2)])
    same = [
        (a == b).all(dim=-1).tolist() for a, b in zip(plain, model(hidden.clone()), strict=True)
    ]
    editing.leave()
    assert same == [[True, True, False, True, True]] * 3


def test_a_round_has_no_more_adapters_than_there_are_slots() -> None:
    slots = Slots(3)
    runs = [(request(str(n), [0] * 4, adapter(n % 7)), 0, 4) for n in range(20)]
    rounds = plan_rounds(runs, slots, CPU)
    assert len(rounds) > 1
    for one in rounds:
        assert len({slot for s in one.segments for slot in s.slots}) <= 3
        assert 0 not in {slot for slot, _ in one.writes}
    targets = [place for one in rounds for s in one.segments for place in s.target.tolist()]
    assert sorted(targets) == [4 * n + 3 for n in range(20)]  # each last token, once


def test_adapters_that_stay_are_not_written_again() -> None:
    slots = Slots(4)
    runs = [(request(str(n), [0] * 4, adapter(n)), 0, 4) for n in range(4)]
    [first], [again] = (plan_rounds(order, slots, CPU) for order in (runs, runs[::-1]))
    assert (len(first.writes), again.writes) == (4, ())  # and then they decode:
    assert plan_rounds([(a, 4, 1) for a, *_ in runs], slots, CPU) == ()


def test_one_compiled_graph_serves_every_plan() -> None:
    model, graphs = Toy(), []
    editing = StepEditing(model, SITES, 2, CPU)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for number in (None, 1, 2, 4):
        one = None if number is None else adapter(number, "all")
        hidden, run = torch.randn(4, WIDTH), (request("a", [0] * 4, one), 0, 4)
        seen = step(editing, compiled, hidden, [run])
        for found, wanted in zip(seen, expected(hidden, run), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1


def test_a_step_without_a_plan_or_a_layer_that_is_passed_by_is_an_error() -> None:
    model = Toy()
    editing = StepEditing(model, SITES, 2, CPU)
    editing.begin()
    model(torch.randn(1, WIDTH))
    with pytest.raises(RuntimeError, match="ran without a plan"):
        editing.end(1)
    editing.begin()
    editing.end(0)  # nothing was to be computed
    editing.begin()
    editing.plan([(request("a", [0], adapter(1)), 0, 1)])
    model.layers[0](torch.randn(1, WIDTH), torch.zeros(1, WIDTH))
    with pytest.raises(RuntimeError, match=r"nothing went through layers\.2"):
        editing.end(1)


def test_after_a_step_nothing_is_edited() -> None:
    model, hidden = Toy(), torch.randn(2, WIDTH)
    editing = StepEditing(model, SITES, 2, CPU)
    plain = model(hidden.clone())
    step(editing, model, hidden, [(request("a", [0] * 2, adapter(1, "all")), 0, 2)])
    assert all(torch.equal(a, b) for a, b in zip(plain, model(hidden.clone()), strict=True))


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Toy has no module 'layers\.7'"):
        StepEditing(Toy(), [Site("layers.7", "output", WIDTH)], 2, CPU)


def test_a_layer_that_gives_something_else_is_refused() -> None:
    model = nn.Sequential(Three())
    StepEditing(model, [Site("0", "output", WIDTH)], 2, CPU)
    with pytest.raises(TypeError, match="Three of vLLM gave tuple"):
        model(torch.randn(1, WIDTH))
