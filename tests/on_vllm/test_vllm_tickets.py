"""Which requests are let through to vLLM, and with whom they share cached blocks."""

import itertools
import json
import logging
import sys
from types import SimpleNamespace

import pytest
import torch

from reftune.serving.errors import AdapterError
from reftune.vllm import entry
from reftune.vllm.frontend import Frontend, pass_plain
from reftune.vllm.reading import AdapterReader
from reftune.vllm.settings import VllmSettings
from reftune.vllm.ticket import ASKED, SALT, Ticket, refuse_forged
from tests.on_vllm.vllm_configs import config
from tests.serving.served import LLAMA, write_adapter


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out, model = tmp_path_factory.mktemp("adapters"), LLAMA.build()
    write_adapter(out / "one", model, 1, layers=[1], positions="l1")
    write_adapter(out / "two", model, 2, layers="all", positions="f1+l1", tied=False)
    write_adapter(out / "inside", model, 3, layers=[1], component="mlp_output")
    return out


@pytest.fixture(scope="module")
def frontend(folders):
    return Frontend(config(VllmSettings(adapters=str(folders))))


def core_request(length=3, salt=None, **more) -> SimpleNamespace:
    """What the plug-in reads and writes of an `EngineCoreRequest`."""
    fields = {
        "sampling_params": SimpleNamespace(extra_args={"other": 1}),
        "prompt_token_ids": list(range(5, 5 + length)),
        "prompt_embeds": None,
        "resumable": False,
        "cache_salt": salt,
    }
    return SimpleNamespace(**{**fields, **more})


def admitted(frontend, folder, **request) -> SimpleNamespace:
    made = core_request(**request)
    frontend.admit(folder, made)
    return made


def test_blocks_are_shared_by_one_adapter_one_length_and_one_salt_alone(frontend, folders) -> None:
    given = list(
        itertools.product((folders / "one", folders / "two"), (1, 2, 12), (None, "a", "1:a"))
    )
    salts = {
        admitted(frontend, folder, length=length, salt=salt).cache_salt
        for folder, length, salt in given
    }
    assert len(salts) == len(given)
    again = admitted(frontend, folders / "one", length=2, prompt_token_ids=[7, 8])
    assert again.cache_salt in salts


def test_a_ticket_travels_as_plain_data(frontend, folders) -> None:
    request = admitted(frontend, folders / "one")
    travelled = json.loads(json.dumps(request.sampling_params.extra_args))
    assert travelled["other"] == 1
    ticket = Ticket.read(travelled, 3)
    reader = AdapterReader(LLAMA.build().config, VllmSettings())
    assert ticket is not None
    assert reader.find(ticket).digest == ticket.digest
    assert Ticket.read({"other": 1}, 3) is None
    assert Ticket.read(None, 3) is None


@pytest.mark.parametrize(
    ("given", "length"),
    [("one", 3), ({"folder": "x"}, 3), ({"folder": "x", "digest": "y", "length": 4}, 3)],
)
def test_what_was_not_admitted_is_no_ticket(given, length) -> None:
    with pytest.raises(RuntimeError, match="expected a ticket"):
        Ticket.read({ASKED: given}, length)


def test_a_salt_of_ours_cannot_be_given(frontend, folders) -> None:
    stolen = admitted(frontend, folders / "one").cache_salt
    assert stolen.startswith(SALT)
    for check in (refuse_forged, lambda salt: pass_plain(core_request(salt=salt))):
        with pytest.raises(ValueError, match="does not begin with reftune:"):
            check(stolen)
    with pytest.raises(ValueError, match="does not begin with reftune:"):
        admitted(frontend, folders / "two", salt=stolen)
    pass_plain(core_request(salt="mine"))
    pass_plain(core_request())


@pytest.mark.parametrize(
    "wrong",
    [
        {"resumable": True},
        {"prompt_embeds": torch.zeros(3, 4)},
        {"prompt_token_ids": None},
        {"sampling_params": None},
    ],
    ids=str,
)
def test_requests_that_cannot_be_edited_are_refused(frontend, folders, wrong) -> None:
    with pytest.raises(ValueError, match='adapter "one": expected a prompt of tokens alone'):
        admitted(frontend, folders / "one", **wrong)


def test_an_adapter_is_named_in_two_ways(frontend, folders) -> None:
    lora = SimpleNamespace(lora_name="x", lora_path=str(folders / "two"))
    assert frontend.folder(None, None) is None
    assert frontend.folder(None, {"other": "one"}) is None
    assert frontend.folder(None, {ASKED: "one"}) == (folders / "one").resolve()
    assert frontend.folder(lora, None) == folders / "two"
    with pytest.raises(ValueError, match="expected one adapter"):
        frontend.folder(lora, {ASKED: "one"})


@pytest.mark.parametrize(
    "name",
    ["none", "../one", "/etc", "", ".", "..", "one/", "one\n", "n" * 300, 5, ["one"], {"a": "b"}],
    ids=lambda name: f"{name!r:.20}",
)
def test_names_that_lead_nowhere(frontend, name) -> None:
    with pytest.raises(ValueError, match="expected the name of an adapter"):
        frontend.folder(None, {ASKED: name})


def test_a_link_out_of_the_folder_is_not_followed(tmp_path, folders) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "out").symlink_to(folders / "one")
    settings = VllmSettings(adapters=str(tmp_path / "adapters"))
    with pytest.raises(ValueError, match="expected the name of an adapter"):
        Frontend.named("out", settings)
    with pytest.raises(ValueError, match="expected an engine with a folder of adapters"):
        Frontend.named("one", VllmSettings())


def test_an_engine_without_adapters_is_left_as_it_is() -> None:
    plain, lora = Frontend(config()), SimpleNamespace(lora_name="x", lora_path="y")
    assert not plain.is_on
    assert plain.folder(lora, {"other": 1}) is None  # it is vLLM's, which knows what to do
    with pytest.raises(ValueError, match="expected an engine that serves adapters"):
        plain.folder(None, {ASKED: "one"})


def test_what_is_not_hooked_cannot_be_edited(frontend, folders) -> None:
    with pytest.raises(AdapterError, match="expected the outputs of layers alone"):
        admitted(frontend, folders / "inside")
    second = AdapterReader(LLAMA.build().config, VllmSettings(layers=[1]))
    assert second.read(folders / "one").digest
    with pytest.raises(AdapterError, match=r"edits model\.layers\.0, model\.layers\.2"):
        second.read(folders / "two")


def test_a_folder_that_was_replaced(tmp_path) -> None:
    """Requests that were admitted before have the old version, or none at all."""
    model = LLAMA.build()
    folder = write_adapter(tmp_path / "mine", model, 1, layers=[1], positions="l1")
    old = AdapterReader(model.config, VllmSettings()).read(folder)
    ticket = Ticket(str(folder), old.digest, 3)
    running = AdapterReader(model.config, VllmSettings())
    held = running.find(ticket)
    write_adapter(folder, model, 2, layers=[1], positions="l1")
    new = running.read(folder)
    assert new.digest != old.digest
    assert running.find(ticket) is held
    with pytest.raises(AdapterError, match="has changed since"):
        AdapterReader(model.config, VllmSettings()).find(ticket)


def test_a_version_of_vllm_that_does_not_fit_goes_on_without(monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "reftune.vllm.plugin", None)  # as if an import in it failed
    with caplog.at_level(logging.WARNING):
        entry.register()
    assert "reftune serves no adapters in this version of vLLM" in caplog.text
