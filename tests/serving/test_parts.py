"""The engine's parts: lowering, slots, what a step edits, how tokens are drawn."""

import math
from dataclasses import make_dataclass

import pytest
import torch

from reftune import ReftConfig
from reftune.building import build_edit
from reftune.plan import Prompt, Where, select
from reftune.positions import Positions
from reftune.serving import batching
from reftune.serving.adapters import ServedAdapter
from reftune.serving.answer import Answer, chosen
from reftune.serving.bank import Bank
from reftune.serving.errors import EngineError
from reftune.serving.lowering import LINEAR, kind_of, lowered
from reftune.serving.requests import Sampling
from reftune.serving.slots import Slots
from reftune.serving.step import plan_step
from reftune.sites import Site
from tests.serving.served import new_engine

WIDTH = 12
FORMS = [
    {"intervention": name, **more}
    for name in ("loreft", "noreft", "direft", "direft_orthonormal", "consreft", "lobireft", "red")
    for more in ({}, {"heads": [0, 2]})
] + [
    {"intervention": "loreft", "act_fn": "relu", "init": "paper"},
    {"intervention": "direft", "act_fn": "gelu", "init": "paper"},
    {"intervention": "noreft", "act_fn": "relu", "init": "paper", "heads": [1]},
    {"intervention": "steering_vector", "scale": 2.5},
]


def by_formula(edit, hidden, heads):
    """Apply the library's edit to `(tokens, width)`, to the chosen heads alone if there are any."""
    if not heads:
        return edit(hidden)
    parts = list(hidden.unflatten(-1, (3, -1)).unbind(-2))
    after = edit(torch.stack([parts[head] for head in heads])[None])[0]
    for place, head in enumerate(heads):
        parts[head] = after[place]
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_bank_computes_the_formula(form) -> None:
    torch.manual_seed(0)
    config = ReftConfig(layers=[0], r=2, **form)
    heads = form.get("heads")
    site = Site("x", "output", WIDTH // 3, 3) if heads else Site("x", "output", WIDTH)
    edit = build_edit(config, site)
    for parameter in edit.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    [given] = lowered(config, site, {n: p.detach() for n, p in edit.named_parameters()})
    bank = Bank(4, WIDTH, torch.device("cpu"))
    bank.write(2, given)
    hidden = torch.randn(2, 5, WIDTH)
    after = bank.edit(hidden, torch.tensor([2, 1]), kind_of(config))
    with torch.no_grad():
        torch.testing.assert_close(after[0], by_formula(edit, hidden[0], heads))
    torch.testing.assert_close(after[1], hidden[1])  # an empty slot is the identity
    bank.clear(2)
    torch.testing.assert_close(bank.edit(hidden, torch.tensor([2, 1]), kind_of(config)), hidden)


def test_a_wider_edit_leaves_the_others() -> None:
    torch.manual_seed(0)
    bank, hidden = Bank(3, WIDTH, torch.device("cpu")), torch.randn(1, 4, WIDTH)
    site, found = Site("x", "output", WIDTH), []
    for slot, (rank, form) in enumerate([(2, {}), (5, {"act_fn": "relu", "init": "paper"})], 1):
        config = ReftConfig(layers=[0], r=rank, intervention="direft", **form)
        edit = build_edit(config, site)
        edit.weight.data.normal_()
        [given] = lowered(config, site, {n: p.detach() for n, p in edit.named_parameters()})
        bank.write(slot, given)
        found.append((slot, kind_of(config), edit))
    for slot, kind, edit in found:
        with torch.no_grad():
            torch.testing.assert_close(bank.edit(hidden, torch.tensor([slot]), kind), edit(hidden))


def test_slots_are_given_away_least_recently_used_first() -> None:
    slots = Slots(2)
    assert slots.take("a") == (2 - 1, True)
    assert slots.take("b") == (2, True)
    assert slots.take("c") is None  # both are used
    slots.give("b")
    slots.give("a")
    assert slots.take("b") == (2, False)
    assert slots.take("c") == (1, True)  # a's, which nobody uses
    assert (slots.used, slots.evictions) == (2, 1)
    slots.give("c")
    assert slots.take("b") == (2, False)
    slots.give("b")
    slots.give("b")
    assert slots.take("d") == (1, True)  # c was used before b


def answer_of(where: Where, length: int, slot: int = 1) -> Answer:
    adapter = ServedAdapter("digest", where, LINEAR, {})
    prompt = list(range(length))
    sampling = Sampling(max_tokens=9, temperature=0)
    return Answer("name", prompt, sampling, print, frozenset(), adapter, slot)


@pytest.mark.parametrize("positions", ["f1", "l1", "f3+l3", "f7+l2", "all"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("decode", ["none", "all", 2])
@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_chunks_edit_the_tokens_that_a_whole_pass_does(positions, tied, decode, length) -> None:
    if not tied and "+" not in positions:
        pytest.skip("first and last positions are untied")
    where = Where(Positions.parse(positions), tied, decode)
    total = length + 4
    prompt = torch.arange(total)[None] < length
    document = torch.zeros(1, total, dtype=torch.long)  # asks for a mask
    whole = Prompt(prompt, ~prompt, document, past=0, length=total)
    used = select(whole, where).used[0, ..., 0].reshape(-1, total)
    answer, found = answer_of(where, length), [set(), set()]
    for begin in range(0, total, 3):
        size = min(3, total - begin)
        other = answer_of(where, 3, slot=2)  # stands before it in the batch
        runs = [(other, 0, 3), (answer, begin, size)]
        for segments in plan_step(runs, torch.device("cpu")):
            index = segments.index.view(-1, segments.longest)
            targets = segments.index[segments.real]
            assert targets.equal(segments.target)
            for row, slot in enumerate(segments.slot.tolist()):
                if slot == 1:
                    found[segments.part] |= {begin + int(i) - 3 for i in index[row]}
    expected = [set(row.nonzero()[:, 0].tolist()) for row in used]
    assert found[: len(expected)] == expected


def drawn(logits, count=1, **sampling):
    answers = [
        Answer(str(n), [1], Sampling(max_tokens=1, **sampling), print, frozenset(), None)
        for n in range(count)
    ]
    return chosen(logits.expand(count, -1), answers), answers


def test_tokens_are_drawn_with_their_probability() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -8.0])
    for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (2.0, 0.8)):
        tokens, _ = drawn(logits, 20000, temperature=temperature, top_p=top_p)
        expected = (logits / temperature).softmax(-1)
        before = expected.cumsum(-1) - expected  # they are in order
        expected = expected.where(before < top_p, 0)
        expected = expected / expected.sum()
        found = tokens.bincount(minlength=5) / len(tokens)
        assert (found - expected).abs().max() < 4 * math.sqrt(0.25 / 20000)
        assert found[expected == 0].sum() == 0


def test_a_seed_repeats_the_draws() -> None:
    logits = torch.zeros(1000)
    first, _ = drawn(logits, temperature=1.0, seed=7)
    again, _ = drawn(logits, temperature=1.0, seed=7)
    other, _ = drawn(logits, temperature=1.0, seed=8)
    assert first == again != other


def test_log_probabilities_are_the_models_own() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    [token], [answer] = drawn(logits, temperature=5.0, top_p=0.5, top_logprobs=3)
    logprobs = logits.log_softmax(-1)
    [(own, top)] = answer.logprobs
    assert own == pytest.approx(float(logprobs[token]))
    assert [name for name, _ in top] == logprobs.topk(3).indices.tolist()
    assert [value for _, value in top] == pytest.approx(logprobs.topk(3).values.tolist())


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_logprobs": -1}]
)
def test_a_value_without_meaning_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**{"max_tokens": 1, **wrong})


def test_what_cannot_be_served_is_refused() -> None:
    with pytest.raises(ValueError, match="modules_to_save"):
        kind_of(ReftConfig(layers=[0], modules_to_save=["lm_head"]))


def test_an_older_transformers_is_refused(monkeypatch) -> None:
    older = make_dataclass("ContinuousBatchingConfig", ["block_size"])
    monkeypatch.setattr(batching, "ContinuousBatchingConfig", older)
    with pytest.raises(EngineError, match=r"expected 5\.23"):
        new_engine()
