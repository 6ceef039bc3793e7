"""Completions of plain text, through OpenAI's own client."""

import pytest
from datasets import Dataset

from reftune.generation import encode_prompts
from reftune.serving.requests import Sampling
from tests.server.fake_engine import FakeEngine, serving
from tests.tiny_text import metaspace

TOKENIZER = metaspace()


def answer(prompt, sampling):
    """Say the prompt again, and the seed behind it."""
    seed = [] if sampling.seed is None else ids_of(f" {sampling.seed}")
    return [*prompt[1:], *seed] * 2


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(FakeEngine(TOKENIZER, answer), tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture
def completions(server):
    server.engine.requests.clear()
    return server.client().completions


def said(prompt, seed):
    """Decode the whole answer at once."""
    return TOKENIZER.decode(answer(TOKENIZER(prompt)["input_ids"], Sampling(100, seed=seed)))


def prompts(server):
    return [request.prompt for request in server.engine.requests.values()]


def test_a_text_gets_the_special_tokens_of_generate(server, completions):
    whole = completions.create(model="tiny", prompt="What is it?")
    rows = Dataset.from_list([{"prompt": "What is it?"}])
    assert prompts(server) == encode_prompts(rows, TOKENIZER)
    assert whole.object == "text_completion"
    assert whole.choices[0].text == said("What is it?", None)
    assert whole.usage.prompt_tokens == len(prompts(server)[0])


def test_openais_default_length_is_sixteen_tokens(server, completions):
    whole = completions.create(model="tiny", prompt="1 2 3 4 5 6 7 8 9 10")
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 16


def test_token_ids_are_taken_as_they_are(server, completions):
    ids = ids_of("Paris")
    completions.create(model="tiny", prompt=ids)
    completions.create(model="tiny", prompt=[ids, ids[:2]])
    assert prompts(server) == [ids, ids, ids[:2]]


def test_several_prompts_with_several_answers_each(server, completions):
    texts = ["Paris", "France"]
    whole = completions.create(model="tiny", prompt=texts, n=2, seed=5, max_tokens=100)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    # Each prompt is answered as if it were alone, so both begin with the seed that was asked for.
    for place, choice in enumerate(whole.choices):
        assert choice.text == said(texts[place // 2], 5 + place % 2)
    assert whole.usage.prompt_tokens == sum(len(ids_of(text)) + 1 for text in texts)


def test_a_stream_says_the_same(server, completions):
    texts = {}
    stream = completions.create(
        model="tiny",
        prompt=["Paris", "France"],
        seed=5,
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = stream
    for chunk in chunks:
        [choice] = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + choice.text
    assert texts == {0: said("Paris", 5), 1: said("France", 5)}
    assert last.choices == []
    assert last.usage.total_tokens > last.usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_in_their_old_form(server, completions, stream):
    got = completions.create(model="tiny", prompt="Paris é", logprobs=2, stream=stream)
    parts = [chunk.choices[0] for chunk in got] if stream else got.choices
    text = "".join(part.text for part in parts)
    logprobs = [part.logprobs for part in parts]
    tokens = [token for one in logprobs for token in one.tokens]
    offsets = [offset for one in logprobs for offset in one.text_offset]
    assert [one for part in logprobs for one in part.token_logprobs] == [-0.5] * len(tokens)
    assert all(len(top) == 2 for part in logprobs for top in part.top_logprobs)
    assert "é" in text
    for token, offset in zip(tokens, offsets, strict=True):
        if not token.startswith("bytes:"):
            # The space in front of a text is in its first token, and not in the text.
            assert text[offset:].startswith(token if offset else token.lstrip(" "))


def test_no_other_log_probabilities_than_those_of_the_chosen_tokens(server, completions):
    logprobs = completions.create(model="tiny", prompt="Paris", logprobs=0).choices[0].logprobs
    assert logprobs.top_logprobs is None
    assert set(logprobs.token_logprobs) == {-0.5}
