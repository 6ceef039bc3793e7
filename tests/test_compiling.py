"""Training and generation compile into whole graphs, and a training step into a CUDA graph."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import CompileConfig

from reftune.labelled_loss import logits_everywhere
from tests.adapters import GREEDY, LLAMA, PROMPTS, padded, pair
from tests.labelled_steps import Step, batch, step, trained

UNTIED = {"positions": "f7+l7", "tied": False}


def check_same(got: Step, expected: Step) -> None:
    torch.testing.assert_close(got.loss, expected.loss)
    torch.testing.assert_close(got.gradients, expected.gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("intervention", ["loreft", "direft_orthonormal"])
def test_a_training_step_is_one_graph_for_all_batches_of_a_shape(intervention):
    model = trained(**UNTIED, intervention=intervention)
    batches = [batch("right"), batch("left")]
    expected = [step(model, **inputs) for inputs in batches]
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for inputs, eager in zip(batches, expected, strict=True):
        model.zero_grad()
        loss = compiled(**inputs).loss
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        check_same(Step(loss.detach(), gradients, []), eager)
    assert counter.frame_count == 1


@pytest.mark.parametrize("decode", ["none", "all"])
def test_generation_with_a_static_cache_compiles_into_whole_graphs(decode):
    model, _ = pair(LLAMA, positions="f2+l2", tied=False, decode=decode)
    inputs = padded(PROMPTS, "left")
    options = {
        **GREEDY,
        "max_new_tokens": 8,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    expected = model.generate(**inputs, **options)
    torch._dynamo.reset()
    graphs = []

    def counting(graph, example):  # a function, because generate() copies what it is given
        graphs.append(graph)
        return graph.forward

    config = CompileConfig(fullgraph=True, backend=counting, mode=None)
    config._compile_all_devices = True
    got = model.generate(**inputs, **options, cache_implementation="static", compile_config=config)
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-4, rtol=1e-4)
    # The plan's and the model's, and the plan's again once R is no longer kept: none for each step.
    assert 1 <= len(graphs) <= 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_step_is_captured_in_a_cuda_graph():
    model = trained(**UNTIED).cuda()
    # Without a mask: whether one has padding is asked on the host by transformers.
    first, second = (
        {name: tensor.cuda() for name, tensor in batch(side).items() if name != "attention_mask"}
        for side in ("right", "left")
    )

    def run(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        with logits_everywhere():  # how many tokens have labels is known on the device alone
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        return loss

    def gradients() -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}

    expected = run(second).detach(), gradients()
    static = {name: tensor.clone() for name, tensor in first.items()}
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            run(static)
        model.zero_grad(set_to_none=True)  # the graph is to allocate the gradients
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = run(static)
    for name, tensor in second.items():
        static[name].copy_(tensor)
    graph.replay()
    torch.testing.assert_close((loss.detach(), gradients()), expected, atol=1e-4, rtol=1e-3)
