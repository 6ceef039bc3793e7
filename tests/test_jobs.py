"""Jobs that cannot be run: each is named before anything is written."""

from dataclasses import replace

import pytest
from datasets import Dataset
from peft import get_peft_model

from reftune.attached import layers_of
from reftune.many import train_many
from reftune.output_folder import CONFIG
from reftune.recipe import TrainingRecipe
from tests.many_jobs import config_of, job, together
from tests.tiny_text import byte_level, tiny_llama


@pytest.mark.parametrize("finished", [True, False])
def test_resuming_with_other_settings_is_refused(tmp_path, finished) -> None:
    together(tmp_path, ["plain"])
    if not finished:
        (tmp_path / "plain" / CONFIG).unlink()
    tokenizer = byte_level()
    jobs = [job("seed", tmp_path), job("plain", tmp_path, lr=0.5)]
    with pytest.raises(ValueError, match=r'job ".*plain": cannot resume .* lr is 0.5, but .* 0.01'):
        train_many(tiny_llama(tokenizer), tokenizer, jobs, existing="resume")
    assert not (tmp_path / "seed").exists()


UNLABELLED = Dataset.from_dict({"input_ids": [[5, 6]], "labels": [[5, -100]]})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"out": "plain"}, 'output ".*plain" is that of job ".*plain" too'),
        ({"out": "taken"}, "is not empty"),
        ({"config": config_of("plain", r=17)}, "r=17: expected at most 16"),
        ({"config": config_of("plain", layers=[5])}, "5"),
        ({"config": config_of("plain", modules_to_save=["lm_head"])}, "modules_to_save"),
        ({"recipe": TrainingRecipe(bf16=True)}, "bf16 True: expected False"),
        ({"recipe": TrainingRecipe(group_by_length=True)}, "group_by_length True: expected False"),
        ({"recipe": TrainingRecipe(batch_size=9)}, "batches of 9 rows: expected at most 8"),
        ({"rows": Dataset.from_list([{"prompt": "", "completion": "x"}])}, "no row is left"),
        ({"rows": Dataset.from_dict({"input_ids": [], "labels": []})}, "no row to train on"),
        ({"rows": UNLABELLED}, "row 1 has no label"),
        ({"rows": Dataset.from_list([{"question": "x"}])}, "question"),
    ],
)
def test_a_wrong_job_is_named_before_anything_is_written(tmp_path, changes, says) -> None:
    tokenizer = byte_level()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    if "out" in changes:
        changes = {"out": tmp_path / changes["out"]}
    wrong = replace(job("seed", tmp_path), name="the wrong one", **changes)
    model = tiny_llama(tokenizer)
    with pytest.raises((ValueError, OSError), match=f'^job "the wrong one": .*{says}'):
        train_many(model, tokenizer, [job("plain", tmp_path), wrong], rows_per_pass=8)
    assert not (tmp_path / "plain").exists()
    assert not layers_of(model)


def test_no_jobs_and_a_model_with_adapters_are_refused(tmp_path) -> None:
    tokenizer = byte_level()
    model = tiny_llama(tokenizer)
    with pytest.raises(ValueError, match="no jobs"):
        train_many(model, tokenizer, [])
    get_peft_model(model, config_of("plain"))
    with pytest.raises(ValueError, match="has adapters already"):
        train_many(model, tokenizer, [job("plain", tmp_path)])
