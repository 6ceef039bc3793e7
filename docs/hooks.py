"""Hooks of mkdocs: what the pages take from the code, so that it cannot drift.

Every module of the package gets a reference page from its docstrings, a new one by itself. In
`cli.md` a line `<!-- help: train -->` becomes what `reftune train --help` prints.
"""

import ast
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from reftune.cli import build_parser

PACKAGE = Path(__file__).resolve().parents[1] / "reftune"

INTRODUCTION = """# Reference

`from reftune import ReftConfig` is all that most programs need; PEFT and transformers do the rest.

| module | what it is |
|---|---|
"""


def modules() -> dict[str, str]:
    """Return the public modules by their names, each with the first line of its docstring."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        private = any(part.startswith("_") or part == "migrations" for part in parts)
        if len(parts) > 1 and parts[1] != "cli" and not private:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[".".join(parts)] = text.partition("\n")[0]
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages in the navigation."""
    pages = [{name: f"reference/{name}.md"} for name in modules()]
    assert config.nav is not None
    config.nav.append({"Reference": [{"Overview": "reference/index.md"}, *pages]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the pages."""
    known = modules()
    rows = [f"| [`{name}`]({name}.md) | {line} |\n" for name, line in known.items()]
    pages = {name: f"::: {name}\n" for name in known} | {"index": INTRODUCTION + "".join(rows)}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Put in the help of the command-line tool."""
    os.environ["COLUMNS"] = "80"  # argparse's width, otherwise that of whoever's terminal this is
    parser = build_parser()
    commands = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr, index]

    def text_of(match: re.Match) -> str:
        return f"```text\n{commands[match[1]].format_help()}```"

    return re.sub(r"^<!-- help: (\w+) -->$", text_of, markdown, flags=re.MULTILINE)
