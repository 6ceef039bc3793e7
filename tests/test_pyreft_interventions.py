"""pyreft's six interventions against pyreft's formulas, written out for one token."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from reftune import pyreft

D, RANK = 12, 3
ROTATED = [
    pyreft.LoreftIntervention,
    pyreft.ConsreftIntervention,
    pyreft.LobireftIntervention,
    pyreft.DireftIntervention,
]
PROJECTED = [pyreft.NoreftIntervention, pyreft.NodireftIntervention]
SIX = ROTATED + PROJECTED


def build(kind: type, **settings) -> nn.Module:
    torch.manual_seed(0)
    made = kind(embed_dim=D, low_rank_dimension=RANK, **settings)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "rotate_layer" not in name:
                parameter.normal_()
    return made.eval()


def by_hand(made: nn.Module, h: Tensor, rows: list[int]) -> Tensor:
    """The formula of one token `(d,)`, with the given rows of R."""
    kind, f = type(made).__name__.removesuffix("Intervention"), made.act_fn
    if kind in ("Noreft", "Nodireft"):
        R = made.proj_layer.weight
        extra = 0 if made.proj_layer.bias is None else made.proj_layer.bias
    else:
        R, extra = made.rotate_layer.weight.T, 0
    source = made.learned_source
    written = source if isinstance(source, Tensor) else f(source.weight @ h + source.bias)
    moved = {
        "Loreft": lambda: written - R @ h,
        "Noreft": lambda: written - (R @ h + extra),
        "Consreft": lambda: written - R @ h,
        "Lobireft": lambda: written,
        "Direft": lambda: written,
        "Nodireft": lambda: written,
    }[kind]()
    for row in rows:
        h = h + moved[row] * R[row]
    return h


@pytest.mark.parametrize("settings", [{}, {"act_fn": "relu"}, {"add_bias": True}], ids=str)
@pytest.mark.parametrize("kind", SIX, ids=lambda kind: kind.__name__)
def test_the_formula(kind, settings):
    made = build(kind, **settings)
    h = torch.randn(2, 4, D)
    after = made(h)
    for row in range(2):
        for place in range(4):
            expected = by_hand(made, h[row, place], list(range(RANK)))
            torch.testing.assert_close(after[row, place], expected)
    assert (after - h).abs().mean() > 0.1


@pytest.mark.parametrize("kind", SIX, ids=lambda kind: kind.__name__)
def test_subspaces_choose_rows_of_r_for_every_example(kind):
    made = build(kind)
    h = torch.randn(4, 2, D)
    chosen = [[0], [2, 1], [], None]
    after = made(h, None, chosen)
    for row, rows in enumerate(chosen):
        for place in range(2):
            every = list(range(RANK)) if rows is None else rows
            torch.testing.assert_close(after[row, place], by_hand(made, h[row, place], every))
    assert torch.equal(after[2], h[2])


def test_wrong_subspaces_say_what_is_wrong():
    made = build(pyreft.LoreftIntervention)
    with pytest.raises(ValueError, match="expected indices below 3"):
        made(torch.randn(1, 1, D), None, [[3]])
    with pytest.raises(ValueError, match="2 examples in a batch of 1"):
        made(torch.randn(1, 1, D), None, [[0], [1]])


@pytest.mark.parametrize("kind", ROTATED, ids=lambda kind: kind.__name__)
def test_r_stays_orthonormal_in_training(kind):
    made = build(kind).train()
    before = made.rotate_layer.weight.detach().clone()
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        made(torch.randn(2, 3, D)).square().sum().backward()
        optimizer.step()
    after = made.rotate_layer.weight
    torch.testing.assert_close(after.T @ after, torch.eye(RANK))
    assert (after - before).abs().max() > 0.05


@pytest.mark.parametrize("kind", SIX, ids=lambda kind: kind.__name__)
def test_the_matrices_stay_float32_and_the_result_takes_the_dtype_of_the_model(kind):
    made = build(kind, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    h = torch.randn(2, 3, D).bfloat16()
    assert torch.equal(made(h), made(h.float()).bfloat16())


def test_dropout_falls_on_the_whole_state_in_training_alone():
    made = build(pyreft.LoreftIntervention, dropout=0.5)
    h = torch.randn(8, 4, D)
    after = made(h)
    made.train()
    dropped = made(h)
    zero = dropped == 0
    assert 0.3 < zero.float().mean() < 0.7
    torch.testing.assert_close(dropped[~zero], 2 * after[~zero])


def test_wrong_sizes_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"low_rank_dimension=13\): expected"):
        pyreft.LoreftIntervention(embed_dim=D, low_rank_dimension=13)
    with pytest.raises(ValueError, match="embed_dim=None"):
        pyreft.LoreftIntervention(low_rank_dimension=4)


def test_the_state_is_pyrefts_and_comes_back():
    made = build(pyreft.LoreftIntervention)
    state = made.state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == {
        "weight": (RANK, D),
        "bias": (RANK,),
        "rotate_layer": (D, RANK),
    }
    other = pyreft.LoreftIntervention(embed_dim=D, low_rank_dimension=RANK).eval()
    trained = other.rotate_layer.parametrizations.weight.original
    # Newer versions keep their own chart too.
    other.load_state_dict({**state, "rotate_layer_base": torch.eye(D)})
    h = torch.randn(2, 3, D)
    torch.testing.assert_close(other(h), made(h))
    assert other.rotate_layer.parametrizations.weight.original is trained


def test_a_state_of_another_shape_changes_nothing():
    made = build(pyreft.LoreftIntervention)
    before = made.state_dict()
    wide = pyreft.LoreftIntervention(embed_dim=D, low_rank_dimension=2).state_dict()
    torn = {**before, "weight": before["weight"][:, :3]}
    for state in (wide, torn):
        with pytest.raises((ValueError, RuntimeError), match=r"expected|mismatch"):
            made.load_state_dict(state)
        for name, tensor in made.state_dict().items():
            torch.testing.assert_close(tensor, before[name])


def test_a_cast_to_half_precision_leaves_the_matrices_alone():
    made = build(pyreft.NodireftIntervention).to(torch.bfloat16).half()
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in made.double().parameters()} == {torch.float64}


class Scaled(pyreft.LoreftIntervention):
    """A user's subclass with a parameter of its own, set as published code does it."""

    def __init__(self, **kwargs):
        self.tag = "set before super().__init__"
        super().__init__(**kwargs, keep_last_dim=True)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, base, source=None, subspaces=None):
        rotated = self.rotate_layer(base)
        moved = self.act_fn(self.learned_source(base)) - rotated
        output = base + self.scale * torch.matmul(moved, self.rotate_layer.weight.T)
        return self.dropout(output.to(base.dtype))


def test_a_users_subclass_runs_and_keeps_its_own_tensors():
    made = build(Scaled)
    h = torch.randn(2, 3, D)
    assert made(h.bfloat16()).dtype == torch.bfloat16
    other = Scaled(embed_dim=D, low_rank_dimension=RANK).eval()
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other(h), made(h))


def test_torchs_own_chart_can_take_the_place_of_ours():
    made = build(pyreft.LoreftIntervention)
    made.rotate_layer = orthogonal(pyreft.LowRankRotateLayer(D, RANK, init_orth=True))
    h = torch.randn(1, 2, D)
    torch.testing.assert_close(made(h)[0, 0], by_hand(made, h[0, 0], [0, 1, 2]))


def test_an_intervention_of_ones_own_from_the_base_classes():
    class Mine(
        pyreft.SourcelessIntervention,
        pyreft.TrainableIntervention,
        pyreft.DistributedRepresentationIntervention,
    ):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.linear = nn.Linear(self.embed_dim, int(self.embed_dim))

        def forward(self, base, source=None, subspaces=None):
            return self.linear(base)

    mine = Mine(embed_dim=D, device="cpu", anything=None)
    assert mine.trainable
    assert mine.is_source_constant
    assert mine[0] is mine
    assert set(mine.state_dict()) == {
        "embed_dim", "interchange_dim", "linear.weight", "linear.bias"
    }  # fmt: skip
