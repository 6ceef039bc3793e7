"""Training learns as it does with the real pyreft 0.1.0.

With pyreft's own chart of R and plain SGD the losses are the same. With Adam they depend on how the
chart completes R, which pyreft leaves to chance; over random starts they are the same in
distribution.
"""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reftune import pyreft
from tests.pyreft_golden import CASES, GOLDEN, below, build_model

TRAINING = CASES["training"]
WIDTH, RANK = TRAINING["width"], TRAINING["rank"]
CURVES = load_file(GOLDEN / "training.safetensors")
STEPS = (19, 39, 59)  # where losses over random starts are compared
LEVEL = 0.01
# Two samples of ten are told apart at this level if their distribution functions are somewhere that
# far apart: P(D >= 0.8) = 0.0021, P(D >= 0.7) = 0.0123 (Kolmogorov and Smirnov, exact).
FAR_APART = 0.8


def build_reft(kind: str) -> pyreft.ReftModel:
    edit = getattr(pyreft, f"{kind}Intervention")
    representations = [
        {"layer": layer, "intervention": edit(embed_dim=WIDTH, low_rank_dimension=RANK)}
        for layer in TRAINING["layers"]
    ]
    config = pyreft.ReftConfig(representations=representations)
    return pyreft.get_reft_model(build_model("llama"), config)


def train(reft: pyreft.ReftModel, optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
    """Return the losses `(steps,)` of a training on the rows that pyreft had."""
    batch = {k: torch.tensor(v) for k, v in TRAINING["batch"].items() if k != "locations"}
    labels, places = batch.pop("labels"), {"sources->base": (None, TRAINING["batch"]["locations"])}
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = reft(batch, unit_locations=places, labels=labels)[1].loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def take_over(edit: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give an edit pyreft's chart of R and its start."""
    edit.rotate_layer = parametrizations.orthogonal(pyreft.LowRankRotateLayer(WIDTH, RANK))
    chart = edit.rotate_layer.parametrizations.weight
    chart.original.data.copy_(tensors.pop("original"))
    chart[0].base.copy_(tensors.pop("base"))
    for name, value in tensors.items():
        edit.get_parameter(name).data.copy_(value)


@pytest.mark.parametrize("kind", TRAINING["sgd_rates"])
def test_with_the_chart_of_pyreft_and_sgd_the_losses_are_those_of_pyreft(kind):
    reft, expected = build_reft(kind), CURVES[f"sgd/{kind}/losses"]
    for index, edit in enumerate(reft.interventions.values()):
        take_over(edit, below(f"sgd/{kind}/{index}/", CURVES))
    rate = TRAINING["sgd_rates"][kind]
    losses = train(reft, torch.optim.SGD(reft.get_trainable_parameters(), lr=rate), len(expected))
    assert expected[-1] < expected[0] - 1
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=0)


def p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Return how probable means so far apart are, over all divisions of the pooled samples."""
    pooled, size = np.concatenate([first, second]), len(first)
    chosen = np.array(list(itertools.combinations(range(len(pooled)), size)), dtype=np.int8)
    apart = np.abs(2 * pooled[chosen].sum(axis=1) - pooled.sum())
    return float((apart >= abs(first.sum() - second.sum()) - 1e-9).mean())


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the greatest distance between two empirical distribution functions."""
    pooled = np.concatenate([first, second])
    shares = [(sample <= pooled[:, None]).mean(axis=1) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def test_over_random_starts_adam_learns_as_it_does_with_pyreft():
    same, doubled = (CURVES[f"{name}/losses"].numpy() for name in ("adam", "adam_doubled"))
    losses = []
    for start in range(len(same)):
        torch.manual_seed(start)
        reft = build_reft("Loreft")
        optimizer = torch.optim.Adam(reft.get_trainable_parameters(), lr=TRAINING["adam_rate"])
        losses.append(train(reft, optimizer, same.shape[1]).numpy())
    ours = np.stack(losses)
    for step in (0, 9, *STEPS):
        assert p_value(ours[:, step], same[:, step]) > LEVEL, f"step {step}"
        assert largest_gap(ours[:, step], same[:, step]) < FAR_APART, f"step {step}"
    # Ten starts are enough to tell a learning rate from its double.
    for step in STEPS:
        assert p_value(ours[:, step], doubled[:, step]) < LEVEL, f"step {step}"
        assert largest_gap(ours[:, step], doubled[:, step]) >= FAR_APART, f"step {step}"
