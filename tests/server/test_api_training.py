"""Files, fine-tuning jobs and models, through OpenAI's own client."""

import io
import json
import zipfile

import openai
import pytest

from tests.server.fake_engine import FakeEngine, serving
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "ho 🐳"}
SYSTEM = {"role": "system", "content": "Be brief."}
EXAMPLES = [{"messages": [USER, ANSWER]}, {"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]}]
LINES = "\n\n".join(json.dumps(example) for example in EXAMPLES).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    make_adapter(shared / "emoji")
    make_adapter(shared / "torn")
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: [70], broken={"torn"})
    state = tmp_path_factory.mktemp("state")
    limits = {"max_files": 8, "max_jobs": 3, "max_file_bytes": 5000, "max_examples": 20}
    with serving(engine, state, shared, **limits) as served:
        yield served


def make_adapter(folder):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(folder.name.encode())
    return folder


@pytest.fixture
def client(server):
    return server.client()


def upload(client, content=LINES, name="tips.jsonl"):
    return client.files.create(file=(name, content), purpose="fine-tune")


def test_a_file_comes_back_as_it_was_sent(server, client):
    file = upload(client)
    assert (file.object, file.filename, file.bytes) == ("file", "tips.jsonl", len(LINES))
    assert (file.purpose, file.status) == ("fine-tune", "processed")
    assert client.files.content(file.id).content == LINES
    assert client.files.retrieve(file.id) == file
    assert file in list(client.files.list(purpose="fine-tune"))
    assert not list(client.files.list(purpose="batch"))
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_come_in_pages(client):
    ids = [upload(client).id for _ in range(5)]
    page = client.files.list(limit=2)
    assert [file.id for file in page.data] == ids[:-3:-1]
    assert page.has_more
    assert [file.id for file in page][:5] == ids[::-1]
    for id in ids:
        client.files.delete(id)


def test_a_name_is_never_a_path(server, client):
    file = upload(client, name="../../climbed.jsonl")
    assert client.files.content(file.id).content == LINES
    folder = server.app.state.context.settings.files
    assert {path.stem for path in folder.iterdir()} >= {file.id}
    assert not list(folder.parent.parent.rglob("climbed*"))
    client.files.delete(file.id)


BAD_LINES = [
    (b"", "no examples"),
    (b"\n \n", "no examples"),
    (b"{", "line 2 is not JSON"),
    (b"[" * 2000, "line 2 is not JSON"),
    (b"\xff", "line 2 is not UTF-8"),
    (b"[]", "line 2"),
    (b'{"prompt": "a", "completion": "b"}', 'line 2: "prompt"'),
    (b'{"messages": []}', 'line 2: "messages"'),
    (b'{"messages": "x"}', 'line 2: "messages"'),
    ({"messages": [USER]}, "line 2: the last message is the user's"),
    ({"messages": [ANSWER]}, "line 2: the assistant answers nothing"),
    ({"messages": [USER, {**ANSWER, "content": " "}]}, "line 2: the assistant's last answer"),
    ({"messages": [USER, {**ANSWER, "weight": 0}]}, "line 2: the assistant's last answer"),
    ({"messages": [USER, {**ANSWER, "weight": 2}]}, "line 2, messages[1]: weight"),
    ({"messages": [{**USER, "role": "tool"}, ANSWER]}, "line 2, messages[0]: role"),
    ({"messages": [{**USER, "content": None}, ANSWER]}, "line 2, messages[0]: content"),
    ({"messages": [{**USER, "content": "\ud800"}, ANSWER]}, "line 2, messages[0]: content"),
    ({"messages": [USER, {**ANSWER, "tool_calls": [{}]}]}, 'line 2, messages[1]: "tool_calls"'),
    ({"messages": [USER, ANSWER], "tools": [{}]}, 'line 2: "tools"'),
    (b"\n".join([json.dumps(EXAMPLES[0]).encode()] * 21), "line 21: expected 20"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_file_that_cannot_be_learned_from_is_refused(server, client, line, message):
    line = line if isinstance(line, bytes) else json.dumps(line).encode()
    before = len(list(client.files.list()))
    first = b"" if "no examples" in message else json.dumps(EXAMPLES[0]).encode()
    with pytest.raises(openai.BadRequestError) as caught:
        upload(client, first + b"\n" + line)
    assert caught.value.body["message"].find(message) >= 0, caught.value.body
    assert caught.value.code == "invalid_training_file"
    assert len(list(client.files.list())) == before
    folder = server.app.state.context.settings.files
    assert len(list(folder.iterdir())) == before


def test_a_file_that_is_too_long_or_for_something_else(server, client):
    with pytest.raises(openai.APIStatusError) as caught:
        upload(client, LINES + b" " * 5000)
    assert caught.value.status_code == 413
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("a", LINES), purpose="batch")
    assert caught.value.param == "purpose"
    for body in ({}, {"data": {"purpose": "fine-tune"}}, {"files": {"file": ("a", b"")}}):
        assert server.post("/v1/files", **body).status_code == 400


def test_a_tenant_has_so_many_files(client):
    there = len(list(client.files.list()))
    ids = [upload(client).id for _ in range(8 - there)]
    with pytest.raises(openai.BadRequestError) as caught:
        upload(client)
    assert caught.value.code == "file_limit_exceeded"
    for id in ids:
        client.files.delete(id)


@pytest.fixture
def file(client):
    uploaded = upload(client)
    yield uploaded.id
    for job in client.fine_tuning.jobs.list():
        if job.status in ("queued", "running"):
            client.fine_tuning.jobs.cancel(job.id)
    client.files.delete(uploaded.id)


def test_a_job_is_as_it_was_asked_for(client, file):
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file,
        validation_file=file,
        suffix="mine",
        seed=3,
        metadata={"a": "b"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 4, "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.object, job.status, job.model) == ("fine_tuning.job", "queued", "tiny")
    assert (job.training_file, job.validation_file, job.seed) == (file, file, 3)
    assert job.hyperparameters.n_epochs == 4
    assert job.hyperparameters.batch_size == "auto"
    assert job.method.supervised.hyperparameters.learning_rate_multiplier == 0.5
    assert job.metadata == {"a": "b"}
    assert (job.error, job.fine_tuned_model, job.finished_at) == (None, None, None)
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert job in list(client.fine_tuning.jobs.list())


def test_a_job_that_ends_well(server, client, file, tmp_path):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file, suffix="mine")
    store, folder = server.store, make_adapter(tmp_path / job.id)
    assert store.next_job().id == job.id
    store.add_event(job.id, "info", "Step 1", {"train_loss": 2.5})
    store.add_checkpoint(job.id, 1, {"train_loss": 2.5}, str(tmp_path))
    store.add_checkpoint(job.id, 2, {"train_loss": 1.5}, str(folder))
    store.finish_job(job.id, adapter=str(folder), trained_tokens=99, result={})
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.trained_tokens) == ("succeeded", 99)
    assert job.fine_tuned_model.startswith("ft:tiny:mine:")
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=1))
    metrics = [event for event in events if event.type == "metrics"]
    assert [event.data for event in metrics] == [{"train_loss": 2.5}]
    assert events[-1].message.startswith("Created fine-tuning job")
    last, first = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (last.step_number, last.metrics.train_loss) == (2, 1.5)
    assert last.fine_tuned_model_checkpoint == job.fine_tuned_model
    assert first.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-1"
    # The model is there at once, and the engine gets its folder.
    server.engine.requests.clear()
    asked = {"model": job.fine_tuned_model, "messages": [USER]}
    assert client.chat.completions.create(**asked).model == job.fine_tuned_model
    [request] = server.engine.requests.values()
    assert request.adapter == folder
    check_deletion(server, client, job.fine_tuned_model, folder)


def check_deletion(server, client, model, folder):
    assert client.models.delete(model).deleted
    assert server.engine.forgotten == [folder]
    assert folder.exists()  # it lies where this server keeps nothing
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(model)


def test_a_job_that_fails_says_why(server, client, file):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file)
    server.store.next_job()
    server.store.fail_job(job.id, "training_failed", "the loss is not finite")
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "failed"
    assert (job.error.code, job.error.message) == ("training_failed", "the loss is not finite")
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.cancel(job.id)


def test_jobs_come_in_pages_and_a_tenant_has_so_many(client, file):
    ids = [client.fine_tuning.jobs.create(model="tiny", training_file=file).id for _ in range(3)]
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="tiny", training_file=file)
    assert caught.value.code == "job_limit_exceeded"
    page = client.fine_tuning.jobs.list(limit=2)
    assert [job.id for job in page.data] == ids[:0:-1]
    assert page.has_more
    assert [job.id for job in page][:3] == ids[::-1]
    assert client.fine_tuning.jobs.cancel(ids[0]).status == "cancelled"
    with pytest.raises(openai.BadRequestError):  # a file that a job needs stays
        client.files.delete(file)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("model", "none"),
        ("model", "emoji"),
        ("training_file", "file-none"),
        ("training_file", None),
        ("validation_file", "../x"),
        ("suffix", "a/b"),
        ("suffix", "x" * 65),
        ("seed", -1),
        ("seed", "1"),
        ("hyperparameters.n_epochs.int", {"n_epochs": 0}),
        ("hyperparameters.rank", {"rank": 4}),
        ("method.type", {"type": "dpo"}),
        ("integrations", [{"type": "wandb"}]),
        ("metadata.a", {"a": 1}),
        ("metadata", {str(n): "" for n in range(17)}),
        ("unknown", 1),
    ],
)
def test_jobs_that_cannot_be(server, file, param, value):
    body = {"model": "tiny", "training_file": file, param.partition(".")[0]: value}
    response = server.post("/v1/fine_tuning/jobs", json=body)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"].startswith(param.partition(".int")[0])


def test_models_are_the_base_and_the_shared_adapters(server, client):
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"tiny", "emoji", "torn"}
    assert (models["tiny"].kind, models["emoji"].kind) == ("base", "shared")
    assert client.models.retrieve("emoji") == models["emoji"]
    for model in ("tiny", "emoji"):
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete(model)
    for model in ("none", "emoji/x", "%2e%2e", "a:b"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(model)


def test_an_adapter_that_cannot_be_served_says_so_and_not_where_it_lies(server, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="torn", messages=[USER])
    assert caught.value.code == "adapter_error"
    assert "torn" in caught.value.message
    assert "/" not in caught.value.body["message"]


def test_an_adapter_can_be_taken_home(server):
    response = server.get("/v1/adapters/emoji/download")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["adapter_config.json", "adapter_model.safetensors"]
        assert archive.read("adapter_model.safetensors") == b"emoji"
    assert "emoji.zip" in response.headers["content-disposition"]
    assert server.get("/v1/adapters/tiny/download").status_code == 404
    assert server.get("/v1/adapters/none/download").status_code == 404
