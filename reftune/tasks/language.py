"""The tasks in which a language model writes the answer.

Where paper and code disagree, the code is followed, with which the published scores were made: it
allows 512 new tokens in arithmetic (the paper says 32) and decodes greedily (the paper: beams).
Rows are those of LLM-Adapters; prompts of commonsense, and what is read from answers, are ReFT's:
https://github.com/stanfordnlp/pyreft/tree/dafd099/examples/loreft
"""

from reftune.data import Row
from reftune.rendering import ALPACA_WITH_INPUT, ALPACA_WITHOUT_INPUT
from reftune.tasks.answers import after, as_number, first_letter, last_number
from reftune.tasks.task import Judged, Task

COMMONSENSE_TRIGGER = "the correct answer is "
GSM8K_QUESTION = (
    "{question}\nAnswer the above question. First think step by step and then answer the final "
    "number.\n"
)
CLOSE = 0.001  # numbers that lie no further apart are the same


def _alpaca(row: Row) -> str:
    template = ALPACA_WITH_INPUT if row.get("input") else ALPACA_WITHOUT_INPUT
    return template.format(instruction=row["instruction"], input=row.get("input"))


def _judge_commonsense(text: str, row: Row) -> Judged:
    found = after(text, COMMONSENSE_TRIGGER).strip()
    return Judged(found, found == row["answer"].strip())


def _judge_arithmetic(text: str, row: Row) -> Judged:
    """Compare numbers, or letters where the answer is one (AQuA)."""
    answer = str(row["answer"]).strip()
    number = as_number(answer)
    if number is None:
        letter = first_letter(text)
        return Judged(letter, letter == answer)
    return _judge_number(text, number)


def _judge_number(text: str, number: float | None) -> Judged:
    found = last_number(text)
    right = found is not None and number is not None and abs(found - number) <= CLOSE
    return Judged("" if found is None else f"{found:g}", right)


COMMONSENSE = Task(
    name="commonsense",
    source="LLM-Adapters",
    train=("commonsense_170k",),
    tests=(
        "boolq",
        "piqa",
        "social_i_qa",
        "hellaswag",
        "winogrande",
        "ARC-Easy",
        "ARC-Challenge",
        "openbookqa",
    ),
    prompt=lambda row: row["instruction"] + "\n",
    completion=lambda row: COMMONSENSE_TRIGGER + row["answer"],
    judge=_judge_commonsense,
    max_new_tokens=32,
)
ARITHMETIC = Task(
    name="arithmetic",
    source="LLM-Adapters",
    train=("math_10k",),
    tests=("AQuA", "gsm8k", "mawps", "SVAMP", "AddSub", "MultiArith", "SingleEq"),
    prompt=lambda row: ALPACA_WITHOUT_INPUT.format(instruction=row["instruction"]),
    completion=lambda row: row["output"],
    judge=_judge_arithmetic,
    max_new_tokens=512,
    leaked=frozenset({"AddSub", "MultiArith", "SingleEq"}),
)
GSM8K = Task(
    name="gsm8k",
    source="GSM8K, with LoftQ's prompt",
    train=("gsm8k_openai",),
    tests=("gsm8k_openai",),
    prompt=lambda row: GSM8K_QUESTION.format(question=row["question"]),
    completion=lambda row: row["answer"].replace("####", "The final answer is: "),
    judge=lambda text, row: _judge_number(text, last_number(row["answer"].rpartition("####")[2])),
    max_new_tokens=256,
    hub="openai/gsm8k:main",
)
INSTRUCTIONS = Task(
    name="instructions",
    source="Stanford Alpaca",
    train=("ultrafeedback",),
    tests=("alpaca_eval",),
    prompt=_alpaca,
    completion=lambda row: row["output"],
    judge=None,
    max_new_tokens=1536,  # the code allows 2,048 with the prompt
)
LANGUAGE = {task.name: task for task in (COMMONSENSE, ARITHMETIC, GSM8K, INSTRUCTIONS)}
