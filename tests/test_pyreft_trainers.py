"""pyreft's trainers of language models, against the formulas and pyreft's own calls."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from reftune.assets import TINY_CHAT
from reftune.pyreft.scripts.moved_arguments import forget
from reftune.pyreft.trainers import (
    ReftTrainer,
    ReftTrainerForCausalLM,
    ReftTrainerForCausalLMDistributed,
)
from tests.pyreft_trainings import (
    causal_loss,
    collate,
    edited,
    logits_of,
    rows,
    trained,
    trainer_of,
)

# The loss of a step.


def test_the_loss_is_that_of_the_edited_model(tmp_path) -> None:
    trainer, batch = trainer_of(tmp_path), collate(rows(3))
    expected = causal_loss(logits_of(trainer.model, batch), batch["labels"])
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch).detach(), expected)
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(outputs.logits, logits_of(trainer.model, batch))
    with torch.no_grad():
        base = causal_loss(trainer.model.model(batch["input_ids"]).logits, batch["labels"])
    assert (base - expected).abs() > 1e-3


def test_locations_of_two_dimensions_are_the_first_position(tmp_path) -> None:
    trainer, batch = trainer_of(tmp_path), collate(rows(3))
    first = {**batch, "intervention_locations": torch.zeros(3, 2, 1, dtype=torch.long)}
    flat = {**batch, "intervention_locations": torch.zeros(3, 2, dtype=torch.long)}
    given = [trainer.compute_loss(trainer.model, one).detach() for one in (first, flat, batch)]
    torch.testing.assert_close(given[0], given[1], rtol=0, atol=0)
    assert not torch.equal(given[1], given[2])


def test_the_subspaces_of_a_batch_choose_rows(tmp_path) -> None:
    trainer, batch = trainer_of(tmp_path), collate(rows(2))
    chosen = {**batch, "subspaces": torch.tensor([[[0], [1]], [[1], [1]]])}
    places = batch["intervention_locations"].permute(1, 0, 2).tolist()
    _, outputs = trainer.model(
        {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]},
        unit_locations={"sources->base": (None, places)},
        subspaces=[[[0], [1]], [[1], [1]]],
    )
    torch.testing.assert_close(
        trainer.compute_loss(trainer.model, chosen), causal_loss(outputs.logits, batch["labels"])
    )


def test_a_batch_without_labels_has_no_loss(tmp_path) -> None:
    batch = collate(rows(2))
    del batch["labels"]
    trainer = trainer_of(tmp_path)
    with pytest.raises(ValueError, match="expected labels"):
        trainer.compute_loss(trainer.model, batch)


@pytest.mark.parametrize("kind", [ReftTrainerForCausalLM, ReftTrainerForCausalLMDistributed])
def test_an_accumulated_step_takes_the_mean_of_the_means(tmp_path, kind) -> None:
    """Of micro-batches with different numbers of labels, as in transformers 4.45."""
    data, model = rows(4), edited()
    start = trained(model)
    for half in (data[:2], data[2:]):
        (trainer_of(tmp_path, kind, model=model).compute_loss(model, collate(half)) / 2).backward()
    steps = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert set(steps) == set(start)
    model.zero_grad()
    trainer = trainer_of(
        tmp_path,
        kind,
        model=model,
        train_dataset=data,
        gradient_accumulation_steps=2,
        max_steps=1,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
    )
    trainer.train()
    for name, value in trained(model).items():
        torch.testing.assert_close(value, start[name] - 0.1 * steps[name], msg=name)


def test_the_optimizer_has_the_edits_and_what_the_user_trains_of_the_model(tmp_path) -> None:
    model = edited()
    model.model.lm_head.requires_grad_(True)
    optimizer = trainer_of(tmp_path, model=model).create_optimizer()
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    expected = [*model.interventions.parameters(), *model.model.lm_head.parameters()]
    assert held == {id(one) for one in expected}


def test_a_training_learns_and_leaves_the_base_model_and_both_configs_alone(tmp_path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    model = edited(pad_token_id=5)
    base = {name: value.clone() for name, value in model.model.state_dict().items()}
    config, own = model.model.config.to_dict(), set(vars(model.config))
    batch = collate(rows())
    before = causal_loss(logits_of(model, batch), batch["labels"])
    forget()
    with pytest.warns(FutureWarning, match=r"Trainer\(tokenizer=\).*processing_class") as told:
        trainer = trainer_of(tmp_path, model=model, tokenizer=tokenizer, learning_rate=0.1)
    assert len(told) == 1
    assert trainer.tokenizer is trainer.processing_class is tokenizer
    trainer.tokenizer = tokenizer  # as classes of one's own do
    trainer.train()
    assert trainer.processing_class is tokenizer
    assert causal_loss(logits_of(model, batch), batch["labels"]) < before - 0.02
    assert all(torch.equal(value, base[name]) for name, value in model.model.state_dict().items())
    assert model.model.config.to_dict() == config
    assert set(vars(model.config)) == own


def test_rows_of_a_data_set_keep_their_columns(tmp_path) -> None:
    seen: list[set[str]] = []

    class Watching(ReftTrainerForCausalLM):
        def compute_loss(self, intervenable, inputs, return_outputs=False):
            seen.append(set(inputs))
            return super().compute_loss(intervenable, inputs, return_outputs)

    data = Dataset.from_list(rows(2))
    trainer = trainer_of(tmp_path, Watching, train_dataset=data, eval_dataset=data, max_steps=1)
    trainer.train()
    trainer.evaluate()
    trainer.predict(data)
    assert seen == [set(data.column_names)] * 3
    assert "intervention_locations" in data.column_names


# Classes that users derive.


def test_methods_that_lack_what_trainer_passes_today_run(tmp_path) -> None:
    calls: list[str] = []

    class Own(ReftTrainer):
        def compute_loss(self, intervenable, inputs, return_outputs=False):
            calls.append("compute_loss")
            return super().compute_loss(intervenable, inputs, return_outputs)

        def training_step(self, model, inputs):
            calls.append("training_step")
            return super().training_step(model, inputs)

        def log(self, logs):
            calls.append("log")
            super().log(logs)

        def save_model(self, output_dir, _internal_call=False):
            calls.append("save_model")
            super().save_model(output_dir, _internal_call)

        def evaluate(self, ignore_keys):
            calls.append("evaluate")
            return super().evaluate(ignore_keys=ignore_keys)

    trainer_of(
        tmp_path,
        Own,
        eval_dataset=rows(2),
        max_steps=1,
        logging_strategy="steps",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
    ).train()
    assert set(calls) == {"compute_loss", "training_step", "log", "save_model", "evaluate"}


def test_a_loss_that_takes_anything_gets_what_trainer_passes(tmp_path) -> None:
    seen: list[dict] = []

    class Own(ReftTrainerForCausalLM):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.append(kwargs)
            return super().compute_loss(model, inputs)  # never the outputs

    trainer = trainer_of(tmp_path, Own, max_steps=1, eval_dataset=rows(2))
    trainer.train()
    assert seen == [{"num_items_in_batch": None}]
    batch = collate(rows(2))
    loss = causal_loss(logits_of(trainer.model, batch), batch["labels"]).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss, rel=1e-5)
    found = trainer.predict(rows(2)).predictions
    np.testing.assert_allclose(found, logits_of(trainer.model, batch), rtol=1e-5, atol=1e-6)


# Evaluation.


def test_evaluation_is_of_the_edited_model_without_dropout(tmp_path) -> None:
    model, data = edited(dropout=0.5), rows(5)
    trainer = trainer_of(tmp_path, model=model, eval_dataset=data, per_device_eval_batch_size=5)
    model.train()
    measured = trainer.evaluate()["eval_loss"]
    model.eval()
    batch = collate(data)
    expected = logits_of(model, batch)
    assert measured == pytest.approx(causal_loss(expected, batch["labels"]).item(), rel=1e-5)
    model.train()
    output = trainer.predict(data)
    np.testing.assert_allclose(output.predictions, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(output.label_ids, batch["labels"])
    assert output.metrics["test_loss"] == pytest.approx(measured)


def test_rows_without_labels_are_predicted_too(tmp_path) -> None:
    data = [{n: v for n, v in row.items() if n != "labels"} for row in rows(3)]
    trainer = trainer_of(tmp_path)
    output = trainer.predict(data)
    expected = logits_of(trainer.model, collate(data))
    np.testing.assert_allclose(output.predictions, expected, rtol=1e-5, atol=1e-6)
    assert output.label_ids is None
