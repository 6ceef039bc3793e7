"""What is compared: tasks, methods with their settings, and the budget that each gets.

Every method has the same budget: four learning rates a decade apart are tried with one seed, then
the one between the best by validation and the better of its neighbours. The best of the five is run
with five other seeds. A method's other settings are those that its authors or its library
recommend, scaled to the width of these models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEARCH_SEED, SEEDS = 1000, (1, 2, 3, 4, 5)
RATES, LOW = (1e-4, 1e-3, 1e-2, 1e-1), (1e-5, 1e-4, 1e-3, 1e-2)
STEEP = (1e-3, 1e-2, 1e-1, 1.0)  # for what acts through attention alone
EPOCHS, BATCH = 3, 16
NONE, CONSTANT = "none", "one-answer"  # what is no method: nothing is trained


@dataclass(frozen=True)
class Compared:
    """A method, as it is compared.

    Attributes:
        name: in tables and pictures.
        method: its name in `reftune.experiments.methods`.
        options: of that.
        rates: the learning rates that are tried.
        only: the kind of model that it is for, `"encoder"` or `"decoder"`; both if empty.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = RATES
    only: str = ""


@dataclass(frozen=True)
class Studied:
    """A task.

    Attributes:
        name: in tables and pictures.
        model: the base model, `"encoder"` or `"decoder"`.
        task: whose sets `comparison.data` makes.
        rows: how many are trained on.
        length: of a row, in tokens, at most; longer ones are cut, or left out by a decoder.
        epochs: passes over the rows.
        batch: rows of a step.
        form: its name in `reftune.tasks`.
        answering: fields of `GenerationSettings` for a decoder's answers.
        labels: of its scores by metric, where the metric's own name would not do.
        about: what a reader has to know of it.
    """

    name: str
    model: str
    task: str
    rows: int
    length: int = 64
    epochs: float = EPOCHS
    batch: int = BATCH
    form: str = "classification"
    answering: Mapping[str, Any] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    about: str = ""


def loreft(rank: int, positions: str, **others: Any) -> dict[str, Any]:
    """Options of an edit at all layers."""
    return {"r": rank, "layers": "all", "positions": positions, **others}


# An encoder reads its answer off the first token; a decoder off the last of the prompt.
ENDS = {"encoder": "f3+l3", "decoder": "f5+l5"}
PAPERS = {"encoder": "f3", "decoder": "f5+l5"}

# What a method has to be better than: the base model as it is in open-ended tasks; where answers
# are few, one answer to all rows and, of an encoder, a head alone.
UNTRAINED = Compared("base model", NONE, rates=())
ONE_ANSWER = Compared("one answer to all", CONSTANT, rates=())
HEAD_ONLY = Compared("head only", "probe", only="encoder")

METHODS: dict[str, tuple[Compared, ...]] = {
    kind: (
        Compared("LoReFT", "reft", loreft(4, ENDS[kind], tied=True)),
        Compared("LoRA", "lora", {"r": 8, "lora_alpha": 16}),
        Compared("full finetuning", "full", rates=LOW),
        Compared("LoRA, rank 1", "lora", {"r": 1, "lora_alpha": 2}),
        Compared("LoReFT, rank 1", "reft", loreft(1, PAPERS[kind], tied=True)),
        # Generated tokens too, as RED has it; an encoder generates none.
        Compared("LoReFT, every token", "reft", loreft(4, "all", decode="all"), only="decoder"),
        HEAD_ONLY,
        Compared("BitFit", "bitfit", only="encoder"),
        Compared("DiReFT", "reft", loreft(4, ENDS[kind], tied=True, intervention="direft")),
        Compared("RED", "red"),
        Compared("adapters", "bottleneck"),
        Compared("LN tuning", "ln-tuning"),
        Compared("IA³", "ia3"),
        Compared("DoRA", "dora", {"r": 8, "lora_alpha": 16}),
        Compared("prompt tuning", "prompt-tuning", {"num_virtual_tokens": 10}, STEEP),
        Compared("prefix tuning", "prefix-tuning", {"num_virtual_tokens": 10}, STEEP),
        Compared("LoReFT + LoRA", "reft+lora", {
            "reft": loreft(4, ENDS[kind], tied=True), "lora": {"r": 1, "lora_alpha": 2},
        }),
    )
    for kind in ("encoder", "decoder")
}  # fmt: skip

FIRST = ("Emoji answers",)  # of these all methods come before the other tasks


def commonsense(name: str, task: str, rows: int) -> Studied:
    """A task of LLM-Adapters: one of the answers, named in a sentence that is always the same."""
    answering = {"max_new_tokens": 10}  # "the correct answer is answer2" is shorter
    return Studied(
        name, "decoder", task, rows, 128, batch=4, form="commonsense", answering=answering
    )


# A training sees twenty to fifty thousand tokens, so that the whole table is a matter of hours.
# Tasks with few rows have smaller batches, so that there are enough steps.
TASKS = (
    Studied(
        "Emoji answers",
        "decoder",
        "emoji-answers",
        10,
        128,
        epochs=40,
        form="emoji-answers",
        labels={"accuracy": "in emoji alone, %"},
        about="The ten examples of ReFT's tutorial are to make the model answer in emoji alone. It "
        "is scored on prompts that are not like any of them.",
    ),
    Studied(
        "Instructions",
        "decoder",
        "alpaca",
        300,
        128,
        epochs=2,
        form="alpaca",
        labels={"accuracy": "answers that pass, %", "loss": "held-out loss, nats"},
        about="Trained on Alpaca, scored on prompts of AlpacaEval that nothing in Alpaca is like. "
        "The loss is that of the reference answers, per token. An answer passes if it ends by "
        "itself, is not empty, does not repeat itself, has a content word of the instruction or "
        "the reference, and the form that was asked for, where a program can tell "
        "(`comparison/rubric.py`); whether it is true or good is not judged.",
    ),
    Studied("SST-2", "encoder", "sst2", 1000, batch=32, form="sst2"),
    commonsense("OBQA", "obqa", 80),
    Studied("CoLA", "encoder", "cola", 1200, epochs=2, form="cola"),
    Studied(
        "Positive reviews",
        "decoder",
        "sentiment",
        200,
        epochs=2,
        batch=8,
        form="sentiment",
        answering={"no_repeat_ngram": 3},  # or a model this small says one sentence for ever
        labels={"accuracy": "judged positive, %"},
        about="The model goes on with openings of reviews, with no three tokens twice. It is "
        "trained on positive ones, and scored by how many of its continuations a naive Bayes "
        "classifier of words, which was fitted on other reviews, judges positive. Openings that "
        "tell the judge much are left out.",
    ),
    Studied("TweetEval emoji", "encoder", "emoji", 400),
    Studied("STS-B", "encoder", "stsb", 300, form="stsb"),
    Studied("IMDB", "encoder", "imdb", 300, epochs=2),
    Studied("MRPC", "encoder", "mrpc", 150, form="mrpc"),
    Studied("RTE", "encoder", "rte", 120, form="rte"),
    commonsense("ARC-e", "arc-e", 60),
    commonsense("BoolQ", "boolq", 100),
)

FAMILIES = {
    "Classes and numbers, encoder": tuple(one.name for one in TASKS if one.model == "encoder"),
    "Commonsense, decoder": ("OBQA", "ARC-e", "BoolQ"),
    "Steering, decoder": ("Emoji answers", "Positive reviews"),
}
