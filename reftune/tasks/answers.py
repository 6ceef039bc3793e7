"""What a generated text says, read as LLM-Adapters reads it.

https://github.com/AGI-Edgerunners/LLM-Adapters/blob/8166572/evaluate.py. It is kept as it is where
one would do otherwise today, because published scores were made with it.
"""

import re

NUMBER = re.compile(r"-?\d+\.?\d*")


def last_number(text: str) -> float | None:
    """Return the last number of a text; commas in numbers are left out.

    The sign of a range (`3-4`) and of a subtraction counts as that of the number after it.
    """
    found = NUMBER.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


def first_letter(text: str) -> str:
    """Return the first capital letter from A to E, wherever it stands, or nothing."""
    found = re.search("[A-E]", text)
    return found[0] if found else ""


def after(text: str, trigger: str) -> str:
    """Return what stands after the first trigger, or nothing if there is none."""
    _, _, rest = text.partition(trigger)
    return rest.lstrip()


def as_number(text: str) -> float | None:
    """Return a number that is written alone, without commas, or `None`."""
    try:
        return float(text)
    except ValueError:
        return None
