"""From what a request asks to token ids: exactly those that `reftune generate` and training make.

An adapter edits positions of the prompt, so every token of it counts.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

from reftune.encoding import encode_prompt
from reftune.rendering import render
from reftune.server.errors import BadRequest

ROLES = ("system", "developer", "user", "assistant")
EMPTY: tuple[Any, ...] = (None, [], {}, "")


def encode_chat(messages: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenise a chat, up to where its answer begins.

    Args:
        messages: as they came, a list of objects with ``role`` and ``content``; a developer's are
            the system's.

    Raises:
        BadRequest: the messages are no chat, or the tokenizer has no template for chats.
    """
    if not tokenizer.chat_template:
        raise BadRequest(
            "this model has no chat template, so it cannot answer chats; expected a prompt for "
            "/v1/completions",
            "messages",
            "no_chat_template",
        )
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: expected a list with at least one message", "messages")
    turns = [_turn(message, f"messages[{place}]") for place, message in enumerate(messages)]
    if turns[-1]["role"] == "assistant":
        raise BadRequest(
            "the last message is the assistant's; expected one to be answered, such as the user's",
            "messages",
        )
    try:
        rendered = render({"messages": turns}, tokenizer, "chat", answers=False, where="messages")
    except ValueError as error:
        raise BadRequest(str(error), "messages") from error
    if not rendered.prompt.strip():
        raise BadRequest("messages: expected text in at least one of them", "messages")
    return encode_prompt(rendered, tokenizer)


def _turn(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise BadRequest(f'{where}: expected {{"role": "user", "content": "text"}}', where)
    role, name = message.get("role"), message.get("name")
    if role not in ROLES:
        expected = ", ".join(ROLES)
        raise BadRequest(f"{where}.role {role!r:.60}: expected one of {expected}", f"{where}.role")
    for key, value in message.items():
        if key not in ("role", "content", "name") and value not in EMPTY:
            raise BadRequest(f"{where}.{key:.60} is not supported", f"{where}.{key:.60}")
    turn = {
        "role": "system" if role == "developer" else role,
        "content": _content(message.get("content"), f"{where}.content"),
    }
    if name not in EMPTY:
        turn["name"] = check_text(name, f"{where}.name")
    return turn


def _content(content: Any, where: str) -> str:
    """Return the text of a message; parts follow each other with nothing between them."""
    if not isinstance(content, list):
        return check_text(content, where, "text, or a list of parts of text")
    return "".join(_part(part, f"{where}[{place}]") for place, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else part
    if not isinstance(part, dict) or kind != "text":
        raise BadRequest(
            f'{where}: {kind!r:.60} is not supported; expected {{"type": "text", "text": "..."}}',
            where,
        )
    return check_text(part.get("text"), f"{where}.text")


def check_text(value: Any, where: str, expected: str = "text") -> str:
    """Return a text that can be written as UTF-8.

    Raises:
        BadRequest: it is something else; names the place.
    """
    if not isinstance(value, str):
        kind = "nothing" if value is None else type(value).__name__
        raise BadRequest(f"{where} is {kind}; expected {expected}", where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where} holds half a character (a lone surrogate)", where) from None
    return value


def encode_prompts(prompt: Any, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokenise the prompts of a completion: a text, a list of texts, token ids, or lists of them.

    Raises:
        BadRequest: it is something else, a prompt is empty, or a token is none of the model's.
    """
    several = isinstance(prompt, list) and not all(_is_id(item) for item in prompt)
    prompts = prompt if several else [prompt]
    encoded = []
    for place, one in enumerate(prompts):
        where = f"prompt[{place}]" if several else "prompt"
        if isinstance(one, list):
            _check_ids(one, len(tokenizer), where)
            encoded.append(list(one))
        else:
            text = check_text(one, where, "text or token ids")
            rendered = render({"prompt": text}, tokenizer, "plain", answers=False)
            encoded.append(encode_prompt(rendered, tokenizer))
        if not encoded[-1]:
            raise BadRequest(f"{where} is empty; expected at least one token", where)
    return encoded


def _is_id(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _check_ids(ids: list[Any], count: int, where: str) -> None:
    for place, token in enumerate(ids):
        if not _is_id(token) or not 0 <= token < count:
            raise BadRequest(
                f"{where}[{place}] is {token!r:.60}; expected a token id from 0 to {count - 1}",
                where,
            )
