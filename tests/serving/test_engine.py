"""Every answer of the engine is the one that `generate` gives for that request alone."""

import random
import shutil

import pytest
import torch

from reftune.experiments.methods import method_of
from reftune.serving.errors import AdapterError, EngineError, EngineStopped, PromptTooLong
from reftune.serving.requests import Failed, Finished
from reftune.serving.settings import EngineSettings
from tests.server.waiting import until
from tests.serving.served import (
    CONFIGS,
    LLAMA,
    NEW_TOKENS,
    Alone,
    Asked,
    new_engine,
    prompts,
    running,
    write_adapter,
    write_adapters,
)
from tests.tiny_models import CAUSAL

# Their attention is their own, which continuous batching does not reach.
REFUSED = [tiny for tiny in CAUSAL if tiny.name in ("falcon", "mpt")]
SERVED = [tiny for tiny in CAUSAL if tiny not in REFUSED]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def alone(folders):
    return Alone(LLAMA, folders)


@pytest.fixture(scope="module")
def engine():
    with running() as engine:
        yield engine


def ask_many(engine, folders, count, seed=0, **sampling):
    draws = random.Random(seed)
    chosen = [draws.choice([None, *folders.values()]) for _ in range(count)]
    pairs = zip(prompts(count, seed=seed), chosen, strict=True)
    return [Asked(engine, prompt, adapter, **sampling) for prompt, adapter in pairs]


def wrong(asked, alone, count=NEW_TOKENS):
    return [one.prompt for one in asked if one.ids() != alone.ids(one.prompt, one.adapter, count)]


@pytest.mark.parametrize("tiny", SERVED, ids=lambda tiny: tiny.name)
def test_mixed_requests_in_every_architecture(tiny, tmp_path) -> None:
    folders = write_adapters(tmp_path, tiny)
    with running(tiny) as engine:  # 3 slots for 6 adapters, steps of 16 tokens
        asked = ask_many(engine, folders, 24)
        assert wrong(asked, Alone(tiny, folders)) == []
        assert engine.stats.evictions > 0


def test_the_adapters_differ(folders, alone) -> None:
    prompt = prompts(1)[0]
    answers = [tuple(alone.ids(prompt, adapter)) for adapter in [None, *folders.values()]]
    assert len(set(answers)) == len(CONFIGS) + 1


def test_requests_that_had_to_make_room(folders, alone, monkeypatch) -> None:
    with running(settings=EngineSettings(3, 16, cache_tokens=128, page_tokens=16)) as engine:
        made_room = []
        manager = engine._manager.batch_processor.offloading_manager
        offload = manager.offload_requests
        monkeypatch.setattr(
            manager, "offload_requests", lambda: made_room.append(offload()) or made_room[-1]
        )
        with engine.between_batches():  # all are there at the first step
            asked = ask_many(engine, folders, 16, max_tokens=40)
        assert wrong(asked, alone, 40) == []
        assert any(made_room)


def test_attention_that_reads_one_site_by_heads(tmp_path) -> None:
    config = {"layers": [0, 1], "heads": [0, 2], "component": "attention_value_output", "r": 2}
    folder = write_adapter(
        tmp_path / "heads", LLAMA.build(), 1, positions="l4", intervention="noreft", **config
    )
    alone = Alone(LLAMA, {"heads": folder})
    with running() as engine:
        asked = [Asked(engine, prompt, folder) for prompt in prompts(4)]
        assert wrong(asked, alone) == []


def test_a_replaced_adapter_is_for_later_requests(tmp_path, folders, alone, engine) -> None:
    folder, prompt = tmp_path / "mine", prompts(1)[0]
    shutil.copytree(folders["last"], folder)
    with engine.between_batches():  # so that the first has not begun when the files are replaced
        before = Asked(engine, prompt, folder)
        shutil.rmtree(folder)
        shutil.copytree(folders["everywhere"], folder)
        after = Asked(engine, prompt, folder)
    assert before.ids() == alone.ids(prompt, folders["last"])
    assert after.ids() == alone.ids(prompt, folders["everywhere"])


def test_cancelling_one_leaves_the_others(folders, alone, engine) -> None:
    asked = ask_many(engine, folders, 12, seed=3, max_tokens=40)
    unwanted, wanted = asked[::2], asked[1::2]
    for one in unwanted:
        engine.cancel(one.id)
        engine.cancel(one.id)
    for one in wanted:
        assert one.ids() == alone.ids(one.prompt, one.adapter, 40)
    for one in unwanted:
        _, end = one.all()
        assert end in (Finished("cancelled"), Finished("stop"), Finished("length"))
        assert one.events.empty()
    assert (engine.running, engine.waiting) == (0, 0)
    assert set(engine._admission._slots._users.values()) <= {0}


def test_requests_that_are_not_begun_wait(folders, engine) -> None:
    with engine.between_batches():
        asked = [Asked(engine, prompt, folders["last"]) for prompt in prompts(3)]
        asked += [Asked(engine, prompt, None) for prompt in prompts(4)]
        assert (engine.running, engine.waiting) == (0, 7)
    for one in asked:
        one.all()
    until(lambda: (engine.running, engine.waiting) == (0, 0))


def test_an_answer_tells_how_it_ended(engine, alone) -> None:
    tokens, end = Asked(engine, [20, 21, 22], max_tokens=3).all()
    assert (len(tokens), end) == (3, Finished("length"))
    ending = tokens[1].id
    engine_ends, engine._ends = engine._ends, frozenset([ending])
    try:
        tokens, end = Asked(engine, [20, 21, 22], max_tokens=3).all()
    finally:
        engine._ends = engine_ends
    assert (len(tokens), end) == (1, Finished("stop"))


def test_training_on_the_same_weights_changes_no_answer(folders, alone, engine) -> None:
    model = engine.base_for_training()
    weights = dict(engine._model.named_parameters())
    assert all(p.data_ptr() == weights[name].data_ptr() for name, p in model.named_parameters())
    asked = ask_many(engine, folders, 12, seed=5)
    training = method_of("reft", {"layers": "all", "positions": "all"}).attach(model, "CAUSAL_LM")
    optimizer = torch.optim.SGD([p for p in training.parameters() if p.requires_grad], lr=10.0)
    ids = torch.arange(10, 30)[None]
    for _ in range(3):
        with engine.between_batches():
            training(input_ids=ids, labels=ids.where(ids > 15, -100)).loss.backward()
            optimizer.step()
    assert wrong(asked, alone) == []


def test_a_prompt_that_does_not_fit_is_refused(engine) -> None:
    for prompt, new in (([], 1), ([5] * 10, engine.max_length)):
        with pytest.raises(PromptTooLong, match=str(engine.max_length)):
            Asked(engine, prompt, max_tokens=new)
    assert len(Asked(engine, [5] * (engine.max_length - 1), max_tokens=1).all()[0]) <= 1


def test_draining_gives_every_answer(folders, alone) -> None:
    with running() as engine:
        asked = ask_many(engine, folders, 10)
        engine.stop(drain=True)
        assert wrong(asked, alone) == []
        with pytest.raises(EngineStopped):
            Asked(engine, [5, 6])


def test_stopping_at_once_fails_what_is_running(folders) -> None:
    with running() as engine:
        with engine.between_batches():
            asked = ask_many(engine, folders, 4, max_tokens=60)
        engine.stop(drain=False)
        ends = [one.all()[1] for one in asked]
        assert all(isinstance(end, Failed | Finished) for end in ends)
        assert any(isinstance(end, Failed) for end in ends)


def test_a_listener_that_fails_harms_no_other(engine, alone) -> None:
    from reftune.serving.requests import Sampling

    def broken(event) -> None:
        raise KeyError("listener")

    engine.submit([5, 6, 7], Sampling(max_tokens=4, temperature=0), broken)
    assert Asked(engine, [20, 21]).ids() == alone.ids([20, 21], None)


@pytest.mark.parametrize("tiny", REFUSED, ids=lambda tiny: tiny.name)
def test_a_model_that_would_be_answered_wrongly_is_refused(tiny) -> None:
    with pytest.raises(EngineError), running(tiny):
        pass


@pytest.mark.parametrize("broken", ["begin", "write", "hook"])
def test_an_engine_whose_edits_do_not_act_refuses_to_start(broken, monkeypatch) -> None:
    engine = new_engine()
    monkeypatch.setattr(engine._editing, broken, lambda *args: None)
    with pytest.raises(EngineError):
        engine.start()
    assert not engine._manager.is_running()


def test_an_edit_that_is_missed_is_an_error_not_an_answer(folders) -> None:
    with running() as engine:
        Asked(engine, [5, 6, 7], folders["last"]).all()  # its sites have their hooks
        for module in engine._model.modules():
            module._forward_hooks.clear()
        _, end = Asked(engine, [5, 6, 7], folders["last"]).all()
        assert isinstance(end, Failed)
        assert "expected the engine to run" in end.error
        engine._manager._generation_thread.join(timeout=10)
        assert not engine.alive


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: shutil.rmtree(folder), "adapter_config.json"),
        (lambda folder: (folder / WEIGHTS).unlink(), "adapter_model"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x" * 20), "adapter"),
        (lambda folder: (folder / CONFIG).write_text("[1"), "adapter"),
        (lambda folder: (folder / CONFIG).write_text('{"peft_type": "LORA"}'), "LORA"),
    ],
)  # fmt: skip
def test_a_folder_without_an_adapter_is_refused(spoil, said, folders, tmp_path, engine) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(folders["last"], folder)
    engine.check(folder)
    spoil(folder)
    with pytest.raises(AdapterError, match=said):
        engine.check(folder)


def test_an_adapter_that_is_beyond_all_bounds_spoils_no_other_answer(
    tmp_path, alone, engine
) -> None:
    from safetensors.torch import load_file, save_file

    for value in (1e30, 3e38):
        folder = write_adapter(
            tmp_path / str(value), LLAMA.build(), 1, **{**CONFIGS["everywhere"], "layers": [0]}
        )
        tensors = load_file(folder / WEIGHTS)
        save_file({name: t.sign() * value for name, t in tensors.items()}, folder / WEIGHTS)
        with engine.between_batches():
            asked = [Asked(engine, p, a) for p in prompts(6) for a in (folder, None)]
        assert wrong(asked[1::2], alone) == []
        assert all(len(one.ids()) <= NEW_TOKENS for one in asked[::2])
    save_file({name: t * float("nan") for name, t in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="not finite"):
        Asked(engine, [5, 6], folder)


def test_an_adapter_of_another_model_is_refused(tmp_path, engine) -> None:
    folder = write_adapter(tmp_path / "other", LLAMA.build(num_hidden_layers=5), 1, layers=[1])
    with pytest.raises(AdapterError, match="num_layers=5"):
        Asked(engine, [5, 6], folder)


def test_settings_have_a_least_size() -> None:
    with pytest.raises(ValueError, match="cache_tokens=16: expected 128 or more"):
        EngineSettings(cache_tokens=16)
