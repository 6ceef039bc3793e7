"""`reftune serve` as a process of its own, on the bundled model, with made adapters."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from reftune import ReftConfig
from reftune.assets import TINY_CHAT
from reftune.serving.adapters import AdapterCache
from reftune.serving.editing import Editing

START_SECONDS = 120


def write_adapters(folder: Path, count: int, strength: float) -> list[str]:
    """Write adapters of rank 4 at one layer and the last prompt token; return their names.

    Args:
        folder: gets a folder for each.
        count: how many.
        strength: of the noise upon the identity. Little of it costs what a trained adapter does and
            leaves answers as long as the base model's, so that rates can be compared.
    """
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT)
    config = ReftConfig(task_type="CAUSAL_LM", layers=[1], r=4, positions="l1")
    peft = get_peft_model(model, config)
    edits = [p for name, p in peft.named_parameters() if ".reft_edits." in name]
    identity = [parameter.detach().clone() for parameter in edits]
    names = [f"a{number:04d}" for number in range(count)]
    for number, name in enumerate(names):
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter, start in zip(edits, identity, strict=True):
                parameter.copy_(start + strength * torch.randn_like(start))
        peft.save_pretrained(folder / name)
    return names


@contextmanager
def serving(folder: Path, adapters: Path, port: int, slots: int, threads: int) -> Iterator[str]:
    """Run a server; give its address."""
    command = [sys.executable, "-m", "reftune", "serve", "--state", str(folder / "state")]
    command += ["--adapters", str(adapters), "--port", str(port), "--slots", str(slots)]
    command += ["--requests-per-minute", "10000000", "--model-name", "base"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _await(process, address, folder / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _await(process: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(10 * START_SECONDS):
        if process.poll() is not None:
            raise SystemExit(f"the server ended:\n{log.read_text()[-2000:]}")
        try:
            httpx.get(f"{address}/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"the server does not answer after {START_SECONDS} s")


def loading_seconds(adapters: Path, names: list[str], slots: int) -> list[float]:
    """Return how long each adapter takes from its folder into a slot, read for the first time."""
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT)
    cache, editing = AdapterCache(model, limit=1 << 40), Editing(model, slots + 1)
    found = []
    for number, name in enumerate(names):
        begun = time.perf_counter()
        adapter = cache.get(adapters / name)
        editing.hook(adapter)
        editing.write(1 + number % slots, adapter)
        found.append(time.perf_counter() - begun)
    return found
