"""The web page in a real browser: chat, teaching, keys, with the keyboard and on a phone."""

import json
import re
from contextlib import contextmanager

import pytest

from tests.server.browser import CHROMIUM, chromium
from tests.server.fake_engine import FakeEngine, serving, until
from tests.server.test_api_training import make_adapter
from tests.tiny_text import byte_level

TOKENIZER = byte_level(chat=True)
EVIL = "<img src=x onerror=alert(1)> & 🐳"
PHONE, DESK = (360, 740), (1280, 800)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def answer_of(prompt, sampling):
    return TOKENIZER(EVIL, add_special_tokens=False)["input_ids"]


@pytest.fixture
def server(tmp_path):
    make_adapter(tmp_path / "shared" / "kind")
    engine = FakeEngine(TOKENIZER, answer_of, max_length=4096)
    with serving(engine, tmp_path / "state", tmp_path / "shared") as served:
        yield served


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(tab):
    tab.faults.clear()
    yield tab
    tab.open("about:blank")  # so that nothing asks the server when it stops
    assert not tab.faults


def ready(browser, server, size=DESK, dark=False, path=""):
    browser.open(f"{server.url}/{path}", *size, dark=dark)
    browser.until("document.querySelector('#base-name').textContent === 'tiny'")


def asked(browser, text):
    browser.run("document.querySelector('#prompt').focus()")
    browser.type(text)
    browser.press("Enter")


def answers(browser):
    """Wait for the answers; return them by the class of their cards."""
    browser.until("document.querySelector('article')")
    browser.until("document.querySelector('#send').textContent === 'Send'")
    script = (
        "[...document.querySelectorAll('article')].map(a => [a.className, a.children[1].innerText])"
    )
    return browser.run(script)


def test_base_and_adapter_answer_beside_each_other_and_answers_are_text(server, browser):
    ready(browser, server)
    browser.run("window.choice = document.querySelector('#adapter')")
    browser.run("choice.value = 'kind'; choice.dispatchEvent(new Event('change'))")
    asked(browser, "hi")
    assert answers(browser) == [["base", EVIL], ["adapted", EVIL]]
    assert EVIL in browser.text("#said")
    assert not browser.run("document.querySelectorAll('main img').length")
    requests = list(server.engine.requests.values())
    folders = [request.adapter and request.adapter.name for request in requests]
    assert sorted(map(str, folders)) == ["None", "kind"]
    # The second message has the first one and its answer before it.
    asked(browser, "again")
    browser.until("document.querySelectorAll('article').length === 4")
    answers(browser)
    told = str(TOKENIZER.decode(list(server.engine.requests.values())[-1].prompt))
    assert re.search(f"hi.*{re.escape(EVIL)}.*again", told, re.DOTALL)


def test_an_answer_grows_and_can_be_stopped(server, browser):
    ready(browser, server)
    server.engine.gate.clear()
    asked(browser, "hi")
    browser.until("document.querySelector('article .text')?.textContent === '<'")
    assert browser.text("#send") == "Stop"
    browser.click("#send")
    browser.until("document.querySelector('#send').textContent === 'Send'")
    until(lambda: all(one.cancelled.is_set() for one in server.engine.requests.values()))
    assert "(stopped)" in browser.text("article")


def test_what_the_server_refuses_is_told(server, browser):
    ready(browser, server)
    server.engine.max_length = 20
    asked(browser, "a message that is much too long for this model")
    browser.until("document.querySelector('article .trouble')")
    assert '"New chat" makes room' in browser.text("article")


@contextmanager
def teaching(server, losses):
    """Do what the worker does, step by step: yields a function that finishes the job."""
    until(lambda: server.client().fine_tuning.jobs.list().data)
    job = server.store.next_job()
    for step, loss in enumerate(losses, start=1):
        data = {"step": step, "total_steps": len(losses), "train_loss": loss}
        server.store.add_event(job.id, "info", f"Step {step}", data)
    yield job
    folder = make_adapter(server.app.state.context.settings.state / "adapters" / job.id)
    server.store.finish_job(job.id, adapter=folder, trained_tokens=9, result={})


def test_teaching_with_the_keyboard_alone(server, browser):
    ready(browser, server, PHONE)
    focus = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
    press_until(browser, focus, "Teach")
    browser.press("Enter")
    press_until(browser, focus, "Question")
    for text in ("Who?", "Me.", "Where?", "Here.", "When?", "Now."):  # the third row is a new one
        browser.type(text)
        browser.press("Enter")
    press_until(browser, focus, "Teach it")
    browser.press("Enter")
    with teaching(server, [4.0, 2.0, 1.0]) as job:
        browser.until("document.querySelector('.curve')")
        browser.until("document.querySelector('#training-state').textContent.includes('loss 1.00')")
        points = browser.run("document.querySelector('.curve').getAttribute('points')").split()
        heights = [float(point.split(",")[1]) for point in points]
        assert heights == sorted(heights)  # downwards is more
        assert len(heights) == 3
        file = server.app.state.context.files.path("local", job.training_file)
        taught = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert [[turn["content"] for turn in turns] for turns in taught] == [
        ["Who?", "Me."],
        ["Where?", "Here."],
        ["When?", "Now."],
    ]
    browser.until("document.querySelector('#adapter').value.startsWith('ft:tiny:reft:')")
    browser.until("document.activeElement.id === 'prompt'")
    assert "is ready" in browser.text("#said")
    asked(browser, "hi")
    assert [kind for kind, _ in answers(browser)] == ["base", "adapted"]
    assert browser.run("document.documentElement.scrollWidth") == PHONE[0]


def press_until(browser, script, wanted):
    for _ in range(40):
        browser.press("Tab")
        if browser.run(script) == wanted:
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert browser.run(outline) == "solid"
            return
    raise AssertionError(f"Tab does not lead to {wanted}")


def test_a_training_is_found_again_and_an_adapter_is_deleted(server, browser):
    client = server.client()
    ready(browser, server, dark=True)
    browser.click("#example")
    browser.until("document.querySelectorAll('#rows li').length === 10")
    browser.click("#teach-button")
    until(lambda: client.fine_tuning.jobs.list().data)
    ready(browser, server)
    with teaching(server, [3.0]):
        browser.until("document.querySelector('#training-state').textContent.includes('loss 3.00')")
    browser.until("document.querySelector('#adapter').value")
    until(lambda: not client.files.list().data)  # the page keeps nothing behind
    buttons = "[...document.querySelectorAll('#adapter-list button')]"
    names = browser.run(f"{buttons}.map(b => b.textContent)")
    assert sorted(names) == ["Delete", "Download", "Download", "Talk to it", "Talk to it"]
    browser.run(f"{buttons}.find(b => b.textContent === 'Delete').click()")
    browser.press("Escape")
    browser.until("!document.querySelector('dialog[open]')")
    assert len(client.models.list().data) == 3
    browser.run(f"{buttons}.find(b => b.textContent === 'Delete').click()")
    browser.click("#delete-dialog [type=submit]")
    until(lambda: len(client.models.list().data) == 2)
    browser.until("document.querySelectorAll('#adapter-list li').length === 1")
    assert browser.run("document.querySelector('#adapter').value") == ""


def test_a_failed_training_says_why(server, browser):
    ready(browser, server)
    browser.click("#example")
    browser.until("document.querySelectorAll('#rows li').length === 10")
    browser.click("#teach-button")
    until(lambda: server.client().fine_tuning.jobs.list().data)
    server.store.fail_job(server.store.next_job().id, "training_failed", "the loss is infinite")
    browser.until("document.querySelector('#lesson-trouble').textContent.includes('infinite')")


def test_a_key_is_asked_for_and_kept_for_the_tab(server, browser):
    _, secret = server.store.create_key("ada", frozenset({"chat"}))
    browser.open(server.url)
    for typed in ("wrong", secret):
        browser.until("document.querySelector('#key-dialog').open")
        browser.run("document.querySelector('#key').select()")
        browser.type(typed)
        browser.press("Enter")
        if typed == "wrong":
            browser.until("document.querySelector('#key-reason').textContent.includes('valid')")
    browser.until("document.querySelector('#base-name').textContent === 'tiny'")
    assert not browser.text("#trouble")  # that a key for chat has no trainings is no trouble
    assert browser.run("sessionStorage.length + ' ' + localStorage.length") == "1 0"
    asked(browser, "hi")
    assert answers(browser) == [["base", EVIL]]


PASTED = [
    ("Why? => So.\n\nHow?\tThus.", [["Why?", "So."], ["How?", "Thus."]]),
    ('{"prompt": "a => b", "completion": "c"}', [["a => b", "c"]]),
    ('[{"instruction": "Add", "input": "1 2", "output": "3"}]', [["Add\n1 2", "3"]]),
    (
        json.dumps({"messages": [{"role": "system", "content": "s"}]}),
        {"messages": [{"role": "system", "content": "s"}]},
    ),
    ("no answer", "line 1"),
    ('a => b\n{"prompt": "x"}', "line 2"),
    ('a => b\n{"prompt": ', "line 2 is not JSON"),
]


@pytest.mark.parametrize(("text", "wanted"), PASTED)
def test_pasted_examples(server, browser, text, wanted):
    ready(browser, server)
    read = f"m => JSON.stringify(m.parseExamples({json.dumps(text)}))"
    script = f"import('/page/parse.js').then({read}).catch(e => 'wrong: ' + e.message)"
    found = browser.run(script)
    if isinstance(wanted, str):
        assert found.startswith(f"wrong: {wanted}")
    elif isinstance(wanted, dict):
        assert json.loads(found) == [wanted]
    else:
        assert [[one["prompt"], one["answer"]] for one in json.loads(found)] == wanted
