"""A training step that computes only what an edit can change has the loss and gradients of all."""

import copy
import gc

import pytest
import torch
from torch import nn

from reftune import ReftConfig
from reftune.labelled_loss import logits_everywhere
from reftune.reuse import reuse_within, without_reuse
from reftune.reuse.frozen import Frozen
from tests.adapters import shake
from tests.labelled_steps import left_on, step, trained
from tests.reused_steps import both, check_equal, long_batch, reused, still
from tests.tiny_models import CAUSAL

BELOW = {"layers": [1], "positions": "f1+l2"}  # nothing of the prompt is the same above layer 1
PREFIX = {"layers": [0, 2], "positions": "l2", "component": "attention_output"}
TOGETHER = {"layers": [1, 2], "positions": "l3", "decode": 1}
CASES = {"below": BELOW, "prefix": PREFIX, "together": TOGETHER}
GPT2 = next(architecture for architecture in CAUSAL if architecture.name == "gpt2")


def frozen_of(model: nn.Module) -> Frozen:
    frozen = reused(model).frozen
    assert frozen is not None
    return frozen


def computed(model: nn.Module, reuse: bool = True, **inputs) -> list[tuple[int, ...]]:
    """Return the shapes of what the attention of each layer gets in one step."""
    shapes: list[tuple[int, ...]] = []
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: shapes.append(tuple(kwargs["hidden_states"].shape[:2])),
            with_kwargs=True,
        )
        for layer in model.get_base_model().model.layers
    ]
    step(model, reuse=reuse, **inputs)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("architecture", CAUSAL[:-1], ids=lambda a: a.name)
def test_loss_and_gradients_are_those_without_reuse(architecture, case, side):
    model = still(architecture, **CASES[case])
    plain, ours = both(model, **long_batch(side))
    check_equal(ours, plain)
    # Models that count positions from the column, padding or not, are left alone.
    columns = architecture.needs_position_ids or architecture.name == "opt"
    assert len(frozen_of(model).store) == (0 if side == "left" and columns else 3)


@pytest.mark.parametrize(
    ("case", "shapes"),
    [("below", [(3, 22)]), ("prefix", 3 * [(3, 5)]), ("together", [(3, 6)])],
)
def test_only_what_can_change_is_computed(case, shapes):
    model = trained(**CASES[case])
    step(model, reuse=True, **long_batch())
    assert computed(model, **long_batch()) == shapes
    assert computed(model, reuse=False, **long_batch()) == 3 * [(3, 22)]


def test_new_rows_are_computed_once_and_rows_without_room_at_every_step():
    model = trained(**TOGETHER)
    step(model, reuse=True, **long_batch())
    with reuse_within(memory=0):
        step(model, reuse=True, **long_batch())
        # Two layers for all tokens, the third for the frozen ones, and then what can change.
        assert computed(model, **long_batch()) == [(3, 22), (3, 22), (3, 17), (3, 6)]


def test_rows_kept_in_files_are_the_same(tmp_path):
    model = trained(**TOGETHER)
    plain, _ = both(model, **long_batch())
    with reuse_within(memory=0, disk=1 << 20, folder=tmp_path):
        _, ours = both(model, **long_batch())
        check_equal(ours, plain)
        assert len(list(tmp_path.rglob("*.safetensors"))) == 3
        assert computed(model, **long_batch()) == [(3, 6)]
    del model, plain, ours
    gc.collect()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_files_that_cannot_be_written_are_a_warning(caplog, tmp_path):
    model = trained(**TOGETHER)
    with reuse_within(memory=0, disk=1 << 20, folder=tmp_path / "missing"):
        plain, ours = both(model, **long_batch())
    check_equal(ours, plain)
    assert "nothing more is kept" in caplog.text


def test_training_ends_with_the_same_adapter():
    def after(off: bool) -> dict[str, torch.Tensor]:
        model = trained(**TOGETHER, dropout=0.2)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        torch.manual_seed(3)
        for turn in range(6):
            rows = {name: value[turn % 2 :] for name, value in long_batch().items()}
            if off:
                with without_reuse():
                    model(**rows).loss.backward()
            else:
                model(**rows).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    torch.testing.assert_close(after(False), after(True), atol=1e-4, rtol=1e-3)


def test_a_changed_base_model_is_noticed():
    model = trained(**TOGETHER)
    both(model, **long_batch())
    with torch.no_grad():
        model.get_base_model().model.layers[0].mlp.down_proj.weight.mul_(3)
    plain, ours = both(model, **long_batch())
    check_equal(ours, plain)


def test_another_adapter_edits_elsewhere():
    model = trained(**TOGETHER)
    step(model, reuse=True, **long_batch())
    model.add_adapter("other", ReftConfig(task_type="CAUSAL_LM", layers=[0], positions="l5"))
    shake(model, "other")
    model.set_adapter("other")
    plain, ours = both(model, **long_batch())
    check_equal(ours, plain)


def test_logits_are_those_of_all_tokens():
    model = trained(**TOGETHER)
    step(model, reuse=True, **long_batch())
    ours = step(model, read=True, reuse=True, **long_batch())
    plain = step(model, read=True, everywhere=True, **long_batch())
    with logits_everywhere():
        logits = model(**long_batch()).logits
    check_equal(ours, plain)
    torch.testing.assert_close(model(**long_batch()).logits, logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_with_gradient_checkpointing_only_layers_are_left_out(case, reentrant):
    model = trained(**CASES[case])
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    plain, ours = both(model, **long_batch())
    check_equal(ours, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    model = trained(**TOGETHER)
    with torch.autocast("cpu", dtype=dtype):
        plain, ours = both(model, **long_batch())
    check_equal(ours, plain, atol=2e-2)
    assert len(frozen_of(model).store) == 3


def test_an_adapter_per_row():
    model = trained(**TOGETHER)
    model.add_adapter("two", ReftConfig(task_type="CAUSAL_LM", layers=[2], positions="l1"))
    shake(model, "two", seed=5)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".reft_edits." in name)
    given = long_batch() | {"adapter_names": ["two", "default", "two"]}
    plain, ours = both(model, **given)
    check_equal(ours, plain)
    assert len(ours.gradients) == 9
    assert computed(model, **given) == [(3, 6)]


def test_the_model_is_left_as_it_was():
    model = trained(**TOGETHER)
    before = left_on(model)
    step(model, reuse=True, **long_batch())
    assert left_on(model) == before
    model.unload()
    assert not model.get_base_model()._forward_pre_hooks


def test_an_interrupted_step_leaves_no_layer_out(monkeypatch):
    model = trained(**TOGETHER)
    plain, _ = both(model, **long_batch())
    head = model.get_base_model().lm_head
    monkeypatch.setattr(head, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**long_batch())
    monkeypatch.undo()
    model.eval()
    with torch.no_grad():
        loss = model(**long_batch()).loss
    torch.testing.assert_close(loss, plain.loss, atol=1e-5, rtol=1e-5)


def test_a_copy_begins_anew():
    model = trained(**TOGETHER)
    step(model, reuse=True, **long_batch())
    other = copy.deepcopy(model)
    assert reused(other) is not reused(model)
    plain, ours = both(other, **long_batch())
    check_equal(ours, plain)
