"""On a GPU, where vLLM has its second model runner. Nobody has run it yet."""

import pytest

from tests.on_vllm.vllm_engines import LLAMA, asked, running, save, wrong

pytestmark = [pytest.mark.vllm, pytest.mark.gpu, pytest.mark.filterwarnings("default")]
ROOM = {"gpu_memory_utilization": 0.3, "block_size": 16}
SPLIT = {
    "cudagraph_mode": "PIECEWISE",
    "splitting_ops": [
        "vllm::unified_attention",
        "vllm::unified_attention_with_output",
        "reftune::edit",
    ],
}


@pytest.mark.parametrize("second", ["1", "0"], ids=["second runner", "first runner"])
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_answers_are_those_of_generate(tmp_path, monkeypatch, second, eager) -> None:
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", second)
    saved = save(tmp_path, LLAMA, each=3)
    with running(saved, enforce_eager=eager, **ROOM) as llm:
        assert wrong(llm, saved, saved.alone(), asked(saved, 200)) == []


def test_graphs_that_are_split_at_the_edits(tmp_path) -> None:
    saved = save(tmp_path, LLAMA)
    with running(saved, enforce_eager=False, compilation_config=SPLIT, **ROOM) as llm:
        assert wrong(llm, saved, saved.alone(), asked(saved, 60)) == []
