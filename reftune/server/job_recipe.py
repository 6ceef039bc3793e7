"""What a fine-tuning job trains and how, where its request leaves that to the server."""

import math
from typing import Any

from reftune.config import ReftConfig
from reftune.recipe import TrainingRecipe

RANK, POSITIONS = 4, "l1"
BATCH, RATE = 16, 2.5e-3
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 40, 3, 40
# Of one example. A step of training keeps the engine waiting, and the memory of longer ones would
# be the server's end.
MOST_TOKENS = 2048
AUTO = "auto"


def job_config(num_layers: int) -> ReftConfig:
    """Return the adapter of ReFT's tutorial: the last prompt token, a layer in the middle.

    Only the end of the prompt is edited, so that answers of one token and of a thousand cost what
    the base model's do. `benchmarks/starts.py` tries it on the bundled model.

    Args:
        num_layers: of the base model.
    """
    return ReftConfig(
        task_type="CAUSAL_LM", layers=[max(0, num_layers // 2 - 1)], r=RANK, positions=POSITIONS
    )


def job_recipe(
    hyperparameters: dict[str, Any], rows: int, seed: int, max_length: int = MOST_TOKENS
) -> TrainingRecipe:
    """Return a recipe; "auto" makes about forty steps of few examples, and three epochs of many.

    Args:
        hyperparameters: `n_epochs`, `batch_size` and `learning_rate_multiplier` as in OpenAI's API,
            or "auto".
        rows: how many examples there are.
        seed: of the initial weights and of the order of the examples.
        max_length: of what can be served, in tokens.
    """

    def chosen(name: str, automatic: float) -> Any:
        value = hyperparameters.get(name, AUTO)
        return automatic if value == AUTO else value

    batch = min(rows, chosen("batch_size", BATCH))
    steps_per_epoch = math.ceil(rows / batch)
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(STEPS / steps_per_epoch)))
    return TrainingRecipe(
        epochs=chosen("n_epochs", epochs),
        lr=RATE * chosen("learning_rate_multiplier", 1.0),
        batch_size=batch,
        warmup=0,
        max_length=min(max_length, MOST_TOKENS),
        save_steps=0,
        seed=seed,
    )
