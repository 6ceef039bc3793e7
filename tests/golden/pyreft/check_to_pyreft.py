"""Does the real pyreft load what `reftune convert --to pyreft` writes, to the same logits?

In an environment with reftune, then in one with pyreft 0.1.0, pyvene 0.1.8, transformers 4.45.1:

    PYTHONPATH=. python tests/golden/pyreft/check_to_pyreft.py write FOLDER
    python tests/golden/pyreft/check_to_pyreft.py check FOLDER

`write` saves a tiny Llama, and for each of the six classes, tied and untied, an adapter of reftune
converted to pyreft, with its logits. `check` loads each in two ways and compares:

    load    `ReftModel.load`. It builds every edit in bfloat16, so W and b of these adapters are
            representable in it, and the edits are made float32 afterwards. It fails for NoReFT and
            DiReFT (`Noreft`, `Nodireft`), to which it does not pass `add_bias`.
    states  a model built with `dtype=torch.float32`, and `load_state_dict` for each file.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
}
LAYERS, RANK, IDS = [1, 3], 4, [[5, 17, 30, 9, 44, 8, 21, 60, 13]]
FIRST, LAST = [0, 1], [6, 7, 8]  # f2+l3 of nine tokens
NAMES = {
    "loreft": "LoreftIntervention",
    "noreft": "NoreftIntervention",
    "direft": "NodireftIntervention",
    "direft_orthonormal": "DireftIntervention",
    "consreft": "ConsreftIntervention",
    "lobireft": "LobireftIntervention",
}
UNLOADABLE = ("noreft", "direft")
TOLERANCE, CHANGE = 1e-5, 0.1


def llama(folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    model.load_state_dict(load_file(folder / "llama.safetensors"))
    return model


def write(folder: Path) -> None:
    from peft import get_peft_model

    from reftune import ReftConfig
    from reftune.attached import layers_of
    from reftune.pyreft.conversion.convert import to_pyreft

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    save_file({k: v.clone() for k, v in model.state_dict().items()}, folder / "llama.safetensors")
    with torch.no_grad():
        expected = {"base": model(torch.tensor(IDS)).logits}
    for name in NAMES:
        for tied in (True, False):
            config = ReftConfig(
                layers=LAYERS, r=RANK, intervention=name, positions="f2+l3", tied=tied
            )
            adapted = get_peft_model(llama(folder), config).eval()
            with torch.no_grad():
                for layer in layers_of(adapted):
                    for parameter in layer.reft_edits["default"].parameters():
                        parameter.normal_()
                        parameter.copy_(parameter.bfloat16())
                case = f"{name}-{'tied' if tied else 'untied'}"
                expected[case] = adapted(torch.tensor(IDS)).logits
            adapted.save_pretrained(str(folder / "adapters" / case))
            to_pyreft(folder / "adapters" / case, folder / case)
    save_file(expected, folder / "expected.safetensors")


def check(folder: Path) -> None:
    expected = load_file(folder / "expected.safetensors")
    wrong = False
    for name, kind in NAMES.items():
        for case in (f"{name}-tied", f"{name}-untied"):
            for way in (load, states):
                try:
                    model = way(folder / case, llama(folder), kind)
                except KeyError as error:
                    wrong |= name not in UNLOADABLE or way is not load
                    say(f"{case:26} {way.__name__:6}  pyreft fails: KeyError {error}")
                    continue
                error = (run(model, case) - expected[case]).abs().max().item()
                change = (expected[case] - expected["base"]).abs().max().item()
                wrong |= not (error < TOLERANCE and change > CHANGE)
                say(f"{case:26} {way.__name__:6}  off by {error:.1e}, edits change {change:.1f}")
    sys.exit(wrong)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def load(folder: Path, model: LlamaForCausalLM, kind: str):
    import pyreft

    reft = pyreft.ReftModel.load(str(folder), model)
    reft.interventions.float()
    return reft


def states(folder: Path, model: LlamaForCausalLM, kind: str):
    import pyreft
    from pyreft import interventions

    config = json.loads((folder / "config.json").read_text())
    arguments = {"embed_dim": 16, "low_rank_dimension": RANK, "add_bias": False}
    representations = [
        {
            "layer": layer,
            "component": component,
            "low_rank_dimension": rank,
            "intervention": getattr(interventions, kind)(**arguments, dtype=torch.float32),
        }
        for layer, component, _, _, rank, *_ in config["representations"]
    ]
    reft = pyreft.get_reft_model(model, pyreft.ReftConfig(representations=representations))
    assert list(reft.interventions) == config["sorted_keys"]
    for key, intervention in reft.interventions.items():
        state = torch.load(folder / f"intkey_{key}.bin", weights_only=True)
        intervention.load_state_dict(state)
    return reft


def run(reft, case: str) -> torch.Tensor:
    tied = case.endswith("-tied")
    places = [FIRST + LAST] * 2 if tied else [FIRST] * 2 + [LAST] * 2
    with torch.no_grad():
        _, edited = reft(
            {"input_ids": torch.tensor(IDS)},
            unit_locations={"sources->base": (None, [[place] for place in places])},
        )
    return edited.logits


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
