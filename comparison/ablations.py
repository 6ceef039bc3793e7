"""What of LoReFT matters: one setting changed at a time, on two tasks, over the same seeds.

The learning rate is the one that the search found for LoReFT on the task: a variant that needs
another one is judged too low, which is said on the page.
"""

from comparison.settings import METHODS, Compared

# By the question that they answer; the first of each is LoReFT as it stands in the table.
CHANGES: dict[str, dict[str, dict[str, object]]] = {
    "rank": {f"r = {rank}": {"r": rank} for rank in (4, 1, 2, 8, 16, 32)},
    "layers": {
        "all": {},
        "first": {"layers": [0]},
        "middle": {"layers": [3]},
        "last": {"layers": [-1]},
        "every second": {"layers": [0, 2, 4, 6]},
    },
    "positions": {
        "f3+l3": {},
        **{p: {"positions": p} for p in ("f1", "f3", "l1", "f1+l1", "f7+l7", "all")},
    },
    "tied": {"tied": {}, "untied": {"tied": False}},
    "formula": {
        "LoReFT": {},
        "NoReFT (R free)": {"intervention": "noreft"},
        "DiReFT": {"intervention": "direft"},
        "DiReFT, orthonormal": {"intervention": "direft_orthonormal"},
        "ConsReFT": {"intervention": "consreft"},
        "LobiReFT": {"intervention": "lobireft"},
    },
    "start": {"identity": {}, "as published": {"init": "paper"}},
    "dropout": {
        "none": {},
        "0.1 on the edit": {"dropout": 0.1},
        "0.1 on the state": {"dropout": 0.1, "dropout_on": "state"},
    },
}
ABLATED = ("SST-2", "CoLA")
WHOLE = METHODS["encoder"][0]


def variants() -> dict[str, dict[str, Compared]]:
    """Return, for each question, LoReFT with one setting changed."""
    return {
        question: {
            name: Compared(name, WHOLE.method, {**WHOLE.options, **change}, WHOLE.rates)
            for name, change in changes.items()
        }
        for question, changes in CHANGES.items()
    }
