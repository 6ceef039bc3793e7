"""Answers for many prompts in a JSONL file.

The answers are written in the order of the prompts, batch by batch, and the file's whole lines are
the only record of how far it got. How they were made is in a file beside it, `FILE.settings.json`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel, get_peft_model_state_dict
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from reftune.adapter_digest import adapter_digest
from reftune.generation import (
    GenerationSettings,
    Model,
    encode_prompts,
    generate_answers,
)
from reftune.output_folder import write_atomically

# Given the number of batches that are done, the answers of those after them.
Answers = Callable[[int], Iterator[list[str]]]


def generate_file(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    out: str | Path,
    settings: GenerationSettings | None = None,
    overwrite: bool = False,
    told: Mapping[str, Any] | None = None,
) -> int:
    """Answer all rows into a JSONL file, or go on with a file that stopped half-way.

    Args:
        model: with or without an adapter.
        rows: see `reftune.data.load_rows` with ``answers=False``.
        out: the file, see `write_answers`.
        overwrite: start anew whatever is in the file.
        told: more of the model than `fingerprint` sees, to tell it from others.

    Returns:
        The number of rows that were already there.

    Raises:
        FileExistsError: the file is complete already.
        ValueError: a line of the file does not belong to its row, or the file was begun with
            another model, adapter or settings.
    """
    settings = settings or GenerationSettings()

    def answers(first_batch: int) -> Iterator[list[str]]:
        prompts = encode_prompts(rows, tokenizer, settings.template)
        return generate_answers(model, tokenizer, prompts, settings, first_batch)

    made_by = {**fingerprint(model), **asdict(settings), **(told or {})}
    return write_answers(rows, answers, settings.batch_size, out, made_by, overwrite)


def write_answers(
    rows: Dataset,
    answers: Answers,
    batch_size: int,
    out: str | Path,
    made_by: dict[str, Any],
    overwrite: bool = False,
) -> int:
    """Write answers into a JSONL file, or go on with a file that stopped half-way.

    Each line holds the row's ``index`` (from 0), its columns, and ``output``, the answer. A column
    of the row's own called ``output`` or ``index`` is kept as ``input_output``, ``input_index``.

    Args:
        answers: gives the answers of all batches but so many of the first ones.
        batch_size: rows of a batch.
        out: the file. Whole batches in it count as done; what comes after them (a torn line, say)
            is written anew.
        made_by: what must be the same for a file to be gone on with.
        overwrite: start anew whatever is in the file.

    Returns:
        The number of rows that were already there.

    Raises:
        FileExistsError: the file is complete already.
        ValueError: a line of the file does not belong to its row, or the file was begun in another
            way.
    """
    out = Path(out)
    there = _whole_lines(rows, out, made_by, overwrite)
    done = len(there) // batch_size
    kept = there[: done * batch_size]

    def begin() -> None:
        write_atomically(_record_of(out), json.dumps(made_by, indent=2) + "\n")
        write_atomically(out, "".join(kept))

    _append(out, begin, answer_lines(rows, answers(done), len(kept)), len(kept), len(rows))
    return len(kept)


def _record_of(out: Path) -> Path:
    return out.with_name(out.name + ".settings.json")


def _whole_lines(rows: Dataset, out: Path, made_by: dict[str, Any], overwrite: bool) -> list[str]:
    there = [] if overwrite else lines_there(out, rows)
    if there:
        check_same(_record_of(out), made_by)
    if len(there) == len(rows):
        raise FileExistsError(
            f'"{out}" has the answers to all {len(rows)} rows already (--overwrite starts anew)'
        )
    return there


def _append(
    out: Path, begin: Callable[[], None], lines: Iterator[dict[str, Any]], done: int, total: int
) -> None:
    """Write lines as they come; the file is begun with the first one, and not touched before."""
    with tqdm(total=total, initial=done, desc="answering", unit="row", dynamic_ncols=True) as bar:
        first = list(islice(lines, 1))
        begin()
        with out.open("a", encoding="utf-8") as file:
            for line in chain(first, lines):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                bar.update()


def fingerprint(model: Model) -> dict[str, Any]:
    """Tell a model and its active adapter from others, by name and by the adapter's content."""
    if not isinstance(model, PeftModel):
        return {"model": model.name_or_path, "adapter": "none"}
    return {
        "model": model.get_base_model().name_or_path,
        "adapter": adapter_digest(model.active_peft_config, get_peft_model_state_dict(model)),
    }


def check_same(record: Path, made_by: dict[str, Any]) -> None:
    """Compare how a file of answers was begun with how it is to be continued.

    Raises:
        ValueError: something differs, or there is no record.
    """
    begun = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    other = [name for name, value in made_by.items() if begun.get(name) != value]
    if other:
        raise ValueError(
            f"{record}: the answers were begun with another {', '.join(other)}; expected the same "
            "to go on (or --overwrite)"
        )


def answer_lines(
    rows: Dataset, answers: Iterable[list[str]], first_row: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield the lines of the file, as dicts, from a row on.

    Args:
        answers: batch by batch, to the rows from that one on.
        first_row: its number, from 0.
    """
    number = first_row
    for batch in answers:
        for answer in batch:
            yield {**_line(number, dict(rows[number])), "output": answer}
            number += 1


def lines_there(out: Path, rows: Dataset) -> list[str]:
    """Return the whole lines of a file of answers after comparing them with the rows.

    Raises:
        ValueError: a line is not the answer to its row.
    """
    if not out.exists():
        return []
    there = []
    # Not splitlines(), which also splits at characters that JSON leaves as they are.
    for number, line in enumerate(out.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            found = json.loads(line)
            row = {name: cell for name, cell in found.items() if name != "output"}
        except (json.JSONDecodeError, AttributeError):
            raise ValueError(f"{out}, line {number}: {line!r:.60} is not an answer") from None
        if number > len(rows) or row != _line(number - 1, dict(rows[number - 1])):
            raise ValueError(
                f"{out}, line {number}: {line!r:.60} does not belong to the row of that number; "
                "expected answers to these rows (or --overwrite)"
            )
        there.append(line + "\n")
    return there


def _line(index: int, row: dict[str, Any]) -> dict[str, Any]:
    taken = ("index", "output")
    cells = {
        f"input_{name}" if name in taken else name: cell
        for name, cell in row.items()
        if cell is not None
    }
    # As it reads from the file, where dates, say, are text.
    return json.loads(json.dumps({"index": index, **cells}, default=str))
