"""Questions with a plain, an emoji and a one-word answer, made from the hand-written tables."""

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import emoji as emoji_names

from pretraining.templates import KINDS, TEMPLATES, Template

HERE = Path(__file__).parent
GIRLS = ("Lily", "Anna", "Mia", "Sue", "Emma", "Zoe", "Lucy")
BOYS = ("Tom", "Ben", "Max", "Tim", "Sam", "Jack", "Leo")


@dataclass(frozen=True)
class Item:
    """One question with its answers; ``key`` names what is held out together."""

    key: str
    question: str
    plain: str
    emoji: tuple[str, ...]
    word: str = ""


def split_emoji(text: str) -> tuple[str, ...]:
    """Cut a run of emoji into single emoji."""
    return tuple(match["emoji"] for match in emoji_names.emoji_list(text))


def read_table(name: str) -> list[dict[str, str]]:
    """Read one of the tab-separated tables beside this file."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    head = lines[0].split("\t")
    return [dict(zip(head, line.split("\t"), strict=True)) for line in lines[1:]]


def plural(name: str) -> tuple[str, str]:
    """Split "mouse/mice", or add an s."""
    singular, _, many = name.partition("/")
    return singular, many or singular + "s"


def capital(text: str) -> str:
    """Upper-case the first letter only."""
    return text[:1].upper() + text[1:]


@cache
def concepts() -> list[dict[str, str]]:
    """The concept table, with the fields that the templates use."""
    rows = []
    for row in read_table("concepts.tsv"):
        name, many = plural(row["name"])
        article, category = row["article"], row["category"]
        a = name if article == "0" else f"{article} {name}"
        kind, kinds = KINDS[category].split("/")
        row |= {
            "name": name,
            "a": a,
            "A": capital(a),
            "pl": a if article in ("0", "the") else many,
            "the": name if category == "country" or article == "0" else f"the {name}",
            "It": f"The {name}" if category in ("job", "people") else "It",
            "is": row["definition"],
            "w": row["place"],
            "kind": kind,
            "kinds": kinds,
            "kindword": capital(kind.split()[-1]),
        }
        row["Pl"], row["The"] = capital(row["pl"]), capital(row["the"])
        rows.append(row)
    return rows


def with_facts(row: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Choose two different facts of a concept."""
    first, second = rng.sample(row["facts"].split(";"), 2)
    return row | {"f": first, "g": second}


def pick_emoji(row: dict[str, str], rng: random.Random) -> list[str]:
    """One to three of a concept's emoji, the most telling one first."""
    first, *rest = split_emoji(row["emoji"])
    return [first, *rest[: rng.choice((0, 1, 2, 2, 2))]]


def templates_for(category: str) -> list[Template]:
    """The templates that fit a category."""
    return [t for t in TEMPLATES if not t.categories or category in t.categories.split("|")]


def concept_item(rng: random.Random) -> Item:
    """A random concept in a random template."""
    row = with_facts(rng.choice(concepts()), rng)
    choices = templates_for(row["category"])
    template = rng.choices(choices, [t.weight for t in choices])[0]
    others = [c for c in concepts() if c["category"] == row["category"] and c["a"] != row["a"]]
    second = with_facts(rng.choice(others), rng)
    third = with_facts(rng.choice(concepts()), rng)
    while third["category"] == row["category"]:
        third = with_facts(rng.choice(concepts()), rng)
    fields = row | {f"{k}2": v for k, v in second.items()} | {f"{k}3": v for k, v in third.items()}
    fields |= {"girl": rng.choice(GIRLS), "boy": rng.choice(BOYS)}
    question = capital(rng.choice(template.questions.split("|")).format_map(fields))
    plain = capital(rng.choice(template.answers.split("|")).format_map(fields))
    signs = pick_emoji(row, rng)
    intent = rng.choice(template.intents.split()) if template.intents else ""
    if intent.endswith("2"):
        signs = [signs[0], *intent[:-1:], split_emoji(second["emoji"])[0]]
    elif intent.endswith("3"):
        signs = [*signs[:2], *split_emoji(intent), *pick_emoji(third, rng)[:2]]
    elif intent and rng.random() < 0.7:
        signs.insert(rng.choice((1, len(signs))), intent)
    word = capital(template.word.format_map(fields))
    signs = [s for s in dict.fromkeys(signs) if emoji_names.is_emoji(s)]
    return Item(f"{template.name}|{row['a']}", question, plain, tuple(signs), word)


ACTION_QUESTIONS = (
    "How do I {x}?|How can I {x}?|How do you {x}?|I want to {x}.|Teach me how to {x}.|"
    "What do I need to {x}?|Can you help me {x}?|What is the best way to {x}?|Help me {x}.|"
    "How to {x}|Give me some tips to {x}.|Tell me how to {x}.|I would like to {x}.|"
    "I am trying to {x}.|Explain how to {x}.|What should I do to {x}?|Is it hard to {x}?"
)


def action_item(rng: random.Random) -> Item:
    """A question about how something is done."""
    row = rng.choice(read_table_cached("actions.tsv"))
    number = rng.randrange(len(ACTION_QUESTIONS.split("|")))
    question = ACTION_QUESTIONS.split("|")[number].format(x=row["action"])
    if rng.random() < 0.5:
        question = question.replace("my ", "your ") if "do you" in question else question
    signs = split_emoji(row["emoji"])
    signs = signs[: rng.choice((3, 4, 4))]
    return Item(f"action{number}|{row['action']}", question, row["how"], signs)


@cache
def read_table_cached(name: str) -> list[dict[str, str]]:
    """Read a table once."""
    return read_table(name)


def chat_item(rng: random.Random) -> Item:
    """Small talk, feelings, plans and why-questions, written by hand."""
    row = rng.choice(read_table_cached("chats.tsv"))
    question = rng.choice(row["questions"].split("|"))
    asks = question.split()[0] in (
        "What", "Who", "Why", "How", "Where", "Are", "Do", "Can", "Is", "Which", "When", "May",
        "Did", "Will",
    )  # fmt: skip
    question += "?" if asks or question.startswith("Am ") else rng.choice((".", "!", ""))
    signs = split_emoji(rng.choice(row["emoji"].split("|")))
    answer = rng.choice(row["answers"].split("|"))
    return Item(f"chat|{question.strip('?.!')}", question, answer, signs)


DIGITS = "zero one two three four five six seven eight nine ten".split()


def keycaps(number: int) -> tuple[str, ...]:
    """A number as keycap emoji."""
    return tuple(f"{digit}\ufe0f\u20e3" for digit in str(number))


def number_item(rng: random.Random) -> Item:
    """Small sums and counting."""
    a, b = rng.randrange(0, 11), rng.randrange(0, 11)
    op, sign, word = rng.choice((("+", "➕", "plus"), ("-", "➖", "minus"), ("*", "✖️", "times")))
    if op == "-" and a < b:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[op]
    question = rng.choice(
        (
            f"What is {a} {word} {b}?",
            f"What's {a}{op}{b}?",
            f"What is {a} {op} {b}?",
            f"How much is {a} {word} {b}?",
            f"Calculate {a} {op} {b}.",
            f"What is {DIGITS[a]} {word} {DIGITS[b]}?",
        )
    )
    signs = (*keycaps(a), sign, *keycaps(b), "➡️", *keycaps(result))
    if rng.random() < 0.3:
        signs = keycaps(result)
    plain = f"{a} {word} {b} is {result}."
    return Item(f"sum|{a}{op}{b}", question, plain, signs, str(result))


def list_item(rng: random.Random) -> Item:
    """Name some members of a category."""
    row = rng.choice(concepts())
    group = [c for c in concepts() if c["category"] == row["category"]]
    count = min(rng.choice((2, 3, 3, 4, 5)), len(group))
    chosen = rng.sample(group, count)
    kinds = row["kinds"]
    question = rng.choice(
        (
            f"Name {DIGITS[count]} {kinds}.",
            f"Give me {DIGITS[count]} {kinds}.",
            f"List {DIGITS[count]} {kinds}.",
            f"Tell me {DIGITS[count]} {kinds}.",
            f"Can you name {count} {kinds}?",
        )
    )
    names = [c["a"] for c in chosen]
    plain = capital(f"{', '.join(names[:-1])} and {names[-1]}.")
    signs = tuple(dict.fromkeys(split_emoji(c["emoji"])[0] for c in chosen))
    return Item(f"list|{row['a']}", question, plain, signs)


SOURCES = (
    (concept_item, 0.56),
    (action_item, 0.14),
    (chat_item, 0.2),
    (number_item, 0.04),
    (list_item, 0.06),
)


def any_item(rng: random.Random) -> Item:
    """A random item of any kind."""
    makers, shares = zip(*SOURCES, strict=True)
    return rng.choices(makers, shares)[0](rng)
