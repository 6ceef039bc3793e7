"""What transformers takes in a process where pyreft is ours: the arguments of its version 4."""

import dataclasses
import os
import types
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from transformers import HfArgumentParser, TrainingArguments

from reftune.assets import TINY_CHAT
from reftune.pyreft.scripts.installing import installed
from reftune.pyreft.scripts.moved_arguments import TRAINING_ARGUMENTS, settle_loading, tell
from tests.pyreft_trainings import arguments, collate, edited, rows, trained

MOVED = [
    ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
    ("per_gpu_train_batch_size", 3, "per_device_train_batch_size", 3),
    ("per_gpu_eval_batch_size", 5, "per_device_eval_batch_size", 5),
    ("warmup_ratio", 0.25, "warmup_steps", 0.25),
    ("no_cuda", True, "use_cpu", True),
    ("adafactor", True, "optim", "adafactor"),
    ("group_by_length", True, "train_sampling_strategy", "group_by_length"),
    ("push_to_hub_token", "secret", "hub_token", "secret"),
    ("push_to_hub_model_id", "mine", "hub_model_id", "mine"),
    ("push_to_hub_organization", "us", "hub_model_id", "us/out"),
    ("torchdynamo", "eager", "torch_compile_backend", "eager"),
    ("include_inputs_for_metrics", True, "include_for_metrics", ["inputs"]),
    ("include_tokens_per_second", True, "include_num_input_tokens_seen", "all"),
]


@pytest.mark.parametrize(("old", "value", "new", "expected"), MOVED)
def test_an_argument_that_moved_arrives_and_is_told_once(old, value, new, expected) -> None:
    with installed():
        with pytest.warns(FutureWarning, match=rf"TrainingArguments\({old}=\).*{new}") as told:
            args = TrainingArguments("some/out", **{old: value})
        assert len(told) == 1
        assert told[0].filename == __file__
        assert getattr(args, new) == expected
        assert getattr(TrainingArguments("out", **{old: value}), new) == getattr(args, new)
    with pytest.raises(TypeError, match=old):
        TrainingArguments("out", **{old: value})


def test_all_arguments_that_are_gone_are_taken(monkeypatch) -> None:
    """Every row of the table, with the value that transformers 4.45 had by default."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    kinds = {bool: False, str | None: "x", int | None: 0, float | None: 0.0}
    given: dict[str, Any] = {name: kinds[row.kind] for name, row in TRAINING_ARGUMENTS.items()}
    given.update(evaluation_strategy="no", torchdynamo="eager")
    with installed(), pytest.warns(FutureWarning) as told:
        args = transformers.Seq2SeqTrainingArguments("out", report_to=[], **given)
    assert len(told) == len(TRAINING_ARGUMENTS)
    assert (args.use_cpu, args.optim, args.train_sampling_strategy) == (
        False,
        TrainingArguments("out").optim,
        "random",
    )
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "x"


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 0), (0.1, 10), (1.0, 100)])
def test_a_warm_up_ratio_is_that_part_of_all_steps(ratio: float, steps: int) -> None:
    with installed(), pytest.warns(FutureWarning, match="warmup_steps"):
        args = TrainingArguments("out", warmup_ratio=ratio)
    assert args.get_warmup_steps(100) == steps


def test_a_number_of_warm_up_steps_goes_before_a_ratio_and_a_wrong_ratio_is_refused() -> None:
    with installed():
        with pytest.warns(FutureWarning):
            args = TrainingArguments("out", warmup_ratio=0.1, warmup_steps=7)
        assert args.warmup_steps == 7
        with pytest.raises(ValueError, match=r"warmup_ratio=1.5"):
            TrainingArguments("out", warmup_ratio=1.5)


def test_classes_that_scripts_derive_and_their_command_lines_take_the_old_arguments() -> None:
    with installed():

        @dataclass
        class Arguments(transformers.TrainingArguments):
            layers: str = field(default="all")
            optim: str = field(default="adamw_torch")

        with pytest.warns(FutureWarning, match="eval_strategy"):
            args = Arguments("out", evaluation_strategy="steps", eval_steps=5, layers="3;9")
        assert (args.eval_strategy, args.layers) == ("steps", "3;9")
        line = ["--output_dir", "out", "--warmup_ratio", "0.03", "--overwrite_output_dir"]
        with pytest.warns(FutureWarning) as told:
            (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses(
                [*line, "--save_safetensors", "False", "--tf32", "False"]
            )
        assert len(told) == 3
        assert args.warmup_steps == 0.03
        assert dataclasses.replace(args, layers="1").warmup_steps == 0.03


def test_arguments_that_are_assigned_later_arrive_too(tmp_path) -> None:
    with installed():
        args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
        args.evaluation_strategy = "epoch"
        with pytest.warns(FutureWarning, match="eval_strategy"):
            transformers.Trainer(torch.nn.Linear(2, 2), args, eval_dataset=[{"x": 1}])
        assert args.eval_strategy == "epoch"
        args.eval_strategy = "no"
        transformers.Trainer(torch.nn.Linear(2, 2), args)
        assert args.eval_strategy == "no"


def test_a_trainer_of_ones_own_as_many_projects_copied_it_from_pyreft(tmp_path) -> None:
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(TINY_CHAT), edited()
    with installed():

        class CopiedTrainer(transformers.Trainer):
            def compute_loss(self, intervenable, inputs, return_outputs=False):
                places = inputs["intervention_locations"].permute(1, 0, 2).tolist()
                _, outputs = intervenable(
                    {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]},
                    unit_locations={"sources->base": (None, places)},
                    labels=inputs["labels"],
                )
                return (outputs, outputs) if return_outputs else outputs.loss

        start = trained(model)
        args = arguments(tmp_path, max_steps=2, remove_unused_columns=False)
        with pytest.warns(FutureWarning, match="processing_class"):
            trainer = CopiedTrainer(
                model=model,
                tokenizer=tokenizer,
                args=args,
                train_dataset=rows(4),
                data_collator=collate,
            )
        trainer.train()
    assert not any(torch.equal(value, start[name]) for name, value in trained(model).items())


def test_trainers_take_their_tokenizer_by_its_old_name(tmp_path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY_CHAT)
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    with installed():
        with pytest.warns(FutureWarning, match=r"Trainer\(tokenizer=\).*processing_class"):
            trainer = transformers.Trainer(torch.nn.Linear(2, 2), args, tokenizer=tokenizer)
        assert trainer.tokenizer is trainer.processing_class is tokenizer
        trainer.tokenizer = None
        assert trainer.processing_class is None


def test_quantization_that_is_not_wanted_is_told_once_and_left_out() -> None:
    """The lines of pyreft's `examples/loreft/train.py`."""
    off = {"load_in_8bit": False, "device_map": "cpu"}
    with installed():
        with pytest.warns(FutureWarning, match=r"load_in_8bit=.*BitsAndBytesConfig"):
            config = transformers.AutoConfig.from_pretrained(
                TINY_CHAT, num_labels=3, finetuning_task="cola", **off
            )
        classifier = transformers.AutoModelForSequenceClassification.from_pretrained(
            TINY_CHAT, config=config, torch_dtype=torch.float32, **off
        )
        assert classifier.num_labels == 3
        with pytest.warns(FutureWarning, match="load_in_4bit"):
            transformers.LlamaForCausalLM.from_pretrained(TINY_CHAT, load_in_4bit=False)


def test_quantization_that_is_wanted_becomes_a_config_of_it() -> None:
    kwargs: dict[str, Any] = {"load_in_8bit": True, "llm_int8_threshold": 5.0, "revision": "main"}
    with pytest.warns(FutureWarning), installed():
        settle_loading(kwargs, is_model=True)
    config = kwargs.pop("quantization_config")
    assert (config.load_in_8bit, config.llm_int8_threshold, config.load_in_4bit) == (True, 5, False)
    assert kwargs == {"revision": "main"}
    twice = {"load_in_8bit": True, "quantization_config": config}
    with (
        installed(),
        pytest.warns(FutureWarning),
        pytest.raises(ValueError, match="load_in_8bit=True and a quantization_config"),
    ):
        settle_loading(twice, is_model=True)


def test_the_other_old_arguments_of_loading(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        transformers.PreTrainedTokenizerBase,
        "from_pretrained",
        classmethod(lambda cls, *args, **kwargs: seen.append(kwargs)),
    )
    given = {"use_auth_token": "secret", "resume_download": True, "use_fast": False}
    with installed(), pytest.warns(FutureWarning) as told:
        transformers.PreTrainedTokenizerBase.from_pretrained("x", **given)
    assert len(told) == 2
    assert seen == [{"token": "secret", "use_fast": False}]
    flash: dict[str, Any] = {"use_flash_attention_2": True}
    with installed(), pytest.warns(FutureWarning, match="attn_implementation"):
        settle_loading(flash, is_model=True)
    assert flash == {"attn_implementation": "flash_attention_2"}


def test_tokenizers_load_and_answer_as_they_did() -> None:
    with installed():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            TINY_CHAT, model_max_length=64, padding_side="right", use_fast=False
        )
        assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", 64)
        chat = [{"role": "user", "content": "Hello"}]
        with pytest.warns(FutureWarning, match="return_dict"):
            ids = tokenizer.apply_chat_template(chat, return_tensors="pt")
        assert isinstance(ids, torch.Tensor)
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids[0].tolist()
        whole = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt")
        assert torch.equal(whole["input_ids"], ids)
        with pytest.warns(FutureWarning, match="encode_plus"):
            assert tokenizer.encode_plus(text) == tokenizer(text)


def test_adamw_is_torchs_with_the_old_defaults() -> None:
    with installed():
        from transformers import AdamW

        layer = torch.nn.Linear(2, 2)
        with pytest.warns(FutureWarning, match=r"torch.optim.AdamW"):
            optimizer = AdamW(layer.parameters(), lr=0.1, no_deprecation_warning=True)
    assert isinstance(optimizer, torch.optim.AdamW)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"]) == (0.1, 1e-6, 0.0)
    assert not hasattr(transformers, "AdamW")


def test_a_warning_points_into_the_script() -> None:
    module = types.ModuleType("some_script")
    exec(compile("def act(tell):\n    tell('old', 'new')\n", "script.py", "exec"), vars(module))
    with installed(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        module.act(tell)
        module.act(tell)
    assert [(one.filename, one.lineno, str(one.message)) for one in told] == [
        ("script.py", 2, "old: new")
    ]
