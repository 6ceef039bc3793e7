"""Rows, collators and settings under which TRL does not tell the prompt are an error."""

from functools import partial

import pytest
import torch

from reftune import ReftConfig
from reftune.collation import PaddingCollator
from tests.tiny_text import byte_level
from tests.trl_runs import ROWS, batch_of, run_example, shake, write_folder, write_rows

trl = pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")

TOKENIZER = byte_level()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("trl"))


@pytest.fixture
def example(folder, tmp_path):
    return partial(run_example, folder, tmp_path / "out")


def failing(example, folder, name: str, rows: list[dict], *options: str, **replaced) -> str:
    """Return the error of an example with other rows."""
    path = folder / "other.jsonl"
    write_rows(path, rows)
    with pytest.raises(ValueError, match=r"^rows \[|^a training step") as error:
        example(name, "--data", str(path), *options, **replaced)
    return str(error.value)


PLAIN = [{"text": row["prompt"] + row["completion"]} for row in ROWS["rows"]]


@pytest.mark.filterwarnings("ignore:.*keep_end:FutureWarning")
@pytest.mark.parametrize(
    ("name", "rows", "options", "message"),
    [
        ("sft", PLAIN, [], "labels with no prompt token before them"),
        ("sft", ROWS["rows"], ["--completion_only_loss", "False"], "labels with no prompt token"),
        ("sft_packed", PLAIN, [], "labels from the second token of a packed document on"),
        (
            "sft_packed",
            ROWS["rows"],
            ["--completion_only_loss", "False"],
            "labels from the second token of a packed document on",
        ),
        ("sft_packed", ROWS["rows"], ["--packing_strategy", "wrapped"], "labels "),
        (
            "sft_packed",
            [{"prompt": "What?", "completion": " A number" * 9}],
            ["--packing_strategy", "bfd_split", "--max_length", "24"],
            "labels from the second token of a packed document on",
        ),
        (
            "sft",
            ROWS["rows"],
            ["--truncation_mode", "keep_end", "--max_length", "4"],
            "labels with no prompt token before them",
        ),
        (
            "dpo",
            ROWS["pairs"],
            ["--truncation_mode", "keep_end", "--max_length", "4"],
            "labels with no prompt token before them",
        ),
    ],
)
def test_rows_of_which_the_prompt_is_not_known_are_an_error(
    name, rows, options, message, example, folder
):
    assert message in failing(example, folder, name, rows, *options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("of all tokens", "labels with no prompt token before them"),
        ("dropped", "a training step of LlamaForCausalLM without labels"),
    ],
)
def test_a_collator_that_does_not_tell_the_prompt_is_an_error(labels, message, example, folder):
    def collate(rows: list[dict]) -> dict:
        batch = PaddingCollator(TOKENIZER)(rows)
        del batch["labels"]
        return batch | ({"labels": batch["input_ids"]} if labels == "of all tokens" else {})

    trainer = partial(trl.SFTTrainer, data_collator=collate)
    assert message in failing(example, folder, "sft", ROWS["rows"], SFTTrainer=trainer)


def test_answers_are_not_written_by_continuous_batching(example):
    batching = ("--use_transformers_continuous_batching", "True")
    with pytest.raises(ValueError, match="continuous batching does not tell"):
        example("grpo", *batching)


@pytest.mark.parametrize("name", ["sft", "sft_packed"])
def test_plain_text_is_learned_by_an_adapter_of_all_tokens(name, example, folder):
    path = folder / "plain.jsonl"
    write_rows(path, PLAIN)
    config = partial(ReftConfig, positions="all", decode="all")
    given = ("--data", str(path))
    trainer = example(name, *given, ReftConfig=lambda positions, **fields: config(**fields))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    model = trainer.model.eval()
    shake(model)
    batch = batch_of(trainer)
    with torch.no_grad():
        got = model(**batch, fused_lm_head=True).log_probs
        every = torch.ones_like(batch["input_ids"], dtype=torch.bool)
        same = model(**batch, fused_lm_head=True, prompt_mask=every).log_probs
    assert torch.equal(got, same)
