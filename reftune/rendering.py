"""From a row to text: the chat template, the Alpaca prompt, or the text as it is.

Knows tokenizers for their chat template only. Every prompt text of the package is written here.
"""

from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from reftune.data import Row, check_row

Template = Literal["auto", "chat", "plain"]

# Stanford Alpaca's two prompts, word for word.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Rendered:
    """The text of one row.

    ``complete`` says that the prompt already holds its special tokens (a chat template wrote
    them), so that the tokenizer must not add a second beginning-of-sequence token.
    """

    prompt: str
    completion: str | None
    complete: bool


def uses_chat(tokenizer: PreTrainedTokenizerBase, template: Template) -> bool:
    """Decide whether rows become turns of a chat.

    Raises:
        ValueError: ``template`` is unknown, or ``"chat"`` and the tokenizer has no chat template.
    """
    if template not in ("auto", "chat", "plain"):
        raise ValueError(f'template "{template}": expected "auto", "chat" or "plain"')
    if template == "chat" and not tokenizer.chat_template:
        raise ValueError('template "chat": this tokenizer has no chat template; expected "plain"')
    return template != "plain" and bool(tokenizer.chat_template)


def render(
    row: Row,
    tokenizer: PreTrainedTokenizerBase,
    template: Template = "auto",
    answers: bool = True,
    where: str = "row",
) -> Rendered:
    """Turn one row into the text of its prompt and of its completion.

    With a chat template, ``prompt`` or ``instruction`` (and ``input`` under it) become the user's
    turn and the answer the assistant's. Without one, a prompt is taken as it is and an instruction
    gets the Alpaca prompt.

    Args:
        row: one row, see `reftune.data`.
        template: ``"chat"``, ``"plain"``, or ``"auto"``: chat if the tokenizer has a template.
        answers: whether the answer is needed; otherwise ``completion`` is None.
        where: the place to name in errors.

    Raises:
        ValueError: the row has no known form, or is a chat and the tokenizer has no template.
    """
    form = check_row(row, answers, where)
    if uses_chat(tokenizer, template):
        try:
            return _render_chat(_turns(row, form), tokenizer, answers)
        except TemplateError as error:
            raise ValueError(f"{where}: the chat template refuses this row ({error})") from error
    if form == "messages":
        raise ValueError(
            f'{where}: "messages" need a chat template, and template "{template}" with this '
            'tokenizer has none; expected "prompt" + "completion"'
        )
    if form == "prompt":
        return Rendered(row["prompt"], row["completion"] if answers else None, False)
    text = ALPACA_WITH_INPUT if row.get("input") else ALPACA_WITHOUT_INPUT
    prompt = text.format(instruction=row["instruction"], input=row.get("input"))
    return Rendered(prompt, row["output"] if answers else None, False)


def _turns(row: Row, form: str) -> list[dict[str, str]]:
    """Write a row as a list of messages, the answer last if there is one."""
    if form == "messages":
        # Columns of other rows arrive as None; templates ask `is defined`, so leave them out.
        return [{k: v for k, v in turn.items() if v is not None} for turn in row["messages"]]
    question, answer = row[form], row.get("completion" if form == "prompt" else "output")
    if form == "instruction" and row.get("input"):
        question = f"{question}\n\n{row['input']}"
    turns = [{"role": "user", "content": question}]
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]


def _render_chat(
    turns: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, answers: bool
) -> Rendered:
    answer = turns[-1]["content"] if turns[-1]["role"] == "assistant" else None
    asked = turns if answer is None else turns[:-1]
    if not any(turn["content"].strip() for turn in asked):
        return Rendered("", answer if answers else None, True)
    prompt = str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))
    if not answers or not (answer or "").strip():
        return Rendered(prompt, "" if answers else None, True)
    whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
    if whole.startswith(prompt):
        return Rendered(prompt, whole[len(prompt) :], True)
    # Some templates open the assistant's turn differently for generation (a thinking block, say).
    # What generation will see decides; the answer and what closes its turn follow it.
    content = turns[-1]["content"].strip()
    start = whole.rfind(content)
    return Rendered(prompt, content if start < 0 else whole[start:], True)
