"""What one process says or does, all know."""

import pytest
from datasets import Dataset
from transformers import TrainingArguments

from reftune import processes
from reftune.even_batches import Trainer
from tests.adapters import LLAMA
from tests.distributed.ranks import on_ranks


def said(call) -> str:
    try:
        return str(call())
    except (ZeroDivisionError, processes.OtherProcessError) as error:
        return f"{type(error).__name__}: {error}"


def talk() -> list[str]:
    processes.join()
    first = processes.is_first()
    return [
        said(lambda: processes.by_first(lambda: "first" if first else 1 / 0)),
        said(lambda: processes.by_first(lambda: 1 / 0)),
        said(lambda: processes.together(lambda: first)),
        said(lambda: processes.together(lambda: "first" if first else 1 / 0)),
        said(lambda: processes.together(lambda: 1 / 0)),
    ]


@pytest.mark.long
def test_all_end_if_one_fails_and_one_says_why():
    error = "ZeroDivisionError: division by zero"
    one, other = (f"OtherProcessError: process {rank} failed: {error}" for rank in (0, 1))
    assert on_ranks(talk) == [
        ["first", error, "True", other, error],
        ["first", one, "False", error, one],
    ]


def test_one_process_needs_nobody():
    error = "ZeroDivisionError: division by zero"
    assert talk() == ["first", error, "True", "first", error]


def test_a_loss_that_cannot_be_shared_out_is_an_error(monkeypatch, tmp_path):
    model = LLAMA.build()
    monkeypatch.setattr(type(model), "accepts_loss_kwargs", False, raising=False)
    monkeypatch.setattr(Trainer, "_shares_out", lambda self: True)
    rows = Dataset.from_list([{"input_ids": [1, 2], "labels": [-100, 2]}])
    with pytest.raises(ValueError, match="LlamaForCausalLM takes no count of labelled tokens"):
        Trainer(model=model, args=TrainingArguments(str(tmp_path)), train_dataset=rows)
