"""What a training with pyreft's trainers leaves behind, and what can be done with it."""

import pytest
import torch

from reftune.pyreft.model import ReftModel
from tests.pyreft_trainings import (
    LLAMA,
    causal_loss,
    collate,
    logits_of,
    rows,
    trained,
    trainer_of,
)


def test_the_model_is_written_where_it_can_be_loaded_and_replaces_what_was_there(tmp_path) -> None:
    trainer, batch = trainer_of(tmp_path / "out"), collate(rows(2))
    folder = tmp_path / "out" / "intervenable_model"
    folder.mkdir()
    (folder / "intkey_of_another.bin").write_bytes(b"left over")
    for _ in range(2):
        trainer.train()
        trainer.save_model()
        again = ReftModel.load(str(folder), LLAMA.build(), include_model=True)
        expected = logits_of(trainer.model.eval(), batch)
        torch.testing.assert_close(logits_of(again.eval(), batch), expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["intervenable_model"]
    assert not (folder / "intkey_of_another.bin").exists()
    trainer.save_model(str(tmp_path / "elsewhere"))
    names = sorted(path.name for path in folder.iterdir())
    there = tmp_path / "elsewhere" / "intervenable_model"
    assert sorted(path.name for path in there.iterdir()) == names


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path) -> None:
    options = {"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 2}
    whole = trainer_of(tmp_path / "whole", **options)
    whole.train()
    torch.manual_seed(99)
    resumed = trainer_of(tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert resumed.state.global_step == whole.state.global_step == 8
    for name, value in trained(whole.model).items():
        assert torch.equal(value, trained(resumed.model)[name]), name
    last = trainer_of(tmp_path / "whole", **{**options, "num_train_epochs": 3})
    last.train(resume_from_checkpoint=True)  # from checkpoint-6
    assert last.state.global_step == 12


def test_a_checkpoint_of_pyrefts_trainer_is_resumed(tmp_path) -> None:
    """It has the files of the edits alone, and a `pytorch_model.bin` that holds nothing."""
    options = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3}
    first = trainer_of(tmp_path, **options)
    first.train()
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / "intervenable_model" / "config.json").unlink()
    (checkpoint / "trained.safetensors").unlink()
    second = trainer_of(tmp_path, **options)
    second.train(resume_from_checkpoint=True)  # has nothing left to do
    batch = collate(rows(2))
    torch.testing.assert_close(
        logits_of(second.model.eval(), batch), logits_of(first.model.eval(), batch)
    )


def test_the_best_model_comes_back_and_old_checkpoints_go(tmp_path) -> None:
    scores = iter([1.0, 3.0, 2.0, 0.0])
    trainer = trainer_of(
        tmp_path,
        eval_dataset=rows(4),
        compute_metrics=lambda prediction: {"score": next(scores)},
        metric_for_best_model="score",
        num_train_epochs=4,
        learning_rate=0.1,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        save_total_limit=1,
    )
    trainer.train()
    losses = [one["eval_loss"] for one in trainer.state.log_history if "eval_loss" in one]
    batch = collate(rows(4))
    loss = causal_loss(logits_of(trainer.model.eval(), batch), batch["labels"]).item()
    assert loss == pytest.approx(losses[1], rel=1e-5)
    assert loss != pytest.approx(losses[3], rel=1e-3)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]
