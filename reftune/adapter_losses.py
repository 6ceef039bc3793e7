"""The loss of a training step in which every row has an adapter of its own.

It is the sum of the adapters' losses, so that each of them gets the gradient that it would get in a
step of its own.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def adapter_losses(
    logits: Tensor,
    targets: Tensor,
    rows: Tensor,
    names: Sequence[str],
    adapters: Collection[str],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of the adapters' mean losses over their own tokens, and these means.

    Args:
        logits: `(tokens, vocabulary)`, any floating dtype.
        targets: `(tokens,)` int64, what they should predict.
        rows: `(tokens,)` int64, the row of each token.
        names: the adapter of every row.
        adapters: those that count; the others' tokens, as those of the base model, do not.

    Returns:
        A float32 scalar, and one per adapter that has a row, detached; 0 if it has no token.
    """
    own = [name for name in dict.fromkeys(names) if name in adapters]
    place = [own.index(name) if name in adapters else len(own) for name in names]
    member = torch.tensor(place, device=logits.device)[rows.to(logits.device)]
    # As transformers computes it.
    each = cross_entropy(logits.float(), targets.to(logits.device), reduction="none")
    sums = each.new_zeros(len(own) + 1).index_add(0, member, each)
    counts = member.bincount(minlength=len(own) + 1).clamp(min=1)
    means = (sums / counts)[: len(own)]
    return means.sum(), dict(zip(own, means.detach().unbind(), strict=True))


def refuse_other_losses(root: Any, inputs: dict[str, Any], plain: bool) -> None:
    """Raise if a training step is not known to have the loss of its labels alone.

    Args:
        root: the model.
        inputs: of its forward, by name.
        plain: whether logits and loss are computed at the labels.

    Raises:
        ValueError: they are not; or something is added to the loss, or another mean taken.
    """
    given, name = inputs.get("labels"), type(root).__name__
    if not plain:
        labels = tuple(given.shape) if isinstance(given, Tensor) else given
        raise ValueError(
            f"adapter_names in training of {name} with labels {labels}: expected labels (batch, "
            "seq), transformers' own loss of a causal model, no compilation and no "
            "logits_everywhere(), so that every adapter has a loss of its own"
        )
    routers = inputs.get("output_router_logits")
    if routers is None:
        routers = getattr(root.config.get_text_config(), "output_router_logits", False)
    if routers or inputs.get("num_items_in_batch") is not None:
        what = "output_router_logits" if routers else "num_items_in_batch"
        raise ValueError(
            f"adapter_names in training of {name} with {what}: expected a loss that is the sum of "
            "each adapter's mean over its own labels"
        )
