"""What is saved where layers or tokens that no edit can change are computed once."""

from benchmarks.scale.adapters import Reft
from benchmarks.scale.models import BF16, Model
from benchmarks.scale.training import Batch, activations_per_token, reft


def cost(model: Model, below: int, queries: int, length: int) -> tuple[int, int]:
    """Return the work per row of a step that computes everything, and of one that reuses.

    One token forward through one layer is 1, and backward as much: the same units as in
    `reftune.reuse.frozen`.

    Args:
        below: layers whose output no edit changes.
        queries: tokens per row that are computed in the layers after those.
        length: all tokens of a row.
    """
    above = model.layers - below
    return length * (below + 2 * above), 2 * above * queries


def times_faster(plain: float, reused: float, epochs: int) -> float:
    """Return how many times faster a training is, whose first epoch saves nothing."""
    return epochs * plain / (plain + (epochs - 1) * reused)


def kept_per_row(model: Model, adapter: Reft, batch: Batch) -> int:
    """Return the bytes that are kept of a row: a hidden state per token, keys and values."""
    below = adapter.below(model)
    frozen = max(0, batch.prompt - adapter.edited) if adapter.positions.startswith("l") else 0
    pairs = 2 * (model.layers - below) * model.kv_heads * model.head_width
    return BF16 * (batch.length * model.width + frozen * pairs)


def queries(adapter: Reft, batch: Batch) -> int:
    """Return the tokens of a row that are computed in the layers that are edited."""
    if adapter.positions.startswith("l"):
        return batch.completion + adapter.edited
    return batch.length


def activations(model: Model, adapter: Reft, batch: Batch) -> int:
    """Return the bytes that the layers keep for backward.

    They keep the tokens that are computed, and, where those of a prompt are left out, keys and
    values of all: with a mask, for which transformers repeats keys and values for every head.
    """
    each, computed = activations_per_token(model, reft(adapter)), queries(adapter, batch)
    row = computed * each
    if computed < batch.length:
        pair = 2 * BF16 * model.head_width
        row += pair * (batch.length * model.heads - computed * model.kv_heads)
    return batch.rows * (model.layers - adapter.below(model)) * row
