"""Holds an uploaded file of examples against what can be learned from: chats, one on each line."""

import json
from pathlib import Path
from typing import Any

from reftune.server.errors import BadRequest

ROLES = ("system", "user", "assistant")
EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'
HARMLESS = ("parallel_tool_calls", False)  # teaches nothing: there are no tools
EMPTY: tuple[Any, ...] = (None, [])


def check_training_file(path: Path, most: int) -> None:
    """Look at every line of a file.

    Each is a JSON object with ``messages``, of which the last is the assistant's: the answer that
    is learned. Blank lines are no examples.

    Args:
        path: of the file.
        most: examples that it may have.

    Raises:
        BadRequest: a line is no such chat, or there are none or too many; names the line.
    """
    count = 0
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            where = f"line {number}"
            if raw.strip():
                count += 1
                _check_example(_parse(raw, where, number == 1), where)
            if count > most:
                raise _wrong(f"{where}: expected {most} examples at most")
    if not count:
        raise _wrong(f"the file holds no examples; expected lines such as {EXAMPLE}")


def _wrong(message: str) -> BadRequest:
    return BadRequest(message, "file", "invalid_training_file")


def _parse(raw: bytes, where: str, first: bool) -> dict[str, Any]:
    try:
        example = json.loads(raw.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        raise _wrong(f"{where} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _wrong(f"{where} is not JSON ({error.msg} at character {error.pos})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets as deep
        raise _wrong(f"{where} is not JSON that can be read") from None
    if not isinstance(example, dict):
        raise _wrong(f"{where}: {example!r:.60} is no object; expected {EXAMPLE}")
    return example


def _check_example(example: dict[str, Any], where: str) -> None:
    for key, value in example.items():
        if key != "messages" and value not in EMPTY and (key, value) != HARMLESS:
            raise _wrong(f'{where}: "{key:.60}" is not supported; expected "messages" alone')
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong(f'{where}: "messages" is {messages!r:.60}; expected a list of messages')
    for place, message in enumerate(messages):
        _check_message(message, f"{where}, messages[{place}]")
    last = messages[-1]
    if last["role"] != "assistant":
        raise _wrong(f"{where}: the last message is the {last['role']}'s; expected the assistant's")
    if not last["content"].strip() or last.get("weight") not in (None, 1):
        raise _wrong(f"{where}: the assistant's last answer is empty, or has the weight 0")
    if not any(message["content"].strip() for message in messages[:-1]):
        raise _wrong(f"{where}: the assistant answers nothing; expected a user's message before it")


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise _wrong(f'{where}: expected {{"role": "user", "content": "text"}}')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise _wrong(f"{where}: role {role!r:.60}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise _wrong(f"{where}: content is {content!r:.60}; expected text")
    if any("\ud800" <= character <= "\udfff" for character in content):
        raise _wrong(f"{where}: content holds half a character (a lone surrogate)")
    if message.get("name") is not None and not isinstance(message["name"], str):
        raise _wrong(f"{where}: name {message['name']!r:.60}; expected text")
    weight = message.get("weight")
    if weight is not None and (type(weight) is not int or weight not in (0, 1)):
        raise _wrong(f"{where}: weight {weight!r:.60}; expected 0 or 1")
    for key, value in message.items():
        if key not in ("role", "content", "name", "weight") and value not in EMPTY:
            raise _wrong(f'{where}: "{key:.60}" is not supported')
