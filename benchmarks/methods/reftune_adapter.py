"""LoReFT by reftune, through PEFT, as a user gets it."""

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor

from benchmarks.methods.method import Method
from reftune import ReftConfig
from reftune.reuse import without_reuse

NAMES = {"weight": "R", "source": "W", "bias": "b"}


class Reftune(Method):
    """`get_peft_model` with a `ReftConfig`."""

    def build(self) -> None:
        self.model = get_peft_model(self.base, self.config())
        if self.options.get("compiled"):
            self.model.base_model.model = torch.compile(self.model.base_model.model)

    def training(self) -> AbstractContextManager[object]:
        return nullcontext() if self.options.get("reuse", True) else without_reuse()

    def config(self) -> ReftConfig:
        """Return the adapter's configuration, with the published start: as pyreft's."""
        return ReftConfig(
            layers=self.edits["layers"],
            r=self.edits["rank"],
            positions=self.edits["positions"],
            tied=self.edits["tied"],
            init="paper",
            task_type="CAUSAL_LM",
        )

    def adopt(self, matrices: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            if ".reft_edits." not in name:
                continue
            layer = re.findall(r"layers\.(\d+)\.", name)[0]
            kind = NAMES[name.rpartition(".")[2]]
            ours = [matrices[f"{layer}/{edit}/{kind}"] for edit in range(1 + (not self.tied))]
            parameter.copy_(ours[0] if self.tied else torch.stack(ours))

    @property
    def tied(self) -> bool:
        """Say whether first and last tokens share an edit, or there is but one side."""
        return bool(self.edits["tied"])

    def tenants(self, count: int) -> list[str]:
        names = [f"tenant{index}" for index in range(count)]
        for name in names:
            self.model.add_adapter(name, self.config())
        return names

    def load(self, folder: Path, base: Any) -> None:
        self.model = PeftModel.from_pretrained(base, str(folder))
