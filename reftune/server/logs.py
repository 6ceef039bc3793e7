"""Logs as lines of JSON, for machines to read; never a prompt or an answer in them.

So an unexpected error is told by its kind and the places it went through; its message, which may
repeat what a user wrote, is left out.
"""

import json
import logging
import sys
import time
import traceback
from typing import Any, TextIO

LOG = logging.getLogger("reftune.server")


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: time, level, event, and the facts given with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line |= describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def tell(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log an event with its facts, those that are `None` left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    LOG.log(level, event, extra={"facts": known})


def describe(error: BaseException | None) -> dict[str, Any]:
    """Tell an error without its message: its kind, and the places it went through."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "trace": places}


def write_json_lines(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send the logs of the server, and the warnings of what it runs on, to a stream (stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name, least in (("reftune", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False
