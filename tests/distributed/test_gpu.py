"""What takes a GPU: `reftune train` under NCCL, FSDP and ZeRO comes to what one process comes to.

`python -m pytest -m gpu tests/distributed/test_gpu.py`, with as many GPUs as there are, and
DeepSpeed if it is installed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.distributed.ranks import free_port
from tests.distributed.trainings import ROWS, adapter, steps
from tests.tiny_text import save_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)

BY_LAYER = (
    "--use_fsdp",
    "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
    "--fsdp_transformer_layer_cls_to_wrap=LlamaDecoderLayer",
)
FSDP1 = (*BY_LAYER, "--fsdp_version=1", "--fsdp_use_orig_params=true")
FSDP2 = (*BY_LAYER, "--fsdp_version=2")
WHOLE, IN_PARTS = (f"--fsdp_state_dict_type={kind}_STATE_DICT" for kind in ("FULL", "SHARDED"))
ENGINES = [
    pytest.param(["--multi_gpu"], id="NCCL"),
    pytest.param([*FSDP2, WHOLE], id="FSDP2"),
    pytest.param([*FSDP2, IN_PARTS], id="FSDP2 in parts"),
    pytest.param([*FSDP1, WHOLE], id="FSDP1"),
    pytest.param(["--use_deepspeed", "--zero_stage=2"], id="ZeRO-2", marks=needs_deepspeed),
    pytest.param(
        ["--use_deepspeed", "--zero_stage=3", "--zero3_save_16bit_model=true"],
        id="ZeRO-3",
        marks=needs_deepspeed,
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    save_tiny_model(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def train(folder: Path, out: Path, rows: int, launcher: tuple[str, ...], *more: str) -> None:
    """Run `reftune train` of 8 steps, of four rows each."""
    given = {"model": folder / "model", "data": folder / "rows.jsonl", "out": out}
    named = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    options = ["--epochs=2", "--save-steps=1", "--no-reuse", f"--batch-size={rows}", *more]
    command = [sys.executable, *launcher, "-m", "reftune", "train", *named, *options]
    # TensorFloat-32 rounds differently for matrices of other sizes.
    words = os.environ | {"NVIDIA_TF32_OVERRIDE": "0"}
    done = subprocess.run(command, env=words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    train(folder, folder / "alone", 4, ())
    return folder / "alone"


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_and_adapter_are_those_of_one_process(folder, alone, tmp_path, engine):
    processes = 1 << (min(torch.cuda.device_count(), 4).bit_length() - 1)
    launcher = (
        *("-m", "accelerate.commands.launch", f"--num_processes={processes}", "--num_machines=1"),
        *("--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={free_port()}"),
        *engine,
    )
    out = tmp_path / "out"
    train(folder, out, 4 // processes, launcher)
    assert_alike(out, alone)
    # As a kill in the last step would leave it.
    (out / "adapter_config.json").unlink()
    shutil.rmtree(out / "checkpoints" / "checkpoint-8")
    train(folder, out, 4 // processes, launcher, "--resume")
    assert_alike(out, alone)


def assert_alike(found: Path, expected: Path) -> None:
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.tensor(steps(found)), torch.tensor(steps(expected)), **close)
    torch.testing.assert_close(adapter(found), adapter(expected), **close)
