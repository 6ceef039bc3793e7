"""Who may do what: keys, their scopes, tenants, and rates."""

import json

import openai
import pytest

from reftune.server.api.rates import Rates
from reftune.server.settings import Settings, is_loopback
from tests.server.fake_engine import FakeEngine, serving
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
USER = [{"role": "user", "content": "hi"}]
EXAMPLE = {"messages": [*USER, {"role": "assistant", "content": "ho"}]}
FILE = ("a.jsonl", json.dumps(EXAMPLE).encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: [70])
    with serving(engine, tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def secrets(server):
    made = {}
    for tenant, scope in (("a", "chat"), ("a", "train"), ("a", "admin"), ("b", "train")):
        made[tenant + scope] = server.store.create_key(tenant, frozenset({scope}))[1]
    made["revoked"] = server.store.create_key("a", frozenset({"admin"}))[1]
    server.store.revoke_key(server.store.list_keys()[-1].id)
    return made


def chat(server, key):
    return server.client(key).chat.completions.create(model="tiny", messages=USER)


def test_without_keys_this_machine_is_served_and_with_one_it_is_not(tmp_path):
    with serving(FakeEngine(TOKENIZER, lambda prompt, sampling: [70]), tmp_path) as served:
        assert chat(served, "anything").choices
        assert served.get("/v1/models").status_code == 200
        key, secret = served.store.create_key("a", frozenset({"chat"}))
        for again in range(2):
            with pytest.raises(openai.AuthenticationError):
                chat(served, "anything")
            if not again:  # a revoked key does not open the server again
                assert chat(served, secret).choices
                served.store.revoke_key(key.id)
        with pytest.raises(openai.AuthenticationError):
            chat(served, secret)


def test_pages_of_other_sites_are_not_served_without_keys(tmp_path):
    with serving(FakeEngine(TOKENIZER, lambda prompt, sampling: [70]), tmp_path) as served:
        for headers in (
            {"host": "evil.example"},
            {"host": "127.0.0.1.evil.example"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
        ):
            assert served.get("/v1/models", headers=headers).status_code == 403, headers
        assert served.get("/v1/models", headers={"origin": served.url}).status_code == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Bearer rt-x", "Bearer \xff"])
def test_requests_without_a_valid_key_are_refused(server, secrets, header):
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for path in ("/v1/models", "/v1/files", "/v1/nothing", "/metrics"):
        response = server.get(path, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
    # Nothing of a body is read before.
    response = server.post("/v1/chat/completions", content=b"{", headers=headers)
    assert response.status_code == 401


def test_a_revoked_key_is_refused(server, secrets):
    with pytest.raises(openai.AuthenticationError):
        chat(server, secrets["revoked"])


def test_health_needs_no_key(server, secrets):
    assert server.get("/healthz").json()["status"] == "ok"


def test_scopes(server, secrets):
    def status(key, path):
        headers = {"authorization": f"Bearer {secrets[key]}"}
        return server.get(path, headers=headers).status_code

    for path, key, expected in (
        ("/v1/models", "achat", 200),
        ("/v1/models", "atrain", 200),
        ("/v1/files", "achat", 403),
        ("/v1/files", "atrain", 200),
        ("/v1/fine_tuning/jobs", "achat", 403),
        ("/v1/files", "aadmin", 200),
        ("/metrics", "atrain", 403),
        ("/metrics", "aadmin", 200),
    ):
        assert status(key, path) == expected, (path, key)
    assert chat(server, secrets["achat"]).choices
    assert chat(server, secrets["aadmin"]).choices
    with pytest.raises(openai.PermissionDeniedError) as caught:
        chat(server, secrets["atrain"])
    assert caught.value.code == "insufficient_permissions"
    with pytest.raises(openai.PermissionDeniedError):
        server.client(secrets["achat"]).files.create(file=FILE, purpose="fine-tune")


def test_what_is_another_tenants_does_not_exist(server, secrets, tmp_path):
    mine, other = server.client(secrets["atrain"]), server.client(secrets["btrain"])
    file = mine.files.create(file=FILE, purpose="fine-tune")
    job = mine.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    server.store.add_adapter("a", "ft:tiny:x:1", tmp_path, "tiny", job.id)
    assert mine.models.retrieve("ft:tiny:x:1").owned_by == "a"
    for ask in (
        lambda: other.files.retrieve(file.id),
        lambda: other.files.content(file.id),
        lambda: other.files.delete(file.id),
        lambda: other.fine_tuning.jobs.create(model="tiny", training_file=file.id),
        lambda: other.fine_tuning.jobs.retrieve(job.id),
        lambda: other.fine_tuning.jobs.cancel(job.id),
        lambda: other.fine_tuning.jobs.list_events(job.id),
        lambda: other.fine_tuning.jobs.checkpoints.list(job.id),
        lambda: other.models.retrieve("ft:tiny:x:1"),
        lambda: other.models.delete("ft:tiny:x:1"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert [model.id for model in other.models.list()] == ["tiny"]
    assert not list(other.files.list())
    assert not list(other.fine_tuning.jobs.list())
    mine.fine_tuning.jobs.cancel(job.id)


def test_a_key_has_its_rate_and_no_other(tmp_path):
    engine = FakeEngine(TOKENIZER, lambda prompt, sampling: [70])
    with serving(engine, tmp_path, requests_per_minute=3) as served:
        busy, other = (served.store.create_key("a", frozenset({"chat"}))[1] for _ in range(2))
        headers = {"authorization": f"Bearer {busy}"}
        answers = [served.get("/v1/models", headers=headers) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert chat(served, other).choices


def test_a_rate_comes_back_with_time():
    now = [0.0]
    rates = Rates(per_minute=60, clock=lambda: now[0])
    assert [rates.take("a") for _ in range(60)] == [None] * 60
    assert rates.take("a") == 1
    assert rates.take("b") is None
    now[0] = 2.5
    assert [rates.take("a") for _ in range(3)] == [None, None, 1]
    now[0] = 10_000
    assert [rates.take("a") for _ in range(61)] == [None] * 60 + [1]


def test_which_hosts_are_this_machine(tmp_path):
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org", ""):
        assert not is_loopback(host)
    with pytest.raises(ValueError, match="max_files 0: expected 1 or more"):
        Settings(state=tmp_path, max_files=0)
