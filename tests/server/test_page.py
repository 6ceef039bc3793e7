"""The web page: what is sent to the browser, and `reftune chat --web`, which opens it."""

import logging
import re
from pathlib import Path

import pytest

from reftune.assets import EMOJI_TRAIN
from reftune.cli import chat_web, main
from reftune.server.api.page import FILES, FOLDER
from tests.server.fake_engine import FakeEngine, serving, until
from tests.server.test_api_training import make_adapter
from tests.tiny_text import byte_level


@pytest.fixture
def server(tmp_path):
    engine = FakeEngine(byte_level(chat=True), lambda prompt, sampling: [70])
    with serving(engine, tmp_path / "state") as served:
        yield served


def test_all_files_are_served_as_they_are(server):
    assert {path.name for path in FOLDER.iterdir()} <= set(FILES)
    for name, path in FILES.items():
        response = server.get(f"/page/{name}")
        assert (response.status_code, response.content) == (200, path.read_bytes())
        assert response.headers["x-content-type-options"] == "nosniff"
    assert server.get("/").content == (FOLDER / "index.html").read_bytes()
    assert server.get("/").headers["content-type"].startswith("text/html")
    assert server.get("/page/main.js").headers["content-type"].startswith("text/javascript")
    assert server.get("/page/example.jsonl").content == EMOJI_TRAIN.read_bytes()


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapi%2fpage.py", "%2e%2e/app.py", ""])
def test_nothing_else_is_served(server, name):
    response = server.get(f"/page/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_url"


def test_the_policy_allows_nothing_from_elsewhere(server):
    parts = server.get("/").headers["content-security-policy"].split("; ")
    policy = {name: set(sources) for name, *sources in map(str.split, parts)}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == {"'none'"}
    fetched = {sources for name in policy if name.endswith("-src") for sources in policy[name]}
    assert fetched == {"'none'", "'self'"}


def test_the_files_name_no_other_site_and_make_no_markup_from_text():
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//\w", re.sub(r"(^|\s)// .*", "", text)), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"<script>|\son\w+=|\sstyle=", text), path.name


def test_what_the_page_asks_for_is_there():
    wanted = set()
    for path in FOLDER.iterdir():
        wanted |= set(re.findall(r'"/page/([^"]+)"', path.read_text(encoding="utf-8")))
    assert wanted == set(FILES) - {"index.html"}


@pytest.mark.parametrize("options", [["--temperature", "0.5"], ["--system", "Be brief"]])
def test_chat_in_the_browser_refuses_what_the_page_would_not_heed(capsys, options):
    assert main(["chat", "--web", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert options[0] in error


def test_chat_in_the_browser_serves_an_adapter_until_it_ends(tmp_path, monkeypatch):
    folder = make_adapter(tmp_path / "my adapter!")
    (folder / "adapter_config.json").write_text('{"peft_type": "REFTUNE"}')
    opened, seen = [], []

    def serve(args):
        files = {path.name for path in Path(args.adapters, "my-adapter").iterdir()}
        seen.append((args.host, args.port, files, Path(args.state).parent))
        return 0

    monkeypatch.setattr("reftune.cli.serve.run", serve)
    monkeypatch.setattr(chat_web, "_open_when_ready", opened.append)
    logger = logging.getLogger("reftune.server")
    monkeypatch.setattr(logger, "setLevel", lambda level: None)
    assert main(["chat", "--web", "--adapter", str(folder)]) == 0
    [(host, port, files, temporary)] = seen
    until(lambda: opened)
    assert opened == [f"http://{host}:{port}/#adapter=my-adapter"]
    assert host == "127.0.0.1"
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert not temporary.exists()
