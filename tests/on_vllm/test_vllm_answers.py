"""Every answer of vLLM's engine is the one that `generate` gives for that request alone."""

import shutil

import pytest

from tests.on_vllm.vllm_engines import (
    GPT2,
    LLAMA,
    QWEN3,
    answers,
    asked,
    running,
    save,
    wrong,
)
from tests.serving.served import write_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]  # vLLM's own


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("llama"), LLAMA, each=3)


@pytest.fixture(scope="module")
def alone(saved):
    return saved.alone()


@pytest.fixture(scope="module")
def llm(saved, alone):
    with running(saved) as llm:
        yield llm


def test_200_requests_for_18_adapters_over_8_slots(llm, saved, alone) -> None:
    """Their prompts come in chunks of 16 tokens, shared with those that decode."""
    assert wrong(llm, saved, alone, asked(saved, 200)) == []


def test_prompts_that_extend_each_other(llm, saved, alone) -> None:
    """The last tokens of one are in the middle of another, of which blocks are in the cache."""
    long = [10 + 7 * n % 80 for n in range(90)]
    names = ["last", "ends", "everywhere", "active", None]
    for length in (40, 64, 65, 70, 90, 64, 40):
        asks = [(long[:length], name) for name in names]
        assert wrong(llm, saved, alone, asks) == []


def test_one_prompt_for_all_adapters(llm, saved, alone) -> None:
    prompt = [10 + 11 * n % 80 for n in range(70)]
    asks = [(prompt, name) for name in [None, *saved.folders, None]]
    for _ in range(2):  # the second time from the cache
        found = answers(llm, asks)
        assert len(set(map(tuple, found))) > len(saved.folders) / 2
        assert wrong(llm, saved, alone, asks) == []


def test_blocks_are_reused_where_they_may_be(llm, saved) -> None:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    def cached(prompt, name):
        sampling = SamplingParams(temperature=0, max_tokens=1, detokenize=False)
        sampling.extra_args = None if name is None else {"reft": name}
        prompt = TokensPrompt(prompt_token_ids=prompt)
        [output] = llm.generate([prompt], sampling, use_tqdm=False)
        return output.num_cached_tokens

    prompt = [10 + 13 * n % 80 for n in range(100)]
    assert [cached(prompt, "last") for _ in range(2)] == [0, 96]
    assert cached(prompt[:-1], "last") == 0
    assert cached(prompt, "ends") == 0
    assert [cached(prompt, None) for _ in range(2)] == [0, 96]


def test_requests_that_are_preempted(saved, alone) -> None:
    """The cache has room for few requests: they make room for each other, and begin anew."""
    with running(saved, num_gpu_blocks_override=9, disable_log_stats=False) as llm:
        asks = [(prompt[:30], name) for prompt, name in asked(saved, 24, seed=4)]
        assert wrong(llm, saved, alone, asks, count=60) == []
        counts = [one.value for one in llm.get_metrics() if one.name == "vllm:num_preemptions"]
        assert sum(counts) > 0


def test_a_folder_that_is_replaced_is_for_later_requests(llm, saved, alone) -> None:
    prompt, mine = [10 + 3 * n % 80 for n in range(70)], saved.adapters / "mine"
    shutil.copytree(saved.adapters / "last", mine)
    try:
        before = answers(llm, [(prompt, "mine")])
        shutil.rmtree(mine)
        shutil.copytree(saved.adapters / "everywhere", mine)
        after = answers(llm, [(prompt, "mine")])
    finally:
        shutil.rmtree(mine)
    assert before == [alone.ids(prompt, saved.adapters / "last")]
    assert after == [alone.ids(prompt, saved.adapters / "everywhere")]
    assert before != after


def test_adapters_are_read_while_it_runs(llm, saved, tmp_path) -> None:
    from vllm.lora.request import LoRARequest

    folder = write_adapter(tmp_path / "new", saved.tiny.build(), 77, layers=[1], positions="l2")
    [digest] = llm.collective_rpc("reft_load", args=(str(folder),))
    assert len(digest) == 64
    with pytest.raises(Exception, match="expected the folder of an adapter"):
        llm.collective_rpc("reft_load", args=(str(tmp_path),))
    assert llm.llm_engine.add_lora(LoRARequest("new", 5, str(folder)))
    assert set(llm.llm_engine.list_loras()) == {5}
    assert llm.llm_engine.remove_lora(5)
    assert not llm.llm_engine.list_loras()


def test_an_adapter_as_a_lora_request(llm, saved, alone) -> None:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest

    folder, prompt = saved.adapters / "ends", list(range(20, 40))
    [output] = llm.generate(
        [TokensPrompt(prompt_token_ids=prompt)],
        SamplingParams(temperature=0, max_tokens=8, detokenize=False),
        lora_request=LoRARequest("ends", 1, str(folder)),
        use_tqdm=False,
    )
    wanted = alone.ids(prompt, folder)
    assert list(output.outputs[0].token_ids)[: len(wanted)] == wanted


def test_what_cannot_be_right_is_refused(llm, saved) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import BeamSearchParams

    prompt = list(range(20, 60))
    with pytest.raises(VLLMValidationError, match="does not begin with reftune:"):
        answers(llm, [(prompt, None)], cache_salt="reftune:x")
    with pytest.raises(VLLMValidationError, match="does not begin with reftune:"):
        answers(llm, [(prompt, "last")], cache_salt="reftune:x")
    with pytest.raises(VLLMValidationError, match="expected the name of an adapter"):
        answers(llm, [(prompt, "nobody")])
    with pytest.raises(VLLMValidationError, match="beam search"):
        llm.beam_search([{"prompt_token_ids": prompt}], BeamSearchParams(2, max_tokens=3))
    assert answers(llm, [(prompt, "last")], cache_salt="mine") == answers(llm, [(prompt, "last")])


def test_several_answers_to_one_prompt(llm, saved, alone) -> None:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    prompt = list(range(20, 60))
    sampling = SamplingParams(
        n=3, temperature=1, top_k=1, max_tokens=8, extra_args={"reft": "ends"}
    )
    [output] = llm.generate([TokensPrompt(prompt_token_ids=prompt)], sampling, use_tqdm=False)
    wanted = alone.ids(prompt, saved.adapters / "ends")
    assert [list(one.token_ids)[: len(wanted)] for one in output.outputs] == [wanted] * 3


@pytest.mark.parametrize("tiny", [QWEN3, GPT2], ids=lambda tiny: tiny.name)
def test_architectures_beside_llama(tiny, tmp_path) -> None:
    saved = save(tmp_path, tiny)
    with running(saved, slots=3) as llm:
        assert wrong(llm, saved, saved.alone(), asked(saved, 40)) == []


def test_compiled(saved, alone) -> None:
    """Inductor's graphs have the edits in them, and serve every adapter."""
    with running(saved, enforce_eager=False) as llm:
        assert wrong(llm, saved, alone, asked(saved, 60, seed=2)) == []
