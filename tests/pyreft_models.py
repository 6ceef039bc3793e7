"""Tiny models with interventions, and the same edits written out."""

import torch
from torch import Tensor, nn

from reftune import pyreft
from tests.tiny_models import CAUSAL

D = 32
LLAMA = CAUSAL[0]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
GREEDY = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def loreft(seed: int = 0, rank: int = 2, **settings) -> nn.Module:
    torch.manual_seed(seed)
    made = pyreft.LoreftIntervention(embed_dim=D, low_rank_dimension=rank, **settings)
    nn.init.normal_(made.learned_source.weight, std=0.7)
    nn.init.normal_(made.learned_source.bias, std=2)
    return made


def at(layer: int, seed: int = 0, **fields) -> dict:
    return {"layer": layer, "component": "block_output", "intervention": loreft(seed), **fields}


def wrapped(*representations: dict, model: nn.Module | None = None) -> pyreft.ReftModel:
    config = pyreft.ReftConfig(representations=list(representations))
    return pyreft.get_reft_model(model or LLAMA.build(), config).eval()


def where(*places: list) -> dict:
    return {"sources->base": (None, list(places))}


def reference(edits: list[tuple[str, list[list[int]], nn.Module]], ids: Tensor = IDS) -> Tensor:
    """Return logits of the base model with edits of (path, positions of each row, intervention)."""
    model = LLAMA.build()
    for path, rows, one in edits:

        def hook(module, args, output, rows=rows, one=one):
            hidden = (output if isinstance(output, Tensor) else output[0]).clone()
            R = one.rotate_layer.weight.T
            W, b = one.learned_source.weight, one.learned_source.bias
            for row, places in enumerate(rows):
                states = {place: hidden[row, place].clone() for place in places}
                for place, h in states.items():
                    hidden[row, place] = h + R.T @ (W @ h + b - R @ h)
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def run(reft_model: pyreft.ReftModel, ids: Tensor = IDS, **settings) -> Tensor:
    with torch.no_grad():
        return reft_model({"input_ids": ids}, **settings)[1].logits


def continuation(reft_model: pyreft.ReftModel, ids: Tensor = IDS, **settings) -> Tensor:
    _, out = reft_model.generate({"input_ids": ids, "attention_mask": ids * 0 + 1}, **settings)
    return out[:, ids.shape[1] :]
