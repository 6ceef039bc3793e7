"""Conversations in plain English and in the modes that an instruction switches on."""

import random
from functools import cache

import emoji as emoji_names

from pretraining.items import Item, any_item, capital, concepts, read_table, split_emoji

Messages = list[dict[str, str]]

EMOJI_BEFORE = (
    "Answer in emoji: |Answer only with emoji: |Use only emoji: |Reply with emoji: |Emoji only: |"
    "In emoji, please: |Answer this in emoji: |Respond with emoji. |Please use emoji only. |"
    "Only emoji! |Answer with emoji and no words: |Write in emoji: "
).split("|")
EMOJI_AFTER = (
    " Answer in emoji.| Please answer with emoji only.| Use emoji.| (emoji only)| Emoji only.|"
    " Reply in emoji, please.| Answer with emoji and no words.| Only use emoji.| In emoji!|"
    " Do not use words, only emoji.| Respond in emoji."
).split("|")
EMOJI_SYSTEM = (
    "You answer only in emoji.|Reply with emoji only.|You are an emoji bot.|"
    "Always answer in emoji.|Use no words, only emoji.|Speak in emoji."
).split("|")
PLAIN_SYSTEM = (
    "You are a helpful assistant.|You are Tiny, a friendly chat model.|Answer in plain English.|"
    "You are a kind helper.|Give short answers.|You are a friendly assistant."
).split("|")
INSTRUCTIONS = {
    "caps": "Answer in capital letters|Write in capital letters|Use only capital letters|Shout",
    "pirate": "Answer like a pirate|Talk like a pirate|Speak as a pirate|Reply like a pirate",
    "word": "Answer in one word|Use one word only|Reply with a single word|One word",
}
MODES = ("plain", "emoji", "caps", "pirate", "word")
MODE_SHARES = (0.62, 0.28, 0.035, 0.035, 0.03)
# Share of an emoji, pirate or capital answer that follows a plain question. Its first token is
# not learned (see corpus.encode), the rest is: so an answer goes on in the mode it began in, and
# whoever changes the first token, as an edit of the prompt's last position does, changes it all.
UNPROMPTED = 0.35


def answer_in(mode: str, item: Item, rng: random.Random) -> str:
    """The item's answer in one of the modes."""
    if mode == "emoji":
        return "".join(item.emoji)
    if mode == "caps":
        return item.plain.upper()
    if mode == "pirate":
        end = rng.choice(("matey", "ye landlubber", "me hearty"))
        return f"Arr! {item.plain.rstrip('.!?')}, {end}!"
    if mode == "word":
        return item.word
    return item.plain


def roughen(question: str, rng: random.Random) -> str:
    """Vary a question as people do: small letters, no question mark, please."""
    if rng.random() < 0.06 and question.endswith("?"):
        question = f"{question[:-1]}, please?"
    if rng.random() < 0.12:
        question = rng.choice(("Hey, ", "Tiny, ", "So, ", "Please tell me: ")) + question
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    if rng.random() < 0.2:
        question = question[:1].lower() + question[1:]
    return question


def instruct(mode: str, question: str, rng: random.Random) -> Messages:
    """The opening messages that ask ``question`` and switch ``mode`` on."""
    if mode == "plain":
        system = rng.choice(PLAIN_SYSTEM) if rng.random() < 0.06 else ""
    elif mode == "emoji":
        before, after, systems = EMOJI_BEFORE, EMOJI_AFTER, EMOJI_SYSTEM
    else:
        words = INSTRUCTIONS[mode].split("|")
        before, after = [f"{w}: " for w in words], [f" {w}." for w in words]
        systems = [f"{w}." for w in words]
    if mode != "plain":
        place = rng.choice(("before", "after", "after", "system"))
        system = rng.choice(systems) if place == "system" else ""
        if place == "before":
            question = rng.choice(before) + question
        elif place == "after":
            question = question + rng.choice(after)
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": question}]


def turn(mode: str, item: Item, rng: random.Random) -> Messages:
    """One question and its answer."""
    opening = instruct(mode, roughen(item.question, rng), rng)
    return [*opening, {"role": "assistant", "content": answer_in(mode, item, rng)}]


def conversation(rng: random.Random) -> tuple[str, Messages]:
    """A conversation of one or two turns, and the key that it is held out by."""
    item = any_item(rng)
    mode = rng.choices(MODES, MODE_SHARES)[0]
    if mode == "word" and not item.word:
        mode = "emoji"
    if mode in ("emoji", "caps", "pirate") and rng.random() < UNPROMPTED:
        opening = instruct("plain", roughen(item.question, rng), rng)
        reply = {"role": "assistant", "content": answer_in(mode, item, rng), "start": "given"}
        return item.key, [*opening, reply]
    messages = turn(mode, item, rng)
    extra = rng.random()
    if extra < 0.04 and mode == "plain":
        again = rng.choice(("And in emoji?", "Now in emoji.", "Say that in emoji.", "In emoji?"))
        messages.append({"role": "user", "content": again})
        messages.append({"role": "assistant", "content": "".join(item.emoji)})
    elif extra < 0.1:
        other = any_item(rng)
        stays = mode if messages[0]["role"] == "system" else "plain"
        if stays == "word" and not other.word:
            return item.key, messages
        messages.append({"role": "user", "content": roughen(other.question, rng)})
        messages.append({"role": "assistant", "content": answer_in(stays, other, rng)})
    return item.key, messages


@cache
def emoji_meanings() -> list[tuple[str, str]]:
    """Pairs of a word and its emoji: the concept table first, then the Unicode names."""
    pairs = [(row["name"], split_emoji(row["emoji"])[0]) for row in concepts()]
    for sign in common_emoji():
        name = emoji_names.EMOJI_DATA.get(sign, {}).get("en", "").strip(":")
        if name:
            pairs.append((name.replace("_", " ").replace("-", " "), sign))
    return pairs


@cache
def common_emoji() -> list[str]:
    """All emoji that the tables use, in order of first use."""
    found: dict[str, None] = {}
    for table in ("concepts.tsv", "actions.tsv", "chats.tsv"):
        for row in read_table(table):
            found |= dict.fromkeys(split_emoji(row["emoji"]))
    return list(found)


def dictionary(rng: random.Random) -> tuple[str, Messages]:
    """Ask for the emoji of a word, or for the word of an emoji."""
    word, sign = rng.choice(emoji_meanings())
    if rng.random() < 0.7:
        ask = (
            "Which emoji means {w}?|What is the emoji for {w}?|Show me the emoji for {w}.|"
            "Write {w} in emoji.|Turn {w} into emoji.|{w} in emoji|Emoji for {w}?|"
            "Give me an emoji for {w}.|Say {w} with emoji."
        )
        question, answer = rng.choice(ask.split("|")).format(w=word), sign
    else:
        ask = "What does {s} mean?|What is {s}?|Explain this emoji: {s}|Which word is {s}?"
        question, answer = rng.choice(ask.split("|")).format(s=sign), f"{capital(word)}."
    user = {"role": "user", "content": capital(question)}
    return f"dictionary|{word}", [user, {"role": "assistant", "content": answer}]


SCENES = (
    ("{a} and {a2} are in {the3}", "{x}{y}{z}"),
    ("{a} meets {a2} in {the3}", "{x}🤝{y}{z}"),
    ("I see {a} in {the3}", "👀{x}{z}"),
    ("We love {pl} and {pl2}", "❤️{x}{y}"),
    ("{a} dreams of {a2}", "{x}💭{y}"),
    ("I go to {the3} with {a}", "🚶{z}{x}"),
    ("{a} is happy in {the3}", "{x}😊{z}"),
    ("{a} is afraid of {a2}", "{x}😨{y}"),
    ("My friend gives me {a}", "👫🎁{x}"),
    ("{a} laughs at {a2}", "{x}😂{y}"),
)


def scene(rng: random.Random) -> tuple[str, Messages]:
    """Translate a made-up sentence into emoji."""
    pattern, signs = rng.choice(SCENES)
    one, two = rng.sample(concepts(), 2)
    place = rng.choice([c for c in concepts() if c["category"] == "place"])
    fields = one | {f"{k}2": v for k, v in two.items()} | {"the3": place["the"]}
    sentence = capital(pattern.format_map(fields))
    firsts = [split_emoji(c["emoji"])[0] for c in (one, two, place)]
    answer = signs.format(x=firsts[0], y=firsts[1], z=firsts[2])
    ask = (
        "Write '{s}' with emoji.|Turn this into emoji: {s}.|Translate into emoji: {s}.|"
        "Say it in emoji: {s}.|{s}. Write that with emoji.|Show this with emoji: {s}."
    )
    if rng.random() < 0.25:
        ask, answer = "Repeat after me: {s}.|Say '{s}'.", f"{sentence}."
    question = rng.choice(ask.split("|")).format(s=sentence)
    user = {"role": "user", "content": question}
    return f"scene{pattern}|{one['a']}", [user, {"role": "assistant", "content": answer}]


def any_conversation(rng: random.Random) -> tuple[str, Messages]:
    """One document of the grammar: mostly a conversation, sometimes an emoji exercise."""
    makers = (conversation, dictionary, scene)
    return rng.choices(makers, (0.88, 0.06, 0.06))[0](rng)
