"""Generation with edits against greedy decoding written out, one row and position at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, TextStreamer

from tests.pyreft_models import (
    GREEDY,
    IDS,
    at,
    continuation,
    loreft,
    reference,
    where,
    wrapped,
)
from tests.tiny_models import SEQ2SEQ


def greedy_by_hand(one: nn.Module, steps: int, places: list[int], generated: bool) -> Tensor:
    """Return what greedy decoding without a cache gives, for every row alone."""
    rows = []
    for row in IDS:
        tokens = row.tolist()
        for _ in range(steps):
            edited = places + (list(range(len(row), len(tokens))) if generated else [])
            ids = torch.tensor([tokens])
            logits = reference([("model.layers.1", [edited], one)], ids)
            tokens.append(int(logits[0, -1].argmax()))
        rows.append(tokens[len(row) :])
    return torch.tensor(rows)


@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"prefill_chunk_size": 2}], ids=str)
@pytest.mark.parametrize(
    ("settings", "places", "generated"),
    [
        ({"unit_locations": where([[1, 5]]), "intervene_on_prompt": True}, [1, 5], False),
        ({"intervene_on_prompt": False}, [], True),
        ({"unit_locations": {"base": 0}}, [], True),
        ({"unit_locations": None, "intervene_on_prompt": True}, list(range(6)), True),
    ],
    ids=str,
)
def test_generation(settings, places, generated, cache):
    reft_model = wrapped(at(1))
    [one] = reft_model.interventions.values()
    got = continuation(reft_model, **settings, **GREEDY, **cache)
    assert torch.equal(got, greedy_by_hand(one, 5, places, generated))
    assert not torch.equal(got, reft_model.model.generate(IDS, **GREEDY)[:, 6:])


def test_beams_share_the_positions_of_their_row():
    reft_model = wrapped(at(1))
    settings = {**GREEDY, "num_beams": 3, "intervene_on_prompt": True}
    together = continuation(reft_model, unit_locations=where([[1], [4]]), **settings)
    repeated = where([[1], [1], [1], [4], [4], [4]])
    assert torch.equal(together, continuation(reft_model, unit_locations=repeated, **settings))
    for row, place in enumerate([1, 4]):
        alone = continuation(
            reft_model, IDS[row : row + 1], unit_locations=where([[place]]), **settings
        )
        assert torch.equal(together[row : row + 1], alone)


def test_a_position_beyond_the_prompt_is_an_error_in_generation():
    reft_model = wrapped(at(1))
    with pytest.raises(ValueError, match="position 6 in hidden states of 6 tokens"):
        continuation(reft_model, unit_locations={"base": 6}, intervene_on_prompt=True, **GREEDY)
    with pytest.raises(ValueError, match="intervene_on_prompt=False, which edits"):
        continuation(reft_model, unit_locations={"base": 2}, **GREEDY)


def test_a_streamer_sees_the_tokens(capsys):
    class Letters:
        def decode(self, ids, **settings):
            return " ".join(map(str, torch.as_tensor(ids).tolist()))

    reft_model = wrapped(at(1))
    out = continuation(reft_model, IDS[:1], streamer=TextStreamer(Letters()), **GREEDY)
    assert capsys.readouterr().out.split() == list(map(str, IDS[0].tolist() + out[0].tolist()))


def test_an_encoder_and_a_decoder():
    model = SEQ2SEQ[0].build()
    reft_model = wrapped(
        {"component": "encoder.block.1.output", "intervention": loreft(0)},
        {"component": "decoder.block[1].output", "intervention": loreft(1)},
        model=model,
    )
    settings = {"unit_locations": where([[5]], [[0]]), "intervene_on_prompt": True, **GREEDY}
    _, out = reft_model.generate({"input_ids": IDS, "attention_mask": IDS * 0 + 1}, **settings)
    _, slow = reft_model.generate(
        {"input_ids": IDS, "attention_mask": IDS * 0 + 1}, use_cache=False, **settings
    )
    assert torch.equal(out, slow)
    assert not torch.equal(out, model.generate(IDS, **GREEDY))


def test_a_call_within_a_call_leaves_the_outer_one_as_it_was():
    class Asking(LogitsProcessor):
        def __call__(self, ids, scores):
            reft_model({"input_ids": ids}, unit_locations={"base": 0})
            return scores

    reft_model = wrapped(at(1))
    settings = {"intervene_on_prompt": False, **GREEDY}
    asked = continuation(reft_model, logits_processor=[Asking()], **settings)
    assert torch.equal(asked, continuation(reft_model, **settings))


def test_threads_do_not_get_each_others_edits():
    reft_model = wrapped(at(1))

    def answer(place: int) -> list:
        places = {"unit_locations": {"base": place}, "intervene_on_prompt": True}
        return continuation(reft_model, **places, **{**GREEDY, "max_new_tokens": 12}).tolist()

    alone = [answer(place % 6) for place in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(answer, [place % 6 for place in range(12)])) == alone
