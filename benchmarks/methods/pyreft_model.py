"""LoReFT by pyreft 0.1.0, as its documentation and its Trainer call it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyreft
import torch
from torch import Tensor, nn

from benchmarks.methods.method import Method, as_dataset, greedy, stacked


class Pyreft(Method):
    """`get_reft_model`, with `unit_locations` for every call."""

    def build(self) -> None:
        self.sides = self._sides()
        places = [(layer, side) for layer in self.edits["layers"] for side in self.sides]
        shared = {"component": "block_output", "low_rank_dimension": self.edits["rank"]}
        representations = [
            {"layer": layer, "intervention": self._intervention(), **shared} for layer, _ in places
        ]
        config = pyreft.ReftConfig(representations=representations)
        self.model = pyreft.get_reft_model(self.base, config)

    def _intervention(self) -> nn.Module:
        return pyreft.LoreftIntervention(
            embed_dim=self.base.config.hidden_size,
            low_rank_dimension=self.edits["rank"],
            dtype=torch.float32 if self.base.dtype == torch.float32 else torch.bfloat16,
        )

    def _sides(self) -> list[list[int]]:
        """Return the places of each edit of a layer, from both ends of the prompt."""
        first, last = list(range(self.edits["first"])), list(range(-self.edits["last"], 0))
        return [first + last] if self.edits["tied"] else [first, last]

    def places(self, rows: int, prompt: int) -> list:
        """Return the edited places: of each edit, of each row."""
        sides = [[place % prompt for place in side] for side in self.sides]
        return [[side] * rows for _ in self.edits["layers"] for side in sides]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        places = self.places(len(batch["input_ids"]), self.options["prompt"])
        located = {"sources->base": (None, places)}
        return self.model(inputs, unit_locations=located, labels=batch["labels"])[1].loss

    def trained(self) -> list[nn.Parameter]:
        return list(self.model.get_trainable_parameters())

    def adopt(self, matrices: dict[str, Tensor]) -> None:
        # pyreft keeps its edits in the order of the representations, layer by layer.
        names = [f"{layer}/{side}" for layer in self.edits["layers"] for side in range(self.count)]
        for name, edit in zip(names, self.model.interventions.values(), strict=True):
            edit.rotate_layer.weight = matrices[f"{name}/R"].mT.contiguous()
            edit.learned_source.weight.copy_(matrices[f"{name}/W"])
            edit.learned_source.bias.copy_(matrices[f"{name}/b"])

    @property
    def count(self) -> int:
        """Return how many edits a layer has."""
        return len(self.sides)

    def generate(self, ids: Tensor, new: int, names: Sequence[str] = ()) -> Tensor:
        located = {"sources->base": (None, self.places(*ids.shape))}
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        _, answers = self.model.generate(
            inputs, unit_locations=located, intervene_on_prompt=True, **greedy(new)
        )
        return answers

    def save(self, folder: Path) -> None:
        self.model.save(str(folder))

    def load(self, folder: Path, base: Any) -> None:
        self.model = pyreft.ReftModel.load(str(folder), base)

    def trainer(self, rows: dict[str, Tensor], arguments: Any, callback: Any) -> Any:
        count = len(rows["input_ids"])
        places = torch.tensor(self.places(count, self.options["prompt"])).permute(1, 0, 2)
        return pyreft.ReftTrainerForCausalLM(
            model=self.model,
            args=arguments,
            train_dataset=as_dataset({**rows, "intervention_locations": places}),
            data_collator=stacked,
            callbacks=[callback],
        )
