"""What the real pyreft computed, and ours built the same way; see `tests/golden/pyreft`."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from reftune import pyreft

GOLDEN = Path(__file__).parent / "golden" / "pyreft"
CHECKPOINTS = GOLDEN / "checkpoints"
CASES = json.loads((GOLDEN / "cases.json").read_text())
WEIGHTS = load_file(GOLDEN / "models.safetensors")
TENSORS = load_file(GOLDEN / "forward.safetensors")
# The edits of every case change some logit by this at least: by ten thousand tolerances.
CHANGE, TOLERANCE = 0.1, 1e-5


def cases(group: str, only=lambda case: True) -> pytest.MarkDecorator:
    """Run a test with the cases of a group, each by its name."""
    chosen = [case for case in CASES[group] if only(case)]
    return pytest.mark.parametrize("case", chosen, ids=[case["name"] for case in chosen])


def build_model(name: str) -> transformers.PreTrainedModel:
    """Return the model that pyreft had."""
    how, own = CASES["models"][name], f"{name}."
    config = getattr(transformers, how["config"])(**how["arguments"])
    model = getattr(transformers, how["model"])(config).eval()
    model.load_state_dict({k.removeprefix(own): v for k, v in WEIGHTS.items() if k.startswith(own)})
    return model


def build_reft(case: dict, model: nn.Module, stored: str | None = None) -> pyreft.ReftModel:
    """Return ours, with the matrices under the name `stored` if there is one."""
    given = case["representations"]
    representations = [
        {
            **{k: v for k, v in described.items() if k not in ("kind", "arguments")},
            "intervention": build_intervention(described["kind"], described["arguments"]),
        }
        for described in (given if isinstance(given, list) else [given])
    ]
    config = pyreft.ReftConfig(
        representations=representations if isinstance(given, list) else representations[0]
    )
    reft = pyreft.get_reft_model(model, config)
    if stored is not None:
        for index, edit in enumerate(reft.interventions.values()):
            fill(edit, below(f"{stored}/{index}/", TENSORS))
    return reft


def build_intervention(kind: str, arguments: dict) -> nn.Module:
    return getattr(pyreft, kind)(**arguments | {"dtype": getattr(torch, arguments["dtype"])})


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def fill(edit: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give an edit pyreft's matrices, every one of its own."""
    rotation = {name for name, _ in edit.named_parameters() if name.startswith("rotate_layer")}
    own = {name for name, _ in edit.named_parameters()} - rotation
    assert own | ({"R"} if rotation else set()) == set(tensors)
    for name, value in tensors.items():
        if name == "R":
            edit.set_rotation(value)
        else:
            edit.get_parameter(name).data.copy_(value)


def batch_of(case: dict) -> tuple[dict[str, Tensor], Tensor]:
    """Return the inputs of a case, and its labels."""
    rows = CASES["inputs"][f"{case['model']}/{case['inputs']}"]
    batch = {name: torch.tensor(values) for name, values in rows.items()}
    labels = batch.pop("labels")
    return batch, labels


def locations_of(case: dict) -> dict | None:
    """Return `unit_locations` with the pair that JSON made a list of."""
    located = case["unit_locations"]
    pair = isinstance(located, dict) and isinstance(located.get("sources->base"), list)
    return {"sources->base": tuple(located["sources->base"])} if pair else located


def kept(logits: Tensor, mask: Tensor) -> Tensor:
    """Return those of the logits that are stored: every fourth, where the attention mask is 1."""
    return logits[mask.bool()][:, ::4] if logits.dim() == 3 else logits


def assert_logits(case: dict, logits: Tensor, name: str) -> None:
    """Hold logits against those of pyreft, which are far from those without edits."""
    mask = batch_of(case)[0]["attention_mask"]
    expected = TENSORS[f"{name}/logits"]
    unedited = TENSORS[f"base/{case['model']}/{case['inputs']}"]
    assert (expected - unedited).abs().max() > CHANGE
    torch.testing.assert_close(kept(logits, mask), expected, atol=TOLERANCE, rtol=TOLERANCE)
