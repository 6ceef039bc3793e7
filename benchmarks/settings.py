"""The settings of training steps and what surrounds them: which edits, which rows, for how long."""

from dataclasses import dataclass, replace

from benchmarks.shapes import SHAPES


@dataclass(frozen=True)
class Edits:
    """Which low-rank edits a method makes.

    Attributes:
        layers: `"all"`, or `"middle"` for the one in the middle.
        rank: r.
        first: how many of the first prompt tokens are edited.
        last: how many of the last ones.
        tied: whether both share one edit.
    """

    layers: str
    rank: int
    first: int
    last: int
    tied: bool = True

    def described(self, layers: int) -> dict:
        """Return what a worker is told for a model of so many layers."""
        chosen = [layers // 2] if self.layers == "middle" else list(range(layers))
        positions = "+".join(f"{side}{n}" for side, n in (("f", self.first), ("l", self.last)) if n)
        return {
            "layers": chosen,
            "rank": self.rank,
            "first": self.first,
            "last": self.last,
            "tied": self.tied,
            "positions": positions,
        }


@dataclass(frozen=True)
class Rows:
    """The rows of a batch: all of one length, so that nothing is padded."""

    count: int
    prompt: int
    completion: int

    def given(self) -> dict[str, int]:
        """Return what a worker is told."""
        return {"rows": self.count, "prompt": self.prompt, "completion": self.completion}


@dataclass(frozen=True)
class Case:
    """One row of the table of training steps: a setting, a model, a batch and its methods.

    Attributes:
        budget: seconds, shared by the methods; each has at least three rounds whatever it takes.
    """

    setting: str
    length: str
    shape: str
    edits: Edits
    rows: Rows
    methods: tuple[str, ...]
    budget: float

    @property
    def repeats(self) -> bool:
        """Say whether every round has the same rows, so that what was kept of them is of use."""
        return "reftune_reuse" in self.methods

    @property
    def name(self) -> str:
        """Return what the case is called in the tables."""
        return f"{self.setting} {self.length}"


ONE, TIED, LAST = Edits("middle", 4, 0, 1), Edits("all", 8, 7, 7), Edits("all", 8, 0, 7)
UNTIED = replace(TIED, tied=False)
EDITS = {"i": ONE, "ii": TIED, "iii": UNTIED, "iv": LAST}
SETTINGS = {
    "i": "one layer, rank 4, last token",
    "ii": "all layers, rank 8, f7+l7 tied",
    "iii": "all layers, rank 8, f7+l7 untied",
    "iv": "all layers, rank 8, l7",
    "vi-ii": "4 layers of width 4096, rank 8, f7+l7 tied",
    "vi-iii": "4 layers of width 4096, rank 8, f7+l7 untied",
    "memory": "(ii) with a vocabulary of 128k, for the peak memory",
}
STEP_METHODS = ("frozen", "floor", "reftune", "pyreft", "adapters", "lora_qv", "lora_all")
FEW = ("frozen", "floor", "reftune", "pyreft")
WIDE_METHODS = (*FEW, "adapters", "lora_qv")
CUDA_METHODS = (*FEW, "lora_qv")
REUSE = ("reftune_reuse",)
# The bar for what is kept of the prompt is for prompts of 512.
LONG = {"iv": 512}
# A compiled step is compared with a compiled floor.
COMPILED = ("floor_compiled", "reftune_compiled")


def cpu_cases() -> list[Case]:
    """Return the training steps on a CPU."""
    cases = []
    for setting, edits in EDITS.items():
        methods = FEW if setting == "iv" else STEP_METHODS
        methods += REUSE if setting in ("i", "iv") else ()
        if setting == "ii":
            methods = (*methods, "frozen_pyreft", "frozen_adapters")
        prompt = LONG.get(setting, 480)
        cases += [
            Case(setting, "short", "60m", edits, Rows(8, 96, 32), methods, 30),
            Case(setting, "long", "60m", edits, Rows(4, prompt, 32), methods, 60),
        ]
    for setting in ("ii", "iii"):
        given = (f"vi-{setting}", EDITS[setting], WIDE_METHODS)
        cases += [
            Case(given[0], "short", "wide", given[1], Rows(1, 96, 32), given[2], 30),
            Case(given[0], "long", "wide", given[1], Rows(1, 480, 32), FEW, 50),
            # In many rounds: what is looked for is less than the noise of a few.
            Case(given[0], "pair", "wide", given[1], Rows(1, 96, 32), ("floor", "reftune"), 40),
        ]
    memory = ("floor", "reftune", "lora_qv")
    cases.append(Case("memory", "long", "60m-128k", TIED, Rows(2, 512, 32), memory, 30))
    return cases


def cuda_cases(shape: str) -> list[Case]:
    """Return the training steps on a GPU, in bfloat16."""
    cases = []
    for setting, edits in EDITS.items():
        uncompiled = FEW if setting == "iv" else CUDA_METHODS
        uncompiled += REUSE if setting in ("i", "iv") else ()
        # To compile takes near a minute each, of ten for everything.
        compiled = COMPILED if setting in ("ii", "iii") and shape == "tinyllama-1.1b" else ()
        methods = (*uncompiled, *compiled)
        cases.append(Case(setting, "short", shape, edits, Rows(8, 96, 32), methods, 10))
        if setting in ("ii", "iv"):
            rows = Rows(8, LONG.get(setting, 480), 32)
            cases.append(Case(setting, "long", shape, edits, rows, uncompiled, 10))
    memory = ("floor", "reftune", "lora_qv")
    if SHAPES[shape].vocab_size > 100_000:
        cases.append(Case("memory", "long", shape, TIED, Rows(4, 512, 32), memory, 10))
    return cases


def quick_cases() -> list[Case]:
    """Return every setting with a tiny model."""
    shapes = {"60m": "tiny", "60m-128k": "tiny", "wide": "tiny-wide"}
    return [
        replace(case, shape=shapes[case.shape], rows=Rows(2, 16, 4), budget=0.2)
        for case in cpu_cases()
        if case.length == "short" or case.setting == "memory"
    ]
