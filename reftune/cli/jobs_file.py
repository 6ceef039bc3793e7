"""The file of `reftune train --jobs`: a list of objects whose keys are options."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Options = dict[str, argparse.Action]
Numbered = Iterator[tuple[str, Any]]

# What a job may also give as JSON has it, besides the text that the command line takes.
ALSO = {"layers": (int, list), "decode": (int,)}
TYPES = {int: "a whole number", float: "a number", None: "text"}
KINDS = (".jsonl", ".json", ".yaml", ".yml")


def read_jobs(file: Path, options: Options) -> list[tuple[str, dict[str, Any]]]:
    """Read a list of jobs: JSONL, or a list in JSON or YAML.

    Args:
        file: the list.
        options: the command-line options that a job may set, by name, such as ``"batch_size"``.

    Returns:
        For each job where it stands, such as ``"jobs.jsonl, line 3"``, and its options.

    Raises:
        ValueError: the file is no such list, or a job has an unknown option or a wrong value; the
            message names file, line and key.
        FileNotFoundError: there is no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(f'jobs "{file}": no such file')
    if file.suffix.lower() not in KINDS:
        raise ValueError(f'jobs "{file}": expected a file of the kind {", ".join(KINDS)}')
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f'jobs "{file}" is not text ({error})') from None
    read = {".jsonl": _json_lines, ".json": _json_list}.get(file.suffix.lower(), _yaml_list)
    jobs = [(where, _checked(job, where, options)) for where, job in read(text, file)]
    if not jobs:
        raise ValueError(f'jobs "{file}": no jobs in it')
    return jobs


def _json_lines(text: str, file: Path) -> Numbered:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, _parsed(line, where)


def _json_list(text: str, file: Path) -> Numbered:
    for number, job in enumerate(_listed(_parsed(text, str(file)), file), start=1):
        yield f"{file}, job {number}", job


def _yaml_list(text: str, file: Path) -> Numbered:
    import yaml

    try:
        jobs, nodes = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not YAML ({error})") from None
    values: Any = getattr(nodes, "value", [])
    for job, node in zip(_listed(jobs, file), values, strict=True):
        yield f"{file}, line {node.start_mark.line + 1}", job


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from None


def _listed(jobs: Any, file: Path) -> list:
    if not isinstance(jobs, list):
        raise ValueError(f"{file}: expected a list of jobs, got {jobs!r:.60}")
    return jobs


def _checked(job: Any, where: str, options: Options) -> dict[str, Any]:
    """Return the values of a job by the names of the options."""
    if not isinstance(job, dict):
        raise ValueError(f'{where}: expected an object such as {{"out": "a"}}, got {job!r:.60}')
    values: dict[str, Any] = {}
    for key, value in job.items():
        name = str(key).replace("-", "_")
        if name not in options:
            raise ValueError(f'{where}: unknown key "{key}"; expected some of {", ".join(options)}')
        if name in values:
            raise ValueError(f'{where}: "{key}" is given twice')
        values[name] = _value(value, f'{where}: "{key}"', options[name])
    return values


def _value(value: Any, where: str, option: argparse.Action) -> Any:
    """Return the value of an option as the command line would give it."""
    truth = isinstance(value, bool)
    if option.nargs == 0:
        if truth:
            return value
        raise ValueError(f"{where} is {value!r:.60}; expected true or false")
    kind: Any = option.type
    if isinstance(value, str) and kind is not None:
        try:
            value = kind(value)  # YAML takes 1e-3 for a text
        except ValueError:
            pass
    if option.dest in ALSO and isinstance(value, ALSO[option.dest]) and not truth:
        return str(value) if isinstance(value, int) else _listed_layers(value, where)
    accepted = {int: (int,), float: (int, float)}.get(kind, (str,))
    if truth or not isinstance(value, accepted):
        raise ValueError(f"{where} is {value!r:.60}; expected {TYPES[kind]}")
    if option.choices is not None and value not in option.choices:
        raise ValueError(f"{where} is {value!r}; expected one of {', '.join(option.choices)}")
    return value


def _listed_layers(value: Any, where: str) -> str:
    if value and all(isinstance(layer, int) and not isinstance(layer, bool) for layer in value):
        return ";".join(map(str, value))
    raise ValueError(f"{where} is {value!r:.60}; expected a list of layers")
