"""LoReFT by AdapterHub's adapters 1.3.0."""

from pathlib import Path
from typing import Any

import adapters

from benchmarks.methods.method import Method

NAME = "bench"


class AdapterHub(Method):
    """`add_adapter` with a `LoReftConfig`.

    Its suffix counts from the end of prompt and completion together, so it edits other tokens, as
    many of them, and its loss is not compared. With a cache the suffix does not work at all.
    """

    def build(self) -> None:
        adapters.init(self.base)
        config = adapters.LoReftConfig(
            layers=self.edits["layers"],
            prefix_positions=self.edits["first"],
            suffix_positions=0 if self.options.get("prefix_only") else self.edits["last"],
            r=self.edits["rank"],
            tied_weights=self.edits["tied"],
            dropout=0.0,
        )
        self.base.add_adapter(NAME, config=config)
        self.base.train_adapter(NAME)
        self.model = self.base

    def save(self, folder: Path) -> None:
        self.model.save_adapter(str(folder), NAME)

    def load(self, folder: Path, base: Any) -> None:
        adapters.init(base)
        name = base.load_adapter(str(folder))
        base.set_active_adapters(name)
        self.model = base
