"""`reftune chat`: a chat in the terminal, streamed, with the base model beside it on request.

With `--web` it is a chat in the browser, on a server that lasts as long as the command.
"""

import argparse
import contextlib
import sys
from dataclasses import dataclass, field
from typing import Any

from reftune.cli.console import note
from reftune.cli.generate import add_settings_options, build_settings, load_for
from reftune.cli.loading import add_model_options

EXAMPLES = """\
examples:
  reftune chat                                      # the bundled model, no adapter
  reftune chat --adapter emoji-adapter
  reftune chat --adapter tips-adapter --temperature 0.7 --max-new-tokens 300
  echo "Where do whales live?" | reftune chat --adapter emoji-adapter
  reftune chat --web                                # in the browser; there one can teach it too

--web serves the page on a free port of this machine, and opens it. What is taught there is gone
when the command ends, unless it is downloaded; `reftune serve` keeps it.
"""
HELP = """\
/base    answer the last prompt with the base model, beside the adapter's answer
/reset   forget the conversation
/help    show this
/quit    leave (as Ctrl-D does)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--adapter", metavar="A", help="folder or hub id (none: the base model)")
    parser.add_argument("--system", metavar="TEXT", help="instruction before the conversation")
    parser.add_argument("--web", action="store_true", help="in the browser, see below")
    add_model_options(parser)
    add_settings_options(parser)


def run(args: argparse.Namespace) -> int:
    """Talk until the input ends."""
    if args.web:
        from reftune.cli.chat_web import run_web

        return run_web(args)
    settings = build_settings(args)
    model, tokenizer = load_for(args)
    chat = Chat(model, tokenizer, settings, adapted=bool(args.adapter), system=args.system)
    if sys.stdin.isatty():
        note("type a prompt, or /help")
    while (line := _read()) is not None:
        if line == "/quit":
            break
        if line:
            chat.take(line)
    return 0


def _read() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


@dataclass
class Chat:
    """A conversation: the turns so far and what answers them."""

    model: Any
    tokenizer: Any
    settings: Any
    adapted: bool
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    def take(self, line: str) -> None:
        """Obey a command, or answer a prompt."""
        if line == "/help":
            print(HELP)
        elif line == "/reset":
            self.turns.clear()
            print("(the conversation is forgotten)")
        elif line == "/base":
            self.compare()
        elif line.startswith("/"):
            print(f'"{line}" is no command; /help shows them')
        else:
            self.turns.append({"role": "user", "content": line})
            try:
                answer = self.answer()
            except (ValueError, KeyboardInterrupt) as error:
                self.turns.pop()
                print(f"({error or 'stopped'}; this prompt is forgotten, /reset forgets all)")
                return
            self.turns.append({"role": "assistant", "content": answer})

    def answer(self) -> str:
        """Stream the answer to the last prompt."""
        from reftune.encoding import encode_prompt
        from reftune.generation import stream
        from reftune.rendering import Template, render, uses_chat

        template: Template = self.settings.template
        asked = self.turns[:-1] if self.turns[-1]["role"] == "assistant" else self.turns
        row: dict[str, Any] = {"prompt": asked[-1]["content"]}
        if uses_chat(self.tokenizer, template):
            system = [{"role": "system", "content": self.system}] if self.system else []
            row = {"messages": [*system, *asked]}
        prompt = encode_prompt(render(row, self.tokenizer, template, False), self.tokenizer)
        answer = stream(self.model, self.tokenizer, prompt, _write, self.settings)
        print()
        return answer

    def compare(self) -> None:
        """Answer the last prompt again with the adapter switched off."""
        if not self.turns:
            print("(there is no prompt yet)")
            return
        if not self.adapted:
            print("(this is the base model: there is no adapter)")
            return
        print(f"adapter: {self.turns[-1]['content']}")
        print("base:    ", end="")
        with contextlib.suppress(KeyboardInterrupt), self.model.disable_adapter():
            self.answer()


def _write(text: str) -> None:
    print(text, end="", flush=True)
