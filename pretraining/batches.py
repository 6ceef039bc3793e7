"""Packed rows as tensors: documents share a row and do not see each other."""

import numpy as np
import torch

Batch = dict[str, torch.Tensor]


def make_batch(rows: np.ndarray, weights: np.ndarray, documents: np.ndarray, causal: bool) -> Batch:
    """Turn packed rows into tensors, with positions and attention kept within each document.

    Args:
        rows: token ids, [row, token].
        weights: of each token in the loss, in percent; same shape.
        documents: number of each token's document in its row; same shape.
        causal: whether a token sees only those before it.
    """
    ids = torch.from_numpy(rows.astype(np.int64))
    docs = torch.from_numpy(documents.astype(np.int64))
    starts = torch.zeros_like(docs)
    starts[:, 1:] = (docs[:, 1:] != docs[:, :-1]).long()
    index = torch.arange(ids.size(1)).expand_as(ids)
    positions = index - torch.cummax(index * starts, dim=1).values
    mask = docs[:, :, None] == docs[:, None, :]
    if causal:
        mask &= torch.ones(ids.size(1), ids.size(1)).tril().bool()
    bias = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    weight = torch.from_numpy(weights.astype(np.float32)) / 100
    return {
        "ids": ids,
        "docs": docs,
        "positions": positions,
        "mask": bias[:, None],
        "weight": weight,
    }
