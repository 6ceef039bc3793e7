"""A base model that is partly on disk or in main memory: edits are where it computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from reftune import ReftConfig
from reftune.attached import reuse_of
from tests.tiny_text import byte_level, save_tiny_model

TOKENIZER = byte_level()
PARTS = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
PLACES = {**dict.fromkeys(PARTS, "cpu"), "model.layers.1": "disk", "model.layers.2": "disk"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offloaded")
    save_tiny_model(folder / "model", num_hidden_layers=3)
    return folder


def mapped(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder / "model", device_map=PLACES, offload_folder=folder / "mapped"
    )


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "model")


WAYS: dict[str, Callable[[Path], Any]] = {
    "device_map": mapped,
    "cpu_offload": lambda folder: cpu_offload(plain(folder), torch.device("cpu")),
    "disk_offload": lambda folder: disk_offload(
        plain(folder), str(folder / "off"), torch.device("cpu")
    ),
}


def attached(base: Any) -> Any:
    torch.manual_seed(1)
    config = ReftConfig(task_type="CAUSAL_LM", r=2, positions="f1+l2", init="paper")
    return get_peft_model(base, config).eval()


def gradients(model: Any) -> dict[str, Tensor]:
    ids = torch.tensor([[7, 8, 9, 10]])
    labels = torch.tensor([[-100, -100, 9, 10]])
    model.train()(input_ids=ids, labels=labels).loss.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    model.eval()
    return named


# Older generate() sees that the parameters are on meta, and not that inputs are moved to them.
@pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_logits_answers_gradients_and_files_are_those_of_a_model_in_memory(
    folder: Path, tmp_path: Path, way: str
) -> None:
    expected, found = attached(plain(folder)), attached(WAYS[way](folder))
    assert any(parameter.is_meta for parameter in found.parameters())
    given = TOKENIZER(["What is 3?"], return_tensors="pt")
    for model in (expected, found):
        model.logits = model(**given).logits
        model.answer = model.generate(**given, max_new_tokens=4, do_sample=False)
    torch.testing.assert_close(found.logits, expected.logits)
    assert found.answer.equal(expected.answer)
    torch.testing.assert_close(gradients(found), gradients(expected))
    assert "is off-loaded" in reuse_of(found)[0].reason
    found.save_pretrained(tmp_path / "found")
    expected.save_pretrained(tmp_path / "expected")
    files = [load_file(tmp_path / n / "adapter_model.safetensors") for n in ("found", "expected")]
    torch.testing.assert_close(*files)


def test_a_saved_adapter_is_put_on_a_model_on_disk(folder: Path, tmp_path: Path) -> None:
    trained = attached(plain(folder))
    trained.save_pretrained(tmp_path)
    model = get_peft_model(mapped(folder), PeftConfig.from_pretrained(tmp_path)).eval()
    set_peft_model_state_dict(model, load_peft_weights(str(tmp_path)))
    given = TOKENIZER(["What is 3?"], return_tensors="pt")
    torch.testing.assert_close(model(**given).logits, trained(**given).logits)
