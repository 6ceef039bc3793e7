"""What a training step needs upon a base in 4 bits: LoReFT and QLoRA.

Run `python -m benchmarks.quantized > docs/benchmarks/quantized.md`; it prints the page. Needs
`reftune[quantized]` and Linux. The model is drawn, because memory depends on shapes alone; every
row is measured in a process of its own. No times are given: those of a CPU say nothing of a GPU.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from benchmarks.worker.memory import allocated, peak
from reftune import ReftConfig
from reftune.labelled_loss import logits_everywhere

SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
}
BATCH, PROMPT, LENGTH = 2, 64, 128
CAUSAL = {"task_type": "CAUSAL_LM"}
METHODS = {
    "LoRA r=16, all linear layers": LoraConfig(r=16, target_modules="all-linear", **CAUSAL),
    "LoReFT r=4, f7+l7, all layers": ReftConfig(r=4, positions="f7+l7", **CAUSAL),
    "the same, logits of all tokens": ReftConfig(r=4, positions="f7+l7", **CAUSAL),
}
PAGE = """# Quantized, measured

<!-- written by `python -m benchmarks.quantized` -->

A drawn Llama of {size:.0f} M parameters, a training step of {batch} rows of {length} tokens, the
first {prompt} of them prompt, AdamW, no checkpointing. The base is in NF4, quantized twice, its
embeddings and head in bfloat16. MB are 10^6 bytes of the process: what loading adds to it,
libraries that come along included, and the peak of a step above that.

| trained | parameters | model, MB | step, MB |
|---|---|---|---|
{rows}

{machine} CPU, 1 thread, {versions}.

The LoRA is QLoRA's. *Logits of all tokens* is without what reftune saves at the head in any
training ([Speed and memory](../speed.md)). A step's memory has the gradients and the states of the
optimizer, 12 bytes per trained parameter with it, and what layers keep for the backward pass.
"""


def load_base(folder: str) -> Any:
    """Load the model in 4 bits."""
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": "cpu"}
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bits, **options)


def measure(folder: str, method: str) -> dict[str, int]:
    """Return the bytes of the model, of a step above it, and the trained parameters."""
    torch.set_num_threads(1)
    before = allocated("cpu")
    model = get_peft_model(load_base(folder), METHODS[method]).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    ids = torch.randint(SHAPE["vocab_size"], (BATCH, LENGTH))
    labels = ids.clone()
    labels[:, :PROMPT] = -100

    def step(begin: int = 0) -> None:
        model(input_ids=ids[:, begin:], labels=labels[:, begin:]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    at_rest = allocated("cpu")
    with logits_everywhere() if "all tokens" in method else nullcontext():
        step(PROMPT - 4)  # a short one: the optimizer makes its states, libraries their buffers
        most = peak("cpu", step)
    parameters = sum(parameter.numel() for parameter in trained)
    return {"parameters": parameters, "model": at_rest - before, "step": most - at_rest}


def main() -> None:
    """Measure every row in a process of its own, and print the page."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
        return
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16)
    rows = []
    # Freed memory goes back to the system at once, so that a peak is that of the tensors.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for method in METHODS:
            command = [sys.executable, "-m", "benchmarks.quantized", folder, method]
            run = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(run.stdout.splitlines()[-1])
            sizes = f"{found['model'] / 1e6:.0f} | {found['step'] / 1e6:.0f}"
            rows.append(f"| {method} | {found['parameters']:,} | {sizes} |")
    libraries = ("torch", "transformers", "peft", "bitsandbytes")
    page = PAGE.format(
        size=model.num_parameters() / 1e6,
        batch=BATCH,
        length=LENGTH,
        prompt=PROMPT,
        rows="\n".join(rows),
        machine=platform.machine(),
        versions=", ".join(f"{name} {version(name)}" for name in libraries),
    )
    print(page, end="")


if __name__ == "__main__":
    main()
