"""Jobs are trained as they would be alone, on the weights that are served, and end whole or not."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from reftune.crew import Crew
from reftune.output_folder import CONFIG, WEIGHTS
from reftune.server import worker as worker_module
from reftune.server.job_recipe import job_recipe
from reftune.server.registry import Registry
from tests.server.filled import messages
from tests.server.trained import (
    TOKENIZER,
    assert_as_alone,
    chat,
    examples,
)
from tests.server.waiting import until
from tests.serving.served import Asked
from tests.tiny_text import tiny_llama

FOREVER = {"n_epochs": 1000}


def ids_of(question: str) -> list[int]:
    user = [{"role": "user", "content": question}]
    return TOKENIZER.apply_chat_template(user, add_generation_prompt=True)["input_ids"]


def generated(prompt: list[int], adapter: Path) -> list[int]:
    model = PeftModel.from_pretrained(tiny_llama(TOKENIZER), str(adapter)).eval()
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    [out] = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False)
    answer = out[len(prompt) :].tolist()
    return answer[:-1] if answer[-1] == TOKENIZER.eos_token_id else answer


def test_a_job_becomes_a_model_that_answers_as_generate_does(desk, tmp_path) -> None:
    job = desk.add(examples(5), "ft:tiny:fox", hyperparameters={"learning_rate_multiplier": 20.0})
    desk.worker.begin()
    done = desk.over(job)
    assert (done.status, done.error_message) == ("succeeded", None)
    adapter = Registry(desk.store, None, "tiny").folder_of("ada", "ft:tiny:fox")
    assert adapter == desk.state / "adapters" / job.id
    assert {path.name for path in adapter.iterdir()} == {CONFIG, WEIGHTS, "training.jsonl"}
    assert_as_alone(desk, job, tmp_path / "alone")
    prompt = ids_of("What is 2 + 2?")
    answer = Asked(desk.engine, prompt, adapter).ids()
    assert answer == generated(prompt, adapter)
    assert answer != Asked(desk.engine, prompt).ids()
    [checkpoint] = desk.store.list_checkpoints("ada", job.id)
    assert (checkpoint.step, checkpoint.adapter) == (done.result["steps"], done.adapter)
    told = messages(desk.store, job)
    assert told[:2] == [f"Created fine-tuning job: {job.id}", "Fine-tuning job started"]
    assert sum(text.startswith("Step ") for text in told) == done.result["steps"] == 40
    assert done.trained_tokens > 0


def test_jobs_at_once_end_as_alone(desk, tmp_path) -> None:
    jobs = [
        desk.add(examples(3 + number), f"ft:{number}", seed=number, hyperparameters=how)
        for number, how in enumerate(
            [{"n_epochs": 2}, {"n_epochs": 5, "batch_size": 2}, {"learning_rate_multiplier": 0.5}]
        )
    ]
    held = desk.add(examples(4), "ft:held", validation_file=desk.upload(examples(2)))
    desk.worker.begin()
    for job in (*jobs, held):
        assert desk.over(job).status == "succeeded"
        assert_as_alone(desk, job, tmp_path / job.id)
    later = desk.add(examples(3), "ft:later")
    assert desk.over(later).status == "succeeded"
    assert desk.written() == {job.id for job in (*jobs, held, later)}


def test_answers_are_the_same_while_jobs_are_trained(desk) -> None:
    first = desk.add(examples(4), "ft:first", hyperparameters={"learning_rate_multiplier": 20.0})
    desk.worker.begin()
    adapter = Path(desk.over(first).adapter)
    asked = [
        (ids_of(f"What is {number}?"), folder, {"temperature": heat, "seed": number})
        for number in range(4)
        for folder in (None, adapter)
        for heat in (0, 1.0)
    ]

    def ask() -> list[list[int]]:
        begun = [Asked(desk.engine, *one, max_tokens=30, **how) for *one, how in asked]
        return [one.ids() for one in begun]

    idle = ask()
    jobs = [desk.add(examples(4), f"ft:{n}", hyperparameters=FOREVER) for n in range(2)]
    for job in jobs:
        desk.stepped(job)
    before = len(desk.store.list_events("ada", jobs[0].id, limit=1000))
    for _ in range(3):
        assert ask() == idle
    until(lambda: len(desk.store.list_events("ada", jobs[0].id, limit=1000)) > before)
    assert all(desk.get(job).status == "running" for job in jobs)


def test_a_job_is_cancelled_while_it_waits(desk) -> None:
    job, other = desk.add(examples(3), "ft:a"), desk.add(examples(3), "ft:b")
    assert desk.store.request_cancel("ada", job.id).status == "cancelled"
    desk.worker.begin()
    assert desk.over(other).status == "succeeded"
    assert desk.get(job).status == "cancelled"
    assert desk.written() == {other.id}


def test_a_job_is_cancelled_while_it_runs_and_the_others_go_on(desk, tmp_path) -> None:
    job = desk.add(examples(4), "ft:a", hyperparameters=FOREVER)
    other = desk.add(examples(4, "dog"), "ft:b", hyperparameters={"n_epochs": 50})
    desk.worker.begin()
    desk.stepped(job)
    desk.store.request_cancel("ada", job.id)
    assert desk.over(job).status == "cancelled"
    assert desk.over(other).status == "succeeded"
    assert desk.written() == {other.id}
    assert [adapter.name for adapter in desk.store.list_adapters("ada")] == ["ft:b"]
    assert_as_alone(desk, other, tmp_path / "alone")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([chat("hi", "fox"), chat("What?", None)], "the last message is the user's"),
        ([chat("hi", "fox"), chat("What?", " ")], "1 of 2 training examples"),
        ([chat("hi", "fox"), chat("What? " * 200, "no")], "training example 2 has 256 tokens"),
        ([chat("hi", "fox"), chat("What?", "fox " * 300)], "training example 2 has 256 tokens"),
    ],
)
def test_a_file_that_cannot_be_learned_fails_with_the_reason(desk, rows, reason) -> None:
    good, job = desk.add(examples(3), "ft:good"), desk.add(rows, "ft:bad")
    held = desk.add(examples(3), "ft:held", validation_file=job.training_file)
    desk.worker.begin()
    for bad in (job, held):
        done = desk.over(bad)
        assert (done.status, done.error_code) == ("failed", "invalid_training_file")
        assert reason.replace("training", "validation" if bad is held else "training") in (
            done.error_message
        )
        assert str(desk.state) not in done.error_message
    assert desk.over(good).status == "succeeded"
    assert desk.written() == {good.id}


def test_a_training_that_diverges_becomes_no_model(desk) -> None:
    job = desk.add(examples(3), "ft:wild", hyperparameters={"learning_rate_multiplier": 1e40})
    desk.worker.begin()
    done = desk.over(job)
    assert (done.status, done.error_code) == ("failed", "training_failed")
    assert "not finite" in done.error_message
    assert not desk.written()
    assert not desk.store.list_adapters("ada")


def test_a_step_that_fails_ends_its_jobs_and_no_others(desk, monkeypatch, caplog) -> None:
    run_pass, calls = Crew.run_pass, []

    def failing(crew: Crew) -> None:
        calls.append(len(crew.working))
        if len(calls) == 2:
            raise RuntimeError("no memory")
        run_pass(crew)

    monkeypatch.setattr(Crew, "run_pass", failing)
    jobs = [desk.add(examples(3), f"ft:{number}") for number in range(2)]
    desk.worker.begin()
    for job in jobs:
        done = desk.over(job)
        assert (done.status, done.error_code) == ("failed", "training_failed")
        assert done.error_message == "RuntimeError: no memory"
    assert calls == [2, 2]
    assert not desk.written()
    later = desk.add(examples(3), "ft:later")
    assert desk.over(later).status == "succeeded"


def test_a_job_whose_adapter_cannot_be_written_fails_alone(desk, monkeypatch) -> None:
    put = worker_module.put_in_place
    jobs = [desk.add(examples(3), f"ft:{number}") for number in range(2)]

    def full(trained: Path, adapters: Path) -> Path:
        if trained.name == jobs[0].id:
            raise OSError("no space left")
        return put(trained, adapters)

    monkeypatch.setattr(worker_module, "put_in_place", full)
    desk.worker.begin()
    assert desk.over(jobs[0]).error_message == "no space left"
    assert desk.over(jobs[1]).status == "succeeded"
    assert desk.written() == {jobs[1].id}


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(1, 1, 40), (10, 10, 40), (64, 16, 10), (500, 16, 3)]
)
def test_auto_suits_the_number_of_examples(rows: int, batch: int, epochs: int) -> None:
    recipe = job_recipe({"n_epochs": "auto"}, rows, seed=1, max_length=100)
    assert (recipe.batch_size, recipe.epochs, recipe.max_length) == (batch, epochs, 100)
    said = {"n_epochs": 7, "batch_size": 3, "learning_rate_multiplier": 2.0}
    recipe = job_recipe(said, rows, seed=1)
    assert (recipe.batch_size, recipe.epochs) == (min(rows, 3), 7)
    assert recipe.lr == 2 * job_recipe({}, rows, seed=1).lr
