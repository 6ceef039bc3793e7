"""Train the real pyreft, ten rows at a time; a part of `make_golden.py`.

`training.safetensors`:

    sgd/<class>/losses (50,)     with plain SGD, from a start that is stored too: for each of the
    sgd/<class>/<edit>/...       two edits the chart's `original` (width, rank) and `base` (width,
                                 width), and the other parameters by their names
    adam/losses (10, 60)         LoReFT with Adam, from ten random starts of pyreft
    adam_doubled/losses          the same at twice the learning rate
"""

import pyreft
import torch
from torch import Tensor, nn

LAYERS, RANK, WIDTH = (1, 3), 4, 16
PROMPTS, ANSWERS = (3, 4, 5, 6, 3, 4, 5, 6, 4, 5), (2, 1, 2, 1, 1, 2, 1, 1, 2, 1)
# From this start, at these rates, an error of 1e-6 in a bias stays one of 1e-6 in all 50 losses. At
# twice the rates it can grow to 0.1, whoever computes them.
SGD_START, SGD_RATES = 2, {"Loreft": 0.04, "Consreft": 0.05, "Direft": 0.1}
SGD_STEPS, ADAM_RATE, ADAM_STEPS, SEEDS = 50, 4e-3, 60, 10


def rows() -> dict[str, list]:
    """Return ten rows, padded on the right, and where their last prompt tokens are."""
    torch.manual_seed(0)
    width = max(p + a for p, a in zip(PROMPTS, ANSWERS, strict=True))
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = torch.randint(3, 64, (prompt + answer,)).tolist()
        empty = width - len(ids)
        batch["input_ids"].append(ids + [0] * empty)
        batch["attention_mask"].append([1] * len(ids) + [0] * empty)
        batch["labels"].append([-100] * prompt + ids[prompt:] + [-100] * empty)
    locations = [
        pyreft.get_intervention_locations(last_position=p, positions="l1", num_interventions=2)
        for p in PROMPTS
    ]
    return {**batch, "locations": [[row[i] for row in locations] for i in range(len(LAYERS))]}


def build(kind: str, model: nn.Module, seed: int) -> pyreft.ReftModel:
    torch.manual_seed(seed)
    edit = getattr(pyreft, f"{kind}Intervention")
    arguments = {"embed_dim": WIDTH, "low_rank_dimension": RANK, "dtype": torch.float32}
    representations = [
        {"layer": layer, "component": "block_output", "intervention": edit(**arguments)}
        for layer in LAYERS
    ]
    return pyreft.get_reft_model(model, pyreft.ReftConfig(representations=representations))


def losses(reft: pyreft.ReftModel, batch: dict, optimizer, steps: int) -> Tensor:
    tensors = {name: torch.tensor(values) for name, values in batch.items() if name != "locations"}
    labels, curve = tensors.pop("labels"), []
    for _ in range(steps):
        optimizer.zero_grad()
        places = {"sources->base": (None, batch["locations"])}
        loss = reft(tensors, unit_locations=places, labels=labels)[1].loss
        loss.backward()
        optimizer.step()
        curve.append(loss.detach())
    return torch.stack(curve)


def training(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """Return the curves and the starts, and what a test needs to know to repeat them."""
    batch, tensors = rows(), {}
    for kind, rate in SGD_RATES.items():
        reft = build(kind, model, seed=SGD_START)
        for index, edit in enumerate(reft.interventions.values()):
            for name, value in edit.named_parameters():
                if "rotate_layer" not in name:
                    tensors[f"sgd/{kind}/{index}/{name}"] = value.detach().clone()
            chart = edit.rotate_layer.parametrizations.weight
            tensors[f"sgd/{kind}/{index}/original"] = chart.original.detach().clone()
            tensors[f"sgd/{kind}/{index}/base"] = chart[0].base.contiguous().clone()
        optimizer = torch.optim.SGD(reft.get_trainable_parameters(), lr=rate)
        tensors[f"sgd/{kind}/losses"] = losses(reft, batch, optimizer, SGD_STEPS)
    for name, rate in (("adam", ADAM_RATE), ("adam_doubled", 2 * ADAM_RATE)):
        curves = []
        for seed in range(SEEDS):
            reft = build("Loreft", model, seed)
            optimizer = torch.optim.Adam(reft.get_trainable_parameters(), lr=rate)
            curves.append(losses(reft, batch, optimizer, ADAM_STEPS))
        tensors[f"{name}/losses"] = torch.stack(curves)
    known = {"layers": list(LAYERS), "rank": RANK, "width": WIDTH, "sgd_rates": SGD_RATES}
    return tensors, {**known, "adam_rate": ADAM_RATE, "batch": batch}
