"""Each edit is its formula; rows that must be orthonormal are, and stay so."""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig
from transformers import RobertaForSequenceClassification as Roberta

from reftune import INTERVENTIONS, ReftConfig
from reftune.interventions import LoReFT, OrthonormalDiReFT, linear, options
from reftune.orthonormal import orthonormal

WIDTH, RANK, TOKENS = 16, 3, 5
ORTHONORMAL = ["loreft", "direft_orthonormal", "consreft", "lobireft"]
RANKED = [*ORTHONORMAL, "noreft", "direft"]
# The paper's formulas for one column vector h, from the parameters as they are stored.
FORMULAS = {
    "loreft": lambda h, p: h + p.R.T @ (p.source @ h + p.bias - p.R @ h),
    "noreft": lambda h, p: h + p.weight.T @ (p.source @ h + p.bias - p.weight @ h),
    "direft": lambda h, p: h + p.weight.T @ (p.source @ h + p.bias),
    "direft_orthonormal": lambda h, p: h + p.R.T @ (p.source @ h + p.bias),
    "consreft": lambda h, p: h + p.R.T @ (p.bias - p.R @ h),
    "lobireft": lambda h, p: h + p.R.T @ p.bias,
    "red": lambda h, p: p.weight * h + p.bias,
    "steering_vector": lambda h, p: h + p.scale * p.weight,
}


class Parameters:
    """The tensors of an edit; R by Gram-Schmidt, which knows nothing of the chart's QR."""

    def __init__(self, edit: nn.Module, element: int | None = None):
        for name, tensor in edit.named_parameters():
            setattr(self, name, tensor.detach() if element is None else tensor.detach()[element])
        self.scale = getattr(edit, "scale", None)
        rows = []
        if self.weight.dim() == 2:
            for row in self.weight:
                row = row - sum(((row @ other) * other for other in rows), torch.zeros(WIDTH))
                rows.append(row / row.norm())
            self.R = torch.stack(rows)


def build(name: str, stack=(), **arguments) -> nn.Module:
    if "rank" in options(name):
        arguments["rank"] = RANK
    edit = INTERVENTIONS[name](width=WIDTH, stack=stack, **arguments)
    for parameter in edit.parameters():  # anything but a start that hides an error
        nn.init.normal_(parameter)
    return edit


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_edits_are_the_formulas_of_the_paper(name):
    edit = build(name, **({"scale": 2.5} if name == "steering_vector" else {}))
    h = torch.randn(2, TOKENS, WIDTH)
    expected = torch.stack([FORMULAS[name](row, Parameters(edit)) for row in h.view(-1, WIDTH)])
    torch.testing.assert_close(edit(h).view(-1, WIDTH), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_a_stack_holds_independent_edits(name):
    edit = build(name, stack=(2,))
    h = torch.randn(4, 2, TOKENS, WIDTH)
    edited = edit(h)
    for element in (0, 1):
        rows = h[:, element].reshape(-1, WIDTH)
        expected = torch.stack([FORMULAS[name](row, Parameters(edit, element)) for row in rows])
        got = edited[:, element].reshape(-1, WIDTH)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_linear_loreft_sets_its_subspace_and_nothing_else():
    edit = build("loreft")
    R, W, b = orthonormal(edit.weight), edit.source, edit.bias
    h = torch.randn(TOKENS, WIDTH)
    edited = edit(h)
    outside = torch.eye(WIDTH) - R.mT @ R
    torch.testing.assert_close(edited @ R.mT, h @ W.mT + b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(edited @ outside, h @ outside, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ORTHONORMAL)
def test_rows_stay_orthonormal_while_training(name):
    edit = build(name)
    optimizer = torch.optim.Adam(edit.parameters(), lr=0.1)
    start = orthonormal(edit.weight).detach().clone()
    for _ in range(20):
        optimizer.zero_grad()
        (edit(torch.randn(TOKENS, WIDTH)) - 1).square().mean().backward()
        optimizer.step()
    R = orthonormal(edit.weight)
    torch.testing.assert_close(R @ R.mT, torch.eye(RANK), atol=1e-5, rtol=0)
    assert (R - start).abs().max() > 0.01


def test_the_chart_is_the_identity_on_orthonormal_rows_and_exactly_differentiable():
    R = orthonormal(torch.randn(2, RANK, WIDTH, dtype=torch.float64))
    torch.testing.assert_close(orthonormal(R), R)
    torch.autograd.gradcheck(orthonormal, torch.randn(2, RANK, 6).double().requires_grad_())
    half = orthonormal(torch.randn(RANK, WIDTH).bfloat16())
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("activation", [linear, torch.relu, torch.sigmoid])
@pytest.mark.parametrize("name", [name for name in INTERVENTIONS if "identity" in options(name)])
def test_the_identity_start_changes_nothing_but_learns(name, activation):
    arguments = {"activation": activation} if "activation" in options(name) else {}
    try:
        edit = INTERVENTIONS[name](width=WIDTH, rank=RANK, **arguments)
    except ValueError as refusal:
        assert activation is not linear
        assert "init='paper'" in str(refusal)  # noqa: PT017
        return
    h = torch.randn(TOKENS, WIDTH)
    torch.testing.assert_close(edit(h), h, atol=1e-6, rtol=1e-6)
    (edit(h) - torch.randn_like(h)).square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in edit.parameters())


@pytest.mark.parametrize("name", ["red", "steering_vector"])
def test_edits_with_one_start_begin_as_the_identity(name):
    h = torch.randn(TOKENS, WIDTH)
    assert torch.equal(INTERVENTIONS[name](width=WIDTH)(h), h)


def test_the_papers_start_draws_as_linear_layers_do():
    torch.manual_seed(0)
    edit = LoReFT(width=400, rank=300, identity=False)
    bound = 1 / 20
    for drawn in (edit.source, edit.bias):
        assert drawn.abs().max() <= bound
        assert drawn.abs().mean().item() == pytest.approx(bound / 2, rel=0.1)
    torch.testing.assert_close(orthonormal(edit.weight), 2 * edit.weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in INTERVENTIONS if "activation" in options(name)])
def test_an_activation_wraps_what_the_subspace_is_set_to(name):
    edit = build(name, identity=False, activation=torch.relu)
    plain = build(name, identity=False)
    plain.load_state_dict(edit.state_dict())
    assert plain.activation is linear
    h = torch.randn(50, WIDTH)
    positive = ((h @ edit.source.mT + edit.bias) > 0).all(dim=1)
    assert positive.any()
    torch.testing.assert_close(edit(h)[positive], plain(h)[positive])
    assert not torch.allclose(edit(h)[~positive], plain(h)[~positive])


def test_an_impossible_identity_start_is_refused():
    with pytest.raises(ValueError, match="init='paper'"):
        LoReFT(width=WIDTH, rank=RANK, activation=torch.relu)
    with pytest.raises(ValueError, match="init='paper'"):
        OrthonormalDiReFT(width=WIDTH, rank=RANK, activation=torch.sigmoid)


@pytest.mark.parametrize(
    ("hidden", "layers", "chosen", "config", "count"),
    [
        (2048, 22, [8], {"r": 4, "positions": "l1"}, 16_388),
        (4096, 32, [15], {"r": 4, "positions": "l1"}, 32_772),
        (4096, 32, [15], {"r": 1, "positions": "l1"}, 8_193),
        (4096, 32, "all", {"r": 8}, 2_097_408),
        (4096, 32, [3, 9, 18, 24], {"r": 4, "positions": "f5+l5", "tied": False}, 262_176),
    ],
)
def test_llama_parameter_counts_are_those_of_the_paper(hidden, layers, chosen, config, count):
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=64)
        )
        model = get_peft_model(model, ReftConfig(layers=chosen, **config))
    assert model.get_nb_trainable_parameters()[0] == count


@pytest.mark.parametrize(("hidden", "layers", "count"), [(768, 12, 18_444), (1024, 24, 49_176)])
def test_roberta_parameter_counts_are_those_of_the_paper(hidden, layers, count):
    with torch.device("meta"):
        config = RobertaConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=16,
            intermediate_size=8,
        )
        model = get_peft_model(Roberta(config), ReftConfig(layers="all", r=1, positions="f1"))
    assert model.get_nb_trainable_parameters()[0] == count
