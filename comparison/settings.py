"""What is compared: tasks, methods with their settings, and the budget that each gets.

Every method has the same budget: each of three learning rates is tried with one seed, the best by
validation is run with five other seeds. Its other settings are those that its authors or its
library recommend, scaled to the width of these models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEARCH_SEED, SEEDS = 1000, (1, 2, 3, 4, 5)
RATES, LOW, HIGH = (1e-3, 3e-3, 1e-2), (1e-4, 3e-4, 1e-3), (3e-3, 1e-2, 3e-2)
STEEP = (3e-2, 1e-1, 3e-1)  # for what acts through attention alone
EPOCHS, BATCH = 3, 16
NONE = "none"  # the name of no method


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

# The base model as it is, in the tables of the decoder's open-ended tasks.
UNTRAINED = Compared("base model", NONE, rates=())

METHODS: dict[str, tuple[Compared, ...]] = {
    kind: (
        Compared("LoReFT", "reft", loreft(4, ENDS[kind], tied=True)),
        Compared("LoRA", "lora", {"r": 8, "lora_alpha": 16}),
        Compared("full finetuning", "full", rates=LOW),
        Compared("LoRA, rank 1", "lora", {"r": 1, "lora_alpha": 2}),
        Compared("LoReFT, rank 1", "reft", loreft(1, PAPERS[kind], tied=True)),
        Compared("head only", "probe", only="encoder"),
        Compared("BitFit", "bitfit", only="encoder"),
        Compared("DiReFT", "reft", loreft(4, ENDS[kind], tied=True, intervention="direft")),
        Compared("RED", "red", rates=HIGH),
        Compared("adapters", "bottleneck"),
        Compared("LN tuning", "ln-tuning", rates=HIGH),
        Compared("IA³", "ia3", rates=HIGH),
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
LETTER = {"max_new_tokens": 10}  # "the correct answer is answer2" is shorter

# A training sees thirty to seventy thousand tokens, so that the whole table is a matter of hours.
TASKS = (
    Studied(
        "Emoji answers",
        "decoder",
        "emoji-answers",
        10,
        128,
        40,
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
        2,
        form="alpaca",
        labels={"accuracy": "answers that pass, %", "loss": "held-out loss, nats"},
        about="Trained on Alpaca, scored on prompts of AlpacaEval that nothing in Alpaca is like. "
        "The loss is that of the reference answers, per token. An answer passes if it ends by "
        "itself, is not empty, does not repeat itself, has a content word of the instruction or "
        "the reference, and the form that was asked for, where a program can tell "
        "(`comparison/rubric.py`); whether it is true or good is not judged.",
    ),
    Studied("SST-2", "encoder", "sst2", 1000, 64, 5, form="sst2"),
    Studied("OBQA", "decoder", "obqa", 300, 128, 3, form="commonsense", answering=LETTER),
    Studied("CoLA", "encoder", "cola", 2000, 64, 2, form="cola"),
    Studied(
        "Positive reviews",
        "decoder",
        "sentiment",
        300,
        128,
        2,
        form="sentiment",
        answering={"no_repeat_ngram": 3},  # or a model this small says one sentence for ever
        labels={"accuracy": "judged positive, %"},
        about="The model goes on with openings of reviews, with no three tokens twice. It is "
        "trained on positive ones, and scored by how many of its continuations a naive Bayes "
        "classifier of words, which was fitted on other reviews, judges positive. Openings that "
        "tell the judge much are left out.",
    ),
    Studied("TweetEval emoji", "encoder", "emoji", 600),
    Studied("STS-B", "encoder", "stsb", 400, form="stsb"),
    Studied("IMDB", "encoder", "imdb", 160),
    Studied("MRPC", "encoder", "mrpc", 200, form="mrpc"),
    Studied("RTE", "encoder", "rte", 160, form="rte"),
    Studied("ARC-e", "decoder", "arc-e", 200, 128, 2, form="commonsense", answering=LETTER),
    Studied("BoolQ", "decoder", "boolq", 150, 128, 2, form="commonsense", answering=LETTER),
)
