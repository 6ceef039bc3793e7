"""lm-evaluation-harness scores a ReFT as forward passes written out by hand do, row by row."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import transformers as tf
import yaml
from peft import LoraConfig, get_peft_model

from tests.adapters import LLAMA, pair
from tests.tiny_models import ENCODER, GATED
from tests.tiny_text import SHARED, byte_level

pytest.importorskip("lm_eval")
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from reftune.harness import ReftLM

pytestmark = pytest.mark.filterwarnings(
    # The harness and what it imports: https://github.com/EleutherAI/lm-evaluation-harness
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)
ARC = SHARED / "data" / "commonsense" / "ARC-Easy" / "test.json"
TOKENIZER = byte_level(bos=True)
SHAPE = {**GATED, "vocab_size": len(TOKENIZER), "max_position_embeddings": 160}
ARCHITECTURE = replace(LLAMA, config=partial(tf.LlamaConfig, **SHAPE))
PAIRS = [
    ("What is the capital of France?", " Paris"),
    ("What is the capital of France?", " a lazy dog over there"),
    ("The", " quick brown fox"),
    ("Or", " not"),
    ("The quick brown", " fox"),
    ("", " the"),
    ("Below is ", "an instruction"),
]
TOLERANCE = {"rel": 1e-4, "abs": 2e-3}


def harness_model(kind=ReftLM, batch_size=4, **config):
    model, reference = pair(ARCHITECTURE, **config)
    return kind(pretrained=model, tokenizer=TOKENIZER, batch_size=batch_size), reference


def by_hand(reference, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Score one request: one row, no padding, edits counted in the context."""
    row = (context + continuation)[-SHAPE["max_position_embeddings"] - 1 : -1]
    logits = reference.logits(row, len(row) - len(continuation) + 1)[-len(continuation) :]
    logs, wanted = logits.log_softmax(-1), torch.tensor(continuation)
    greedy = logits.argmax(-1).tolist() == continuation
    return float(logs[torch.arange(len(wanted)), wanted].sum()), greedy


def tokens_of(context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Split as the harness does: a space at the end of the context begins the continuation."""
    if not context:
        return [TOKENIZER.bos_token_id], TOKENIZER.encode(continuation, add_special_tokens=False)
    stripped = context.rstrip()
    whole, first = TOKENIZER.encode(context + continuation), TOKENIZER.encode(stripped)
    return whole[: len(first)], whole[len(first) :]


def scored(model, pairs):
    return model.loglikelihood([SimpleNamespace(args=one) for one in pairs], disable_tqdm=True)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    "config",
    [
        {"positions": "l1"},
        {"positions": "f7+l7"},
        {"positions": "f2+l3", "tied": False},
        {"positions": "f4"},
        {"positions": "all"},
        {"positions": "l2", "decode": "all"},
        {"positions": "f1", "decode": 2},
    ],
    ids=str,
)
def test_log_likelihoods_are_those_of_one_row_after_the_other(config, batch_size):
    model, reference = harness_model(batch_size=batch_size, **config)
    for one, (score, greedy) in zip(PAIRS, scored(model, PAIRS), strict=True):
        expected, expected_greedy = by_hand(reference, *tokens_of(*one))
        assert score == pytest.approx(expected, **TOLERANCE), one
        assert greedy == expected_greedy


def test_the_likeliest_continuation_is_called_so():
    model, reference = harness_model(positions="l1")
    context = TOKENIZER.encode("The quick")
    continuation = reference.greedy(context, 4)
    last = (continuation[-1] + 1) % len(TOKENIZER)
    other = [*continuation[:-1], last]
    requests = [(("", ""), context, continuation), (("", ""), context, other)]
    assert [greedy for _, greedy in model._loglikelihood_tokens(requests, True)] == [True, False]


def test_the_same_tokens_with_another_end_of_the_prompt_are_another_request():
    model, reference = harness_model(positions="l1")
    row = TOKENIZER.encode("The quick brown fox jumps")
    splits = [(None, row[:cut], row[cut:]) for cut in range(1, len(row))]
    scores = [score for score, _ in model._loglikelihood_tokens(splits, True)]
    expected = [by_hand(reference, *tokens)[0] for _, *tokens in splits]
    assert scores == pytest.approx(expected, **TOLERANCE)


def test_what_is_too_long_loses_the_beginning_of_its_context(caplog):
    model, reference = harness_model(positions="f2+l2")
    tokens = [5 + number % 50 for number in range(200)]
    ((score, _),) = model._loglikelihood_tokens([(None, tokens[:190], tokens[190:])], True)
    assert score == pytest.approx(by_hand(reference, tokens[:190], tokens[190:])[0], **TOLERANCE)
    assert "the first 39 are left out" in caplog.text
    with pytest.raises(ValueError, match="continuation of 161 tokens: expected"):
        model._loglikelihood_tokens([(None, tokens[:3], tokens[:161])], True)


def test_the_harness_chooses_the_size_of_batches():
    model, reference = harness_model(batch_size="auto", positions="l1")
    for one, (score, _) in zip(PAIRS, scored(model, PAIRS), strict=True):
        assert score == pytest.approx(by_hand(reference, *tokens_of(*one))[0], **TOLERANCE)


def test_the_own_model_of_the_harness_agrees_where_the_first_tokens_or_all_are_edited():
    """And it does not where the end of the prompt matters, or the prompt is short."""
    long = [one for one in PAIRS if len(tokens_of(*one)[0]) >= 4]
    for config in ({"positions": "f4"}, {"positions": "all", "decode": "all"}):
        stock, reference = harness_model(HFLM, **config)
        for one, (score, _) in zip(long, scored(stock, long), strict=True):
            assert score == pytest.approx(by_hand(reference, *tokens_of(*one))[0], **TOLERANCE)
    wrong = [({"positions": "l1"}, PAIRS[1]), ({"positions": "all"}, PAIRS[1])]
    for config, one in [*wrong, ({"positions": "f4"}, PAIRS[2])]:
        stock, reference = harness_model(HFLM, **config)
        ((score, _),) = scored(stock, [one])
        assert score != pytest.approx(by_hand(reference, *tokens_of(*one))[0], **TOLERANCE)


def test_texts_without_a_prompt_are_scored_only_if_every_token_is_edited():
    text = "The quick brown fox jumps over the lazy dog"
    request = [SimpleNamespace(args=(text,))]
    model, reference = harness_model(positions="all", decode="all")
    begin, tokens = [TOKENIZER.bos_token_id], TOKENIZER.encode(text)
    (score,) = model.loglikelihood_rolling(request, disable_tqdm=True)
    assert score == pytest.approx(by_hand(reference, begin, tokens)[0], **TOLERANCE)
    model, _ = harness_model(positions="all")
    with pytest.raises(ValueError, match='"default": a task of whole texts has no prompt'):
        model.loglikelihood_rolling(request)


def test_a_model_without_a_reft_or_that_is_no_decoder_is_refused():
    lora = get_peft_model(ARCHITECTURE.build(), LoraConfig(task_type="CAUSAL_LM"))
    t5 = tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    encoder = tf.BertForMaskedLM(tf.BertConfig(**{**ENCODER, "vocab_size": len(TOKENIZER)}))
    for model in (ARCHITECTURE.build(), lora, t5, encoder):
        with pytest.raises(ValueError, match=r'model "reft".*expected a ReFT adapter'):
            ReftLM(pretrained=model, tokenizer=TOKENIZER)


def write_tasks(folder, rows: list[dict]) -> None:
    """Write two tasks over the same local questions: one to choose in, one to answer."""
    (folder / "rows.json").write_text(json.dumps(rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.json")}},
        "test_split": "test",
        "doc_to_text": "{{question}}\nAnswer:",
    }
    choosing = {
        **common,
        "task": "local_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}],
    }
    answering = {
        **common,
        "task": "local_answer",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[right]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    for task in (choosing, answering):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))


QUESTIONS = [
    {"question": "What jumps over the dog?", "choices": ["The fox", "France", "46"], "right": 0},
    {"question": "12 + 34?", "choices": ["Paris", "46"], "right": 1},
]


def arc_questions(count: int) -> list[dict]:
    """The first questions of ARC-Easy, cut short, as a reader of its text would see them."""
    rows = []
    for row in json.loads(ARC.read_text(encoding="utf-8"))[:count]:
        asked, _, rest = row["instruction"].partition("\n\n")
        parts = rest.split("\n\n")[0].replace("Answer", "|Answer").split("|")[1:]
        choices = [part.partition(": ")[2].strip()[:30] for part in parts]
        question = asked.partition("question: ")[2][:60]
        rows.append({"question": question, "choices": choices, "right": int(row["answer"][6:]) - 1})
    return rows


@pytest.mark.parametrize("source", ["written", "ARC-Easy"])
def test_a_task_of_local_rows(source, tmp_path, monkeypatch):
    """Accuracy and answers of the harness are those that the rows give by hand."""
    if source == "ARC-Easy" and not ARC.exists():
        pytest.skip(f"no {ARC}; REFTUNE_ASSETS names the folder")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    rows = QUESTIONS if source == "written" else arc_questions(3)
    write_tasks(tmp_path, rows)
    model, reference = harness_model(positions="f2+l2")
    found = simple_evaluate(
        model,
        tasks=["local_choice", "local_answer"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    right = 0
    for row, sample in zip(rows, found["samples"]["local_choice"], strict=True):
        context = f"{row['question']}\nAnswer:"
        expected = [by_hand(reference, *tokens_of(context, f" {c}"))[0] for c in row["choices"]]
        got = [float(one[0][0] if len(one) == 1 else one[0]) for one in sample["resps"]]
        assert got == pytest.approx(expected, **TOLERANCE)
        right += expected.index(max(expected)) == row["right"]
    assert found["results"]["local_choice"]["acc,none"] == pytest.approx(right / len(rows))
    for row, sample in zip(rows, found["samples"]["local_answer"], strict=True):
        context = TOKENIZER.encode(f"{row['question']}\nAnswer:")
        answer = TOKENIZER.decode(reference.greedy(context, 8), skip_special_tokens=True)
        assert sample["resps"] == [[answer.partition("\n")[0]]]


@pytest.mark.long
def test_the_command_line_of_the_harness(tmp_path):
    """`python -m reftune.harness` knows the model; `lm_eval` alone does not know the adapter."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model, reference = pair(ARCHITECTURE, positions="l1")
    ARCHITECTURE.build().save_pretrained(base)
    TOKENIZER.save_pretrained(base)
    model.save_pretrained(adapter)
    write_tasks(tmp_path, QUESTIONS)
    options = f"pretrained={base},peft={adapter},dtype=float32"
    arguments = ["--model_args", options, "--tasks", "local_choice", "--device", "cpu"]
    arguments += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-m", "reftune.harness", "--model", "reft", *arguments]
    command.append("--log_samples")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("samples_local_choice*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    for row, sample in zip(QUESTIONS, samples, strict=True):
        context = f"{row['question']}\nAnswer:"
        expected = [by_hand(reference, *tokens_of(context, f" {c}"))[0] for c in row["choices"]]
        got = [float(one[0]) for one in sample["filtered_resps"]]
        assert got == pytest.approx(expected, **TOLERANCE)
