"""Our reading of torch's orthogonal parametrization, against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from reftune.pyreft.checkpoints.torch_chart import chart, columns


def trained_layer(d: int, r: int) -> nn.Module:
    """Return a layer in torch's chart, away from where it began."""
    layer = orthogonal(nn.Linear(r, d, bias=False))
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(0.3 * torch.randn(d, r).tril(-1))
    return layer


@pytest.mark.parametrize(("d", "r"), [(7, 3), (7, 1), (6, 5), (4, 4)])
def test_the_columns_are_those_of_torch(d, r):
    torch.manual_seed(0)
    layer = trained_layer(d, r)
    state = layer.state_dict()
    found = columns(
        state["parametrizations.weight.original"], state["parametrizations.weight.0.base"]
    )
    assert torch.equal(found, layer.weight)
    with torch.no_grad():  # a sign that weight decay shrank is lost, in torch and here
        layer.parametrizations.weight.original.mul_(0.9)
    state = layer.state_dict()
    found = columns(
        state["parametrizations.weight.original"], state["parametrizations.weight.0.base"]
    )
    assert torch.equal(found, layer.weight)


@pytest.mark.parametrize(("d", "r"), [(7, 3), (4, 4)])
def test_torch_makes_the_same_columns_of_a_chart(d, r):
    torch.manual_seed(0)
    layer, wanted = trained_layer(d, r), trained_layer(d, r).weight.detach()
    original, base = chart(wanted)
    layer.load_state_dict(
        {"parametrizations.weight.original": original, "parametrizations.weight.0.base": base}
    )
    torch.testing.assert_close(layer.weight, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(base.mT @ base, torch.eye(d), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("original", "base"), [((3, 4), (3, 3)), ((4, 0), (4, 4)), ((4,), (4, 4)), ((4, 2), (4, 2))]
)
def test_shapes_that_do_not_fit_are_refused(original, base):
    with pytest.raises(ValueError, match="an orthogonal parametrization of shapes"):
        columns(torch.zeros(original), torch.zeros(base))
