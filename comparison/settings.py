"""What is compared: tasks, methods with their settings, and the budget that each gets.

Every method has the same budget: each of three learning rates is tried with one seed, the best by
validation is run with five other seeds. Its other settings are those that its authors or its
library recommend, scaled to the width of these models.
"""

from dataclasses import dataclass, field
from typing import Any

SEARCH_SEED, SEEDS = 1000, (1, 2, 3, 4, 5)
RATES, LOW, HIGH = (1e-3, 3e-3, 1e-2), (1e-4, 3e-4, 1e-3), (3e-3, 1e-2, 3e-2)
EPOCHS, BATCH = 4, 32


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
        length: of a row, in tokens, at most.
        epochs: passes over the rows.
        form: of an encoder's task, its name in `reftune.tasks`.
    """

    name: str
    model: str
    task: str
    rows: int
    length: int = 128
    epochs: float = EPOCHS
    form: str = "classification"


def loreft(rank: int, positions: str, **others: Any) -> dict[str, Any]:
    """Options of an edit at all layers."""
    return {"r": rank, "layers": "all", "positions": positions, **others}


# An encoder reads its answer off the first token; a decoder off the last of the prompt.
ENDS = {"encoder": "f3+l3", "decoder": "f5+l5"}
PAPERS = {"encoder": "f3", "decoder": "f5+l5"}

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
        Compared("RED", "red"),
        Compared("adapters", "bottleneck"),
        Compared("LN tuning", "ln-tuning"),
        Compared("IA³", "ia3", rates=HIGH),
        Compared("DoRA", "dora", {"r": 8, "lora_alpha": 16}),
        Compared("prompt tuning", "prompt-tuning", {"num_virtual_tokens": 10}, HIGH),
        Compared("prefix tuning", "prefix-tuning", {"num_virtual_tokens": 10}, HIGH),
        Compared("LoReFT + LoRA", "reft+lora", {
            "reft": loreft(4, ENDS[kind], tied=True), "lora": {"r": 1, "lora_alpha": 2},
        }),
    )
    for kind in ("encoder", "decoder")
}  # fmt: skip

TASKS = (
    Studied("SST-2", "encoder", "sst2", 1000, form="sst2"),
    Studied("CoLA", "encoder", "cola", 1500, form="cola"),
    Studied("MRPC", "encoder", "mrpc", 1000, form="mrpc"),
    Studied("RTE", "encoder", "rte", 1000, form="rte"),
    Studied("STS-B", "encoder", "stsb", 1000, form="stsb"),
    Studied("IMDB", "encoder", "imdb", 500),
    Studied("TweetEval emoji", "encoder", "emoji", 1500),
    Studied("BoolQ", "decoder", "boolq", 1000),
    Studied("ARC-e", "decoder", "arc-e", 1000),
    Studied("OBQA", "decoder", "obqa", 1000),
)
