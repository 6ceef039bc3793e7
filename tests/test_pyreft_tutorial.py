"""The tutorial that pyreft's users know, as a notebook, on the bundled model."""

import json

import pytest

from reftune.assets import EMOJI_TRAIN, TINY_CHAT
from reftune.cli import main
from reftune.data import load_rows
from reftune.emoji_text import is_emoji_only
from reftune.pyreft.scripts.installing import uninstall

SET_UP = f"""\
try:
    import pyreft
except ModuleNotFoundError:
    !pip install git+https://github.com/stanfordnlp/pyreft.git
import torch, transformers, pyreft

device = "cpu"
prompt_no_input_template = \"\"\"<|user|>
%s<|end|>
<|assistant|>
\"\"\"
model_name_or_path = {str(TINY_CHAT)!r}
model = transformers.AutoModelForCausalLM.from_pretrained(
    model_name_or_path, torch_dtype=torch.float32, device_map=device)
tokenizer = transformers.AutoTokenizer.from_pretrained(
    model_name_or_path, model_max_length=2048, padding_side="right", use_fast=False)
"""
CONFIG = """\
reft_config = pyreft.ReftConfig(representations={
    "layer": 1, "component": "block_output",
    "low_rank_dimension": 4,
    "intervention": pyreft.LoreftIntervention(
        embed_dim=model.config.hidden_size, low_rank_dimension=4)})
reft_model = pyreft.get_reft_model(model, reft_config)
reft_model.set_device(device)
reft_model.print_trainable_parameters()
"""
TRAIN = """\
data_module = pyreft.make_last_position_supervised_data_module(
    tokenizer, model, [prompt_no_input_template % e[0] for e in training_examples],
    [e[1] for e in training_examples])
training_args = transformers.TrainingArguments(
    num_train_epochs=100.0, output_dir="./tmp", per_device_train_batch_size=10,
    learning_rate=4e-3, logging_steps=40, report_to=[], evaluation_strategy="no")
trainer = pyreft.ReftTrainerForCausalLM(
    model=reft_model, tokenizer=tokenizer, args=training_args, **data_module)
_ = trainer.train()
"""
CHAT = """\
def answer(reft_model, instruction):
    prompt = prompt_no_input_template % instruction
    prompt = tokenizer(prompt, return_tensors="pt").to(device)
    base_unit_location = prompt["input_ids"].shape[-1] - 1  # last position
    original, reft_response = reft_model.generate(
        prompt, unit_locations={"sources->base": (None, [[[base_unit_location]]])},
        intervene_on_prompt=True, max_new_tokens=24, do_sample=False,
        output_original_output=True,
        eos_token_id=tokenizer.eos_token_id, early_stopping=True)
    width = prompt["input_ids"].shape[-1]
    return [tokenizer.decode(ids[0, width:], skip_special_tokens=True).strip()
            for ids in (original, reft_response)]

def answers(reft_model):
    return [answer(reft_model, e[0]) for e in training_examples]

trained = answers(reft_model)
reft_model.set_device("cpu")  # send back to cpu before saving.
reft_model.save(save_directory="./reft_to_share")
loaded = answers(pyreft.ReftModel.load("./reft_to_share", model))
import json
with open("answers.json", "w") as file:
    json.dump({"trained": trained, "loaded": loaded, "log": trainer.state.log_history}, file)
"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the moved arguments, and of peft's
def test_the_tutorial_runs_as_a_notebook_and_learns_its_examples(tmp_path, capfd):
    rows = [[row["prompt"], row["completion"]] for row in load_rows(EMOJI_TRAIN)]
    sources = [SET_UP, CONFIG, f"training_examples = {rows!r}", TRAIN, CHAT]
    cells = [{"cell_type": "code", "source": source.splitlines(True)} for source in sources]
    notebook = tmp_path / "main_demo.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "nbformat": 4}), encoding="utf-8")
    try:
        assert main(["pyreft", str(notebook)]) == 0
    finally:
        uninstall()
    out, error = capfd.readouterr()
    assert "trainable intervention params: 1,540 || trainable model params: 0\n" in out
    assert "skipped 1 line that only IPython runs" in error
    found = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    losses = [entry["loss"] for entry in found["log"] if "loss" in entry]
    assert float(losses[-1]) < 0.75 * 5.94  # of the model without an edit
    plain, edited = zip(*found["trained"], strict=True)
    assert sum(map(is_emoji_only, plain)) <= 5
    assert sum(map(is_emoji_only, edited)) >= 9
    assert found["loaded"] == found["trained"]
