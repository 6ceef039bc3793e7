"""The paper's prompts, word for word, and what is read from answers."""

import json
import os
from pathlib import Path

import pytest

from reftune.tasks import LANGUAGE as TASKS
from reftune.tasks import Score
from reftune.tasks.answers import after, first_letter, last_number
from reftune.tasks.folder import find_set, read_set

ASSETS = Path(os.environ.get("REFTUNE_ASSETS", Path(__file__).parents[2] / "shared"))
BOOLQ = {
    "instruction": "Please answer the following question with true or false, question: is it?\n\n"
    "Answer format: true/false",
    "input": "",
    "output": "the correct answer is true",
    "answer": "true",
}


def judged(task: str, text: str, **row: str) -> tuple[str, bool]:
    judge = TASKS[task].judge
    assert judge is not None
    one = judge(text, row)
    return one.found, one.right


@pytest.mark.parametrize(
    ("task", "row", "prompt", "completion"),
    [
        ("commonsense", BOOLQ, BOOLQ["instruction"] + "\n", "the correct answer is true"),
        (
            "arithmetic",
            {"instruction": "What is 2 + 2?", "input": "", "output": "It is 4.", "answer": "4"},
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nWhat is 2 + 2?\n\n### Response:\n",
            "It is 4.",
        ),
        (
            "gsm8k",
            {"question": "How many?", "answer": "Two and two.\n#### 4"},
            "How many?\nAnswer the above question. First think step by step and then answer the "
            "final number.\n",
            "Two and two.\nThe final answer is:  4",
        ),
        (
            "instructions",
            {"instruction": "Sum up.", "input": "A {text} of 100%", "output": "B"},
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nSum up.\n\n### Input:\nA {text} of 100%\n\n### Response:\n",
            "B",
        ),
    ],
    ids=["commonsense", "arithmetic", "gsm8k", "instructions"],
)
def test_prompts_and_completions(task, row, prompt, completion):
    assert TASKS[task].example(row, "row 1") == {"prompt": prompt, "completion": completion}
    assert TASKS[task].question(row, "row 1") == {"prompt": prompt}


@pytest.mark.parametrize(
    ("text", "found", "right"),
    [
        ("the correct answer is true", "true", True),
        ("the correct answer is  true \n", "true", True),
        ("I think the correct answer is true", "true", True),
        ("the correct answer is true.", "true.", False),
        ("the correct answer is false", "false", False),
        ("the correct answer is true the correct answer is false", None, False),
        ("true", "", False),
        ("", "", False),
    ],
)
def test_a_commonsense_answer_is_all_that_follows_the_phrase(text, found, right):
    got = judged("commonsense", text, answer="true")
    assert got[1] == right
    assert found is None or got[0] == found


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("so it is 1,234.5 dollars", True),
        ("first 7, then 1234.5", True),
        ("the answer is 1234.5.", True),
        ("1234.5005", True),
        ("1234.502", False),
        ("1234.5 is 3 more", False),
        ("-1234.5", False),
        ("none", False),
        ("", False),
    ],
)
def test_an_arithmetic_answer_is_the_last_number(text, right):
    assert judged("arithmetic", text, answer="1234.5")[1] == right
    assert judged("gsm8k", text, answer="steps 3\n#### 1,234.5")[1] == right


@pytest.mark.parametrize(
    ("text", "letter"), [("C", "C"), ("(B) or C", "B"), ("the answer is (E)", "E"), ("none", "")]
)
def test_a_letter_is_the_first_one_wherever_it_stands(text, letter):
    assert first_letter(text) == letter
    assert judged("arithmetic", text, answer="B") == (letter, letter == "B")


def test_reading_of_texts():
    assert after("a: b: c", ": ") == "b: c"
    assert last_number("3-4") == -4
    assert last_number("no 1.") == 1
    assert last_number("-") is None


def test_a_row_of_another_form_is_an_error():
    with pytest.raises(ValueError, match=r"row 3: a row of commonsense .*instruction"):
        TASKS["commonsense"].example({"question": "?"}, "row 3")


def test_the_interval_is_wilsons():
    low, high = Score(8, 10).interval()
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert Score(0, 5).interval()[0] == 0
    assert Score(5, 5).interval()[1] == 1


def test_sets_are_found_by_name(tmp_path):
    (tmp_path / "boolq").mkdir()
    (tmp_path / "boolq" / "test.json").write_text(json.dumps([BOOLQ]))
    (tmp_path / "commonsense_170k.json").write_text(json.dumps(BOOLQ) + "\n" + json.dumps(BOOLQ))
    assert read_set(find_set(tmp_path, "BoolQ", "test")) == [BOOLQ]
    assert len(read_set(find_set(tmp_path, "commonsense_170k", "train"))) == 2
    with pytest.raises(FileNotFoundError, match="no train set boolq"):
        find_set(tmp_path, "boolq", "train")
    (tmp_path / "other" / "boolq").mkdir(parents=True)
    (tmp_path / "other" / "boolq" / "test.json").write_text("[]")
    with pytest.raises(ValueError, match="2 times"):
        find_set(tmp_path, "boolq", "test")
    with pytest.raises(ValueError, match="no rows"):
        read_set(tmp_path / "other" / "boolq" / "test.json")


@pytest.mark.skipif(not ASSETS.is_dir(), reason=f"{ASSETS} is not there")
@pytest.mark.parametrize(
    ("task", "name", "count"),
    [
        ("commonsense", "boolq", 3270),
        ("commonsense", "piqa", 1838),
        ("commonsense", "social_i_qa", 1954),
        ("commonsense", "winogrande", 1267),
        ("commonsense", "ARC-Easy", 2376),
        ("commonsense", "ARC-Challenge", 1172),
        ("commonsense", "openbookqa", 500),
        ("arithmetic", "AQuA", 254),
        ("arithmetic", "gsm8k", 1319),
        ("arithmetic", "SVAMP", 1000),
        ("arithmetic", "mawps", 238),
    ],
)
def test_the_real_test_sets_have_the_form_and_their_own_answers_are_right(task, name, count):
    folder = "commonsense" if task == "commonsense" else "math"
    rows = read_set(find_set(ASSETS / "data" / folder, name, "test"))
    assert len(rows) == count
    judge = TASKS[task].judge
    assert judge is not None
    for number, row in enumerate(rows, start=1):
        example = TASKS[task].example(row, f"row {number}")
        right = example["completion"] if task == "commonsense" else f"It is {row['answer']}"
        assert judge(right, row).right
        assert not judge("", row).right
