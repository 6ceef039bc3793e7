"""Run the real pyreft on `cases.py` and write down what came out. Needs pyreft's own environment:

    python3.11 -m venv pyreft-env
    pyreft-env/bin/pip install torch==2.13.0 transformers==4.45.1 accelerate==1.1.1 \\
        datasets==3.0.2 huggingface-hub==0.25.2 tokenizers==0.20.3 numpy==1.26.4 \\
        safetensors==0.8.0 evaluate==0.4.6 matplotlib seaborn plotnine sentencepiece protobuf
    pyreft-env/bin/pip install --no-deps pyreft==0.1.0 pyvene==0.1.8
    OMP_NUM_THREADS=1 pyreft-env/bin/python tests/golden/pyreft/make_golden.py

Every case is seeded by its name. Beside this file it writes:

    cases.json             models, inputs, cases, generated tokens
    models.safetensors     the weights of the models, `<model>.<tensor>`
    forward.safetensors    `base/<model>/<inputs>`, `<case>/logits`, `<case>/loss`, and of every
                           edit `<case>/<edit>/R` (width, rank) and its other tensors by names
    checkpoints/<case>     folders that pyreft's own methods saved
    training.safetensors   see `make_training.py`

Of the logits, every fourth is kept where the attention mask is 1, `(tokens, vocabulary / 4)`;
those of a classifier are kept whole.
"""

import copy
import json
import shutil
from pathlib import Path

import pyreft
import torch
from cases import CHECKPOINTS, FORWARD, GENERATION
from make_training import training
from models import INPUTS, MODELS, build_inputs, build_models, seed
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
Tensors = dict[str, Tensor]


def resolve(case: dict) -> dict:
    """Return the case with `unit_locations` as they are passed to pyreft."""
    asked = case["unit_locations"]
    if asked is None or "positions" not in asked:
        return case
    shape, many = INPUTS[case["inputs"]], isinstance(case["representations"], list)
    count = len(case["representations"]) if many else 1
    rows = [
        pyreft.get_intervention_locations(last_position=prompt, num_interventions=count, **asked)
        for prompt in shape["prompts"]
    ]
    shift = int(shape.get("spare", False))
    places = [[[place + shift for place in row[i]] for row in rows] for i in range(count)]
    asked = {"asked": asked, "prompts": shape["prompts"], "shift": shift}
    return {**case, **asked, "unit_locations": {"sources->base": [None, places]}}


def build_reft(case: dict, model: torch.nn.Module) -> pyreft.ReftModel:
    seed(case["name"])
    representations, many = case["representations"], isinstance(case["representations"], list)
    built = []
    for described in representations if many else [representations]:
        known = {k: v for k, v in described.items() if k not in ("kind", "arguments")}
        arguments = dict(described["arguments"])
        if "dtype" in arguments:
            arguments["dtype"] = getattr(torch, arguments["dtype"])
        intervention = getattr(pyreft, described["kind"])(**arguments)
        for name, parameter in intervention.named_parameters():
            if "rotate_layer" not in name:
                parameter.data.normal_(0, 0.5 if parameter.dim() > 1 else 2.0)
        built.append({**known, "intervention": intervention})
    config = pyreft.ReftConfig(representations=built if many else built[0])
    return pyreft.get_reft_model(model, config)


def weights(case: dict, reft: pyreft.ReftModel) -> Tensors:
    tensors = {}
    for index, edit in enumerate(reft.interventions.values()):
        for name, parameter in edit.named_parameters():
            if "rotate_layer" not in name:
                tensors[f"{case['name']}/{index}/{name}"] = parameter.detach().clone()
        if hasattr(edit, "rotate_layer"):
            tensors[f"{case['name']}/{index}/R"] = edit.rotate_layer.weight.detach().clone()
    return tensors


def unit_locations(case: dict) -> dict | None:
    """Return what JSON made a list as the pair that it was."""
    located = case["unit_locations"]
    pair = isinstance(located, dict) and isinstance(located.get("sources->base"), list)
    return {"sources->base": tuple(located["sources->base"])} if pair else located


def kept(logits: Tensor, mask: Tensor) -> Tensor:
    # Every fourth logit: 16 of them, as many as a hidden state is wide, still tell it.
    chosen = logits[mask.bool()][:, ::4] if logits.dim() == 3 else logits
    return chosen.detach().float().clone()


class Golden:
    """The models, the inputs, and what has come out so far."""

    def __init__(self):
        self.models, self.inputs, self.tensors = build_models(), {}, {}
        for name, model in self.models.items():
            for inputs, shape in INPUTS.items():
                seed(inputs)
                rows = build_inputs(shape, model.config.pad_token_id)
                if name == "roberta":
                    rows["labels"] = [index % 3 for index in range(len(rows["labels"]))]
                self.inputs[f"{name}/{inputs}"] = rows

    def batch(self, case: dict) -> tuple[dict[str, Tensor], Tensor]:
        rows = self.inputs[f"{case['model']}/{case['inputs']}"]
        tensors = {name: torch.tensor(row) for name, row in rows.items()}
        labels = tensors.pop("labels")
        return tensors, labels

    def forward(self, case: dict) -> dict:
        case = resolve(case)
        reft = build_reft(case, self.models[case["model"]])
        self.tensors |= weights(case, reft)
        batch, labels = self.batch(case)
        call = {name: value for name, value in case["call"].items() if name != "labels"}
        if "labels" in case["call"]:
            call["labels"] = labels
        with torch.no_grad():
            out = reft(batch, unit_locations=unit_locations(case), **call)
        original, edited = out.to_tuple() if call.get("return_dict") else out
        if call.get("output_original_output"):
            torch.testing.assert_close(original.logits, self.models[case["model"]](**batch).logits)
        if "labels" in call:
            self.tensors[f"{case['name']}/loss"] = edited.loss.detach().clone()
        self.keep(case, edited.logits)
        return case

    def keep(self, case: dict, logits: Tensor) -> None:
        """Keep the logits of a case and those of the model without edits, if they differ."""
        batch, _ = self.batch(case)
        with torch.no_grad():
            base = kept(self.models[case["model"]](**batch).logits, batch["attention_mask"])
        logits = kept(logits, batch["attention_mask"])
        change = (logits - base).abs().max()
        if change < 0.1:
            raise AssertionError(f"{case['name']} changes the logits by no more than {change}")
        self.tensors[f"base/{case['model']}/{case['inputs']}"] = base
        self.tensors[f"{case['name']}/logits"] = logits

    def generate(self, case: dict) -> dict:
        case = resolve(case)
        model = self.models[case["model"]]
        reft = build_reft(case, model)
        self.tensors |= {f"generation/{name}": value for name, value in weights(case, reft).items()}
        batch, _ = self.batch(case)
        original, edited = reft.generate(batch, unit_locations=unit_locations(case), **case["call"])
        call = {k: v for k, v in case["call"].items() if k in ("max_new_tokens", "do_sample")}
        base = model.generate(**batch, **call)
        if case["call"].get("output_original_output"):
            torch.testing.assert_close(original, base)
        if torch.equal(edited, base):
            raise AssertionError(f"{case['name']} generates what the model alone does")
        return {**case, "tokens": edited.tolist(), "base_tokens": base.tolist()}

    def checkpoint(self, case: dict) -> dict:
        """Save a folder, after some training so that no tensor is what it was at the start."""
        case, half = resolve(case), case["name"] == "bfloat16"
        model = copy.deepcopy(self.models[case["model"]])
        reft, (batch, labels) = build_reft(case, model), self.batch(case)
        model.bfloat16() if half else model.float()
        if case["name"] == "trainer_classifier":
            model.classifier.requires_grad_(True)
        optimizer = torch.optim.SGD(reft.get_trainable_parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            reft(batch, unit_locations=unit_locations(case), labels=labels)[1].loss.backward()
            optimizer.step()
        folder = HERE / "checkpoints" / case["name"]
        if case["name"].startswith("trainer"):
            reft.save_intervention(str(folder / "intervenable_model"))
        else:
            # What pyreft's own load makes of it is no measure: it reads every matrix as bfloat16,
            # and refuses those with a `proj_layer`.
            reft.save(str(folder))
        with torch.no_grad():
            edited = reft(batch, unit_locations=unit_locations(case))[1].logits
            if half:
                name = "checkpoints/bfloat16/logits_in_bfloat16"
                self.tensors[name] = kept(edited, batch["attention_mask"])
                # The same edits of the model in float32, where nothing else is rounded.
                for intervention in reft.interventions.values():
                    intervention.float()
                reft = pyreft.ReftModel(reft.config, self.models[case["model"]])
                edited = reft(batch, unit_locations=unit_locations(case))[1].logits
        self.keep({**case, "name": f"checkpoints/{case['name']}"}, edited)
        return case


def write_json(path: Path, content: dict) -> None:
    """Write one case a line, so that a change of one is a change of one line."""
    parts = []
    for name, value in content.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(item) for item in value)
            parts.append(f" {json.dumps(name)}: [\n{lines}\n ]")
        else:
            lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(HERE / "checkpoints", ignore_errors=True)
    golden = Golden()
    forward = [golden.forward(case) for case in FORWARD]
    generation = [golden.generate(case) for case in GENERATION]
    checkpoints = [golden.checkpoint(case) for case in CHECKPOINTS]
    state = {f"{n}.{k}": v for n, m in golden.models.items() for k, v in m.state_dict().items()}
    curves, trained = training(golden.models["llama"])
    save_file(state, HERE / "models.safetensors")
    save_file(golden.tensors, HERE / "forward.safetensors")
    save_file(curves, HERE / "training.safetensors")
    content = {"models": MODELS, "inputs": golden.inputs, "forward": forward}
    content |= {"generation": generation, "checkpoints": checkpoints, "training": trained}
    write_json(HERE / "cases.json", content)


if __name__ == "__main__":
    main()
