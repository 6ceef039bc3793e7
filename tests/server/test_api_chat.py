"""Chats, through OpenAI's own client."""

import openai
import pytest
from datasets import Dataset

from reftune.generation import encode_prompts
from tests.server.fake_engine import FakeEngine, serving
from tests.server.waiting import until
from tests.tiny_text import byte_level

TEXT = "Whales 🐳 sing 🎵 far away, and then they sleep."
USER = [{"role": "user", "content": "Where do whales live?"}]
TOKENIZER = byte_level(chat=True)
TOKENS = TOKENIZER(TEXT, add_special_tokens=False)["input_ids"]


def answer(prompt, sampling):
    """Say the text, and the seed behind it."""
    seed = "" if sampling.seed is None else f" {sampling.seed}"
    return TOKENIZER(TEXT + seed, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(FakeEngine(TOKENIZER, answer), tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture
def chat(server):
    server.engine.requests.clear()
    server.engine.gate.set()
    return server.client().chat.completions


def asked(server):
    return list(server.engine.requests.values())


def test_an_answer_at_once(server, chat):
    whole = chat.create(model="tiny", messages=USER)
    assert whole.object == "chat.completion"
    assert whole.model == "tiny"
    assert whole.system_fingerprint.startswith("fp_")
    [choice] = whole.choices
    assert (choice.message.role, choice.message.content) == ("assistant", TEXT)
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    [request] = asked(server)
    assert whole.usage.prompt_tokens == len(request.prompt)
    assert whole.usage.completion_tokens == len(TOKENS)
    assert whole.usage.total_tokens == len(request.prompt) + len(TOKENS)


def test_defaults_are_openais_and_all_the_room_there_is(server, chat):
    chat.create(model="tiny", messages=USER)
    [request] = asked(server)
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (1.0, 1.0, None)
    assert sampling.top_logprobs is None
    assert sampling.max_tokens == server.engine.max_length - len(request.prompt)
    assert request.adapter is None


def test_sampling_is_handed_on(server, chat):
    chat.create(
        model="tiny", messages=USER, temperature=0, top_p=0.5, seed=7, max_completion_tokens=9
    )
    [request] = asked(server)
    assert request.sampling.temperature == 0
    assert request.sampling.top_p == 0.5
    assert request.sampling.seed == 7
    assert request.sampling.max_tokens == 9


def test_a_stream_says_the_same(server, chat):
    chunks = list(chat.create(model="tiny", messages=USER, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert not any(delta.role for delta in deltas[1:])
    assert "".join(delta.content or "" for delta in deltas) == TEXT
    assert not any("\ufffd" in (delta.content or "") for delta in deltas)
    assert len(deltas) > 5
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_its_usage_if_asked(server, chat):
    options = {"include_usage": True}
    chunks = list(chat.create(model="tiny", messages=USER, stream=True, stream_options=options))
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(TOKENS)
    assert chunks[-1].usage.prompt_tokens == len(asked(server)[0].prompt)


def test_the_stream_as_it_is_on_the_wire(server, chat):
    body = {"model": "tiny", "messages": USER, "stream": True}
    response = server.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith("data: {") for event in events)


def test_several_answers_have_seeds_that_follow_each_other(server, chat):
    whole = chat.create(model="tiny", messages=USER, n=3, seed=11)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert texts == [f"{TEXT} {seed}" for seed in (11, 12, 13)]
    assert whole.usage.prompt_tokens == len(asked(server)[0].prompt)
    assert whole.usage.completion_tokens == sum(len(answer([], r.sampling)) for r in asked(server))


def test_several_answers_in_a_stream_do_not_mix(server, chat):
    texts, reasons, roles = {}, {}, {}
    for chunk in chat.create(model="tiny", messages=USER, n=3, seed=11, stream=True):
        [choice] = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        if choice.delta.role:
            assert choice.index not in roles
            roles[choice.index] = choice.delta.role
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == {place: f"{TEXT} {11 + place}" for place in range(3)}
    assert reasons == dict.fromkeys(range(3), "stop")
    assert set(roles) == {0, 1, 2}


@pytest.mark.parametrize("stop", ["far away", ["zzz", "far away"], ["🎵 far", "g 🎵", "x", "y"]])
@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_the_answer_before_them(server, chat, stop, stream):
    stops = [stop] if isinstance(stop, str) else stop
    expected = min((TEXT.split(one)[0] for one in stops if one in TEXT), key=len)
    # The engine may say no more than up to the stop string, however long the answer would be.
    got = chat.create(model="tiny", messages=USER, stop=stop, stream=stream)
    if stream:
        chunks = list(got)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text, reason = got.choices[0].message.content, got.choices[0].finish_reason
    assert (text, reason) == (expected, "stop")
    [request] = asked(server)
    assert request.cancelled.is_set()


def test_a_stop_string_that_does_not_come_changes_nothing(server, chat):
    choice = chat.create(model="tiny", messages=USER, stop="sleep!").choices[0]
    assert choice.message.content == TEXT
    assert not asked(server)[0].cancelled.is_set()


def test_a_cut_answer_says_so(server, chat):
    choice = chat.create(model="tiny", messages=USER, max_tokens=3).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content == TOKENIZER.decode(TOKENS[:3])


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_have_the_bytes_of_all_tokens(server, chat, stream):
    got = chat.create(
        model="tiny", messages=USER, logprobs=True, top_logprobs=2, stream=stream, stop="away"
    )
    if stream:
        listed = [chunk.choices[0].logprobs for chunk in got]
        content = [token for logprobs in listed if logprobs for token in logprobs.content]
    else:
        content = got.choices[0].logprobs.content
    # A token that begins within the stop string is no part of the answer, one before it is.
    expected, parts = TEXT.split("away")[0].encode(), [bytes(token.bytes) for token in content]
    assert b"".join(parts).startswith(expected)
    assert len(b"".join(parts[:-1])) < len(expected)
    assert {token.logprob for token in content} == {-0.5}
    assert all(len(token.top_logprobs) == 2 for token in content)
    assert all(token.top_logprobs[0].bytes == token.bytes for token in content)
    assert any(token.token.startswith("bytes:\\x") for token in content)
    assert content[0].token == TOKENIZER.decode(TOKENS[:1])


CHATS = [
    USER,
    [{"role": "system", "content": "Be brief. "}, *USER],
    [*USER, {"role": "assistant", "content": "In the sea."}, {"role": "user", "content": "All?"}],
]


@pytest.mark.parametrize("messages", CHATS)
def test_the_prompt_is_the_one_of_generate_and_training(server, chat, messages):
    chat.create(model="tiny", messages=messages, max_tokens=1)
    rows = Dataset.from_list([{"messages": messages}])
    assert asked(server)[0].prompt == encode_prompts(rows, TOKENIZER)[0]


def test_a_developer_is_the_system_and_parts_are_one_text(server, chat):
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    chat.create(model="tiny", messages=[{"role": "developer", "content": parts}, *USER])
    chat.create(model="tiny", messages=[{"role": "system", "content": "Be brief."}, *USER])
    first, second = asked(server)
    assert first.prompt == second.prompt


def test_a_message_of_the_client_may_come_back(server, chat):
    message = chat.create(model="tiny", messages=USER).choices[0].message
    again = [*USER, message, {"role": "user", "content": "More."}]
    assert chat.create(model="tiny", messages=again).choices[0].message.content == TEXT


def test_harmless_parameters_are_taken(server, chat):
    whole = chat.create(
        model="tiny",
        messages=USER,
        user="ada",
        metadata={"a": "b"},
        store=False,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        response_format={"type": "text"},
        tools=[],
        service_tier="auto",
        parallel_tool_calls=True,
    )
    assert whole.choices[0].message.content == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_answers(server, chat, stream):
    server.engine.gate.clear()  # after the first token, nothing more comes
    if stream:
        answers = chat.create(model="tiny", messages=USER, n=2, stream=True)
        next(answers)
        answers.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            chat.create(model="tiny", messages=USER, n=2, timeout=0.2)
    until(lambda: len(asked(server)) == 2 and all(r.cancelled.is_set() for r in asked(server)))
    until(lambda: server.lifecycle.active == 0)


def test_an_engine_that_fails(server, chat, monkeypatch):
    monkeypatch.setattr(server.engine, "fails_after", 0)
    for stream in (False, True):  # before the first token, a stream has a status of its own too
        with pytest.raises(openai.InternalServerError) as caught:
            chat.create(model="tiny", messages=USER, stream=stream)
        assert caught.value.code == "engine_error"
        assert "secret" not in str(caught.value)
    monkeypatch.setattr(server.engine, "fails_after", 4)
    stream = chat.create(model="tiny", messages=USER, stream=True, n=2)
    assert next(stream).choices[0].delta.role == "assistant"
    with pytest.raises(openai.APIError, match="could not finish"):
        list(stream)


def test_an_engine_that_is_stopped_or_busy(server, chat, monkeypatch):
    for name, value, code in (("stopped", True, "stopping"), ("waiting", 10_000, "busy")):
        with monkeypatch.context() as patch:
            patch.setattr(server.engine, name, value)
            with pytest.raises(openai.APIStatusError) as caught:
                chat.create(model="tiny", messages=USER)
            assert (caught.value.status_code, caught.value.code) == (503, code)


def test_a_model_without_a_chat_template_says_so(tmp_path):
    engine = FakeEngine(byte_level(), answer)
    with serving(engine, tmp_path) as served, pytest.raises(openai.BadRequestError) as caught:
        served.client().chat.completions.create(model="tiny", messages=USER)
    assert caught.value.code == "no_chat_template"
