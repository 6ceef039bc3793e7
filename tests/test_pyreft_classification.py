"""pyreft's trainer of classifiers and regressions, against the formulas of the losses."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from reftune.pyreft.model import ReftModel
from reftune.pyreft.trainers import ReftTrainerForSequenceClassification
from tests.pyreft_trainings import ROBERTA, collate, edited, logits_of, rows, trained, trainer_of

PROBLEMS = [
    (3, None, [0, 2, 1, 1], lambda x, y: functional.cross_entropy(x, y)),
    (1, None, [0.1, -2.0, 3.5, 0.0], lambda x, y: ((x[:, 0] - y) ** 2).mean()),
    (2, "regression", [[0.1, 1.0]] * 4, lambda x, y: ((x - y) ** 2).mean()),
    (
        2,
        None,
        [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]],
        lambda x, y: functional.binary_cross_entropy_with_logits(x, y),
    ),
    (2, "multi_label_classification", [[1, 0], [1, 1], [0, 0], [0, 1]], None),
]


@pytest.mark.parametrize(("count", "problem", "labels", "formula"), PROBLEMS)
def test_each_kind_of_problem_has_its_loss(tmp_path, count, problem, labels, formula) -> None:
    model = edited(ROBERTA, num_labels=count, problem_type=problem)
    trainer = trainer_of(tmp_path, ReftTrainerForSequenceClassification, model=model)
    batch = collate(rows(4, labels))
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    torch.testing.assert_close(outputs.logits, logits_of(model, batch))
    formula = formula or (lambda x, y: functional.binary_cross_entropy_with_logits(x, y.float()))
    torch.testing.assert_close(loss, formula(outputs.logits, batch["labels"]))


def test_a_loss_function_of_ones_own_gets_the_edited_outputs_and_the_labels(tmp_path) -> None:
    model = edited(ROBERTA, num_labels=3)

    def loss_of(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> Any:
        return (outputs.logits.sum(dim=1) * labels).sum()

    kind = ReftTrainerForSequenceClassification
    trainer = trainer_of(tmp_path, kind, model=model, compute_loss_func=loss_of)
    batch = collate(rows(4, [0, 2, 1, 1]))
    expected = (logits_of(model, batch).sum(dim=1) * batch["labels"]).sum()
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected)


def test_a_head_with_gradients_is_trained_and_saved_and_measured(tmp_path) -> None:
    model = edited(ROBERTA, num_labels=3)
    for parameter in model.model.classifier.parameters():
        parameter.requires_grad_(True)
    seen: list[Any] = []

    def measure(prediction: Any) -> dict[str, float]:
        seen.append(prediction)
        logits, labels = prediction
        return {"accuracy": (np.argmax(logits, axis=1) == labels).mean()}

    classes = [0, 1, 2, 0, 1, 2, 0, 1]
    start = trained(model)
    trainer = trainer_of(
        tmp_path,
        ReftTrainerForSequenceClassification,
        model=model,
        train_dataset=rows(8, classes),
        eval_dataset=rows(8, classes),
        compute_metrics=measure,
        num_train_epochs=30,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )
    trainer.train()
    moved = {n for n, value in trained(model).items() if not torch.equal(value, start[n])}
    assert {name for name in moved if "classifier" in name} == {
        f"model.classifier.{name}" for name, _ in model.model.classifier.named_parameters()
    }
    assert trainer.evaluate()["eval_accuracy"] == 1.0
    batch = collate(rows(8, classes))
    np.testing.assert_allclose(
        seen[-1].predictions, logits_of(model.eval(), batch), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(seen[-1].label_ids, classes)
    trainer.save_model(str(tmp_path / "saved"))
    base = ROBERTA.build(num_labels=3, seed=0)
    again = ReftModel.load(str(tmp_path / "saved/intervenable_model"), base, include_model=True)
    torch.testing.assert_close(logits_of(again.eval(), batch), logits_of(model, batch))


def test_the_labels_of_a_regression_are_not_rounded(tmp_path) -> None:
    """pyreft's are bfloat16, in which 1.001 is 1."""
    model = edited(ROBERTA, num_labels=1)
    trainer = trainer_of(tmp_path, ReftTrainerForSequenceClassification, model=model)
    losses = [
        trainer.compute_loss(model, collate(rows(1, [value]))).item() for value in (1.0, 1.001)
    ]
    assert losses[0] != losses[1]
    model.model.to(torch.bfloat16)
    loss = trainer.compute_loss(model, collate(rows(1, [1.0])))
    assert loss.dtype == torch.bfloat16
    loss.backward()
