"""Engines that are set up wrongly, or would not edit, are refused when they start."""

import json
from types import SimpleNamespace

import pytest

from reftune.vllm.settings import (
    WORKER,
    VllmSettings,
    engine_arguments,
    refuse_unsupported,
    settings_of,
)
from tests.on_vllm.vllm_configs import config, engine


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"slots": 0}, "slots=0: expected 1 or more"),
        ({"slots": True}, "slots=True"),
        ({"adapters": "/nowhere"}, "expected a folder of adapters"),
        ({"graph_version": 99}, "graph_version=99"),
        ({"rank": 4}, "expected an object with some of slots"),
        ("all", "expected an object with some of slots"),
    ],
    ids=str,
)
def test_wrong_settings(wrong, says) -> None:
    with pytest.raises(ValueError, match=says):
        VllmSettings.of({"reftune": wrong})


def test_settings_are_part_of_what_vllm_tells_graphs_apart_by() -> None:
    settings = VllmSettings(slots=3, layers=[1, 2])
    given = json.loads(json.dumps(engine_arguments(settings)))
    assert given["worker_cls"] == WORKER
    assert settings_of(config(settings)) == VllmSettings.of(given["additional_config"]) == settings
    assert settings_of(config()) is None
    for halved in (config(settings), config()):
        worker = halved.parallel_config
        worker.worker_cls = "auto" if worker.worker_cls == WORKER else WORKER
        with pytest.raises(ValueError, match="together, as --worker-cls"):
            settings_of(halved)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"parallel_config": {"pipeline_parallel_size": 2}}, "pipeline_parallel_size"),
        ({"parallel_config": {"use_ubatching": True}}, "enable_dbo"),
        ({"cache_config": {"kv_sharing_fast_prefill": True}}, "kv_sharing_fast_prefill"),
        ({"speculative_config": object()}, "speculative_config"),
        ({"lora_config": object()}, "enable_lora"),
        ({"kv_transfer_config": object()}, "kv_transfer_config"),
        (
            {"compilation_config": {"cudagraph_mode": SimpleNamespace(name="FULL_AND_PIECEWISE")}},
            "cudagraph_mode=FULL_AND_PIECEWISE",
        ),
        (
            {"compilation_config": {"cudagraph_mode": SimpleNamespace(name="PIECEWISE")}},
            "reftune::edit in splitting_ops",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_engines_that_would_not_edit_are_refused(more, says) -> None:
    with pytest.raises(ValueError, match=says):
        refuse_unsupported(engine(**more))


def test_a_front_end_that_gives_no_tickets_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")
    with pytest.raises(ValueError, match="VLLM_USE_RUST_FRONTEND"):
        refuse_unsupported(engine())


def test_engines_that_edit_are_not_refused() -> None:
    refuse_unsupported(engine())
    split = {
        "cudagraph_mode": SimpleNamespace(name="PIECEWISE"),
        "splitting_ops": ["reftune::edit"],
    }
    refuse_unsupported(engine(compilation_config=split))
