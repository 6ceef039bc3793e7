"""LoRA by PEFT, r = 8, on the query and value projections or on all linear layers."""

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks.methods.method import Method


class Lora(Method):
    """`get_peft_model` with a `LoraConfig`; it has no positions, and acts at all layers."""

    def build(self) -> None:
        self.model = get_peft_model(self.base, self.config())

    def config(self) -> LoraConfig:
        """Return the adapter's configuration."""
        return LoraConfig(r=8, target_modules=self.options["targets"], task_type="CAUSAL_LM")

    def tenants(self, count: int) -> list[str]:
        names = [f"tenant{index}" for index in range(count)]
        for name in names:
            self.model.add_adapter(name, self.config())
        return names

    def load(self, folder: Path, base: Any) -> None:
        self.model = PeftModel.from_pretrained(base, str(folder))
