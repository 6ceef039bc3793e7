"""One setting: what a trial decides, as an adapter's config, a recipe, and a job of a file."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from reftune.config import ReftConfig
from reftune.positions import Positions
from reftune.recipe import TrainingRecipe

CONFIG_NAMES = ("layers", "positions", "r", "tied", "intervention", "dropout")
RECIPE_NAMES = ("lr", "warmup", "weight_decay")


@dataclass(frozen=True)
class Setting:
    """What is searched. The defaults are those of `ReftConfig` and `TrainingRecipe`.

    ``layers`` is ``"all"`` or indices with ``;`` between them, such as ``"3;9;18"``.
    """

    layers: str = "all"
    positions: str = "f7+l7"
    r: int = 4
    tied: bool = True
    intervention: str = "loreft"
    dropout: float = 0.0
    lr: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.0

    def config(self) -> ReftConfig:
        """Return a new config of the adapter.

        Raises:
            ValueError: a value has no meaning.
        """
        given = {name: getattr(self, name) for name in CONFIG_NAMES}
        return ReftConfig(task_type="CAUSAL_LM", **{**given, "layers": self.layer_list})

    def recipe(self, common: TrainingRecipe, epochs: float, seed: int) -> TrainingRecipe:
        """Return how the adapter is trained: as all others, but for what is searched."""
        own = {name: getattr(self, name) for name in RECIPE_NAMES}
        return replace(common, epochs=epochs, seed=seed, save_steps=0, **own)

    @property
    def layer_list(self) -> list[int] | str:
        """The layers as `ReftConfig` takes them."""
        return "all" if self.layers == "all" else [int(one) for one in self.layers.split(";")]

    def sensible(self) -> "Setting":
        """Return the setting with what has no meaning for it at its default."""
        places = Positions.parse(self.positions)
        return self if places.first and places.last else replace(self, tied=True)

    def as_job(self, common: TrainingRecipe) -> dict[str, Any]:
        """Return the setting as a job of `reftune train --jobs`, without data and folder."""
        recipe = asdict(self.recipe(common, common.epochs, common.seed))
        named = ("epochs", "lr", "batch_size", "accumulation", "warmup", "schedule")
        named = (*named, "weight_decay", "max_grad_norm", "max_length", "template", "seed")
        return {
            "layers": self.layer_list,
            "positions": self.positions,
            "r": self.r,
            "untied": not self.tied,
            "intervention": self.intervention,
            "dropout": self.dropout,
            **{name: recipe[name] for name in named},
        }
