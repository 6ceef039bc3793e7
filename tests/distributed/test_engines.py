"""The engines of torch and transformers, by hand, with two processes: all as with one."""

from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.distributed import engines
from tests.distributed.ranks import on_ranks


@pytest.fixture(scope="module")
def alone():
    return engines.alone()


def named_as_saved(trained: dict) -> dict:
    return {name.replace(".default.", "."): tensor for name, tensor in trained.items()}


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_copied_models(alone, compiled):
    for losses, trained, answer in on_ranks(engines.copied, compiled):
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(alone[0]))
        torch.testing.assert_close(trained, alone[1])
        assert answer == alone[2]


@pytest.mark.parametrize("positions", ["f1+l2", "all"])
def test_a_process_that_edits_nothing_holds_nobody_up(positions):
    expected = engines.with_nothing_to_edit(positions)
    for gradients in on_ranks(engines.with_nothing_to_edit, positions):
        torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("variant", [(False, False), (True, True)])
def test_fully_sharded_models(alone, tmp_path, variant):
    for losses, answer, refused in on_ranks(engines.sharded, tmp_path, *variant):
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(alone[0]))
        assert answer == alone[2]
        assert "is divided among processes: expected a state" in refused
    saved = load_file(tmp_path / "adapter_model.safetensors")
    torch.testing.assert_close(saved, named_as_saved(alone[1]))
    assert not list(tmp_path.glob(".*"))


def test_an_adapter_for_a_model_that_is_sharded_already_is_warned_of():
    for said in on_ranks(engines.attached_late):
        assert "expected get_peft_model before fully_shard" in said


@pytest.mark.parametrize("leaves", [False, True])
def test_flattened_models(alone, leaves):
    for losses, trained in on_ranks(engines.flattened, leaves):
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(alone[0]))
        torch.testing.assert_close(trained, alone[1])


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"), reason="older ones take no tp_plan here"
)
def test_split_matrices(tmp_path):
    tokenizer = engines.TOKENIZER
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    expected = engines.split(str(tmp_path))
    for found in on_ranks(engines.split, str(tmp_path)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_plain_trainer(tmp_path: Path):
    expected = engines.by_plain_trainer(tmp_path / "one")
    for trained in on_ranks(engines.by_plain_trainer, tmp_path / "two"):
        torch.testing.assert_close(trained, expected)
    torch.testing.assert_close(
        load_file(tmp_path / "two" / "adapter_model.safetensors"), named_as_saved(expected)
    )
