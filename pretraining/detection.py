"""The second objective of the encoder: masked tokens in half of a batch, changes in the rest."""

import numpy as np
import torch
from torch.nn import functional
from transformers import RobertaForMaskedLM

from pretraining.batches import Batch, make_batch
from pretraining.corruption import NO_DOCUMENT, Corruption
from pretraining.masked import Masked

# Of the losses of changed tokens, of which there are few, and of texts that have any.
TOKEN_WEIGHT, TEXT_WEIGHT = 8.0, 1.0


class Detection(Masked):
    """Goes on with masked tokens, and tells which tokens and texts were changed.

    Masked tokens alone taught these few million parameters nothing about grammar. Of tokens:
    https://arxiv.org/abs/2003.10555; of whole texts, at their first token:
    https://arxiv.org/abs/1805.12471, section 4.

    Args:
        rows: the packed training rows, from which what takes a token's place is drawn.
        seed: of the changes.
    """

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self.corruption = Corruption(rows, seed)

    def build(
        self, vocab_size: int, hidden: int, layers: int, heads: int, ff: int
    ) -> RobertaForMaskedLM:
        """Make the encoder, and a head of its own that is not shipped."""
        model = super().build(vocab_size, hidden, layers, heads, ff)
        # Is the token changed, is its text.
        model.detector = torch.nn.Linear(hidden, 2)
        return model

    def loss(self, model: RobertaForMaskedLM, batch: Batch, progress: float) -> torch.Tensor:
        """Sum of the losses of both halves."""
        half = len(batch["ids"]) // 2
        masked = {name: tensor[:half] for name, tensor in batch.items()}
        rest = {name: tensor[half:] for name, tensor in batch.items()}
        return super().loss(model, masked, progress) + self.detection_loss(model, rest)

    def detection_loss(self, model: RobertaForMaskedLM, batch: Batch) -> torch.Tensor:
        """Loss of which tokens were changed, and which texts have such tokens."""
        found = self.corruption(batch["ids"].numpy(), batch["docs"].numpy())
        weights = np.zeros(found.ids.shape)
        batch = make_batch(found.ids, weights, found.docs, causal=False)
        logits = model.detector(self.states(model, batch["ids"], batch, batch["mask"])).float()
        real = batch["docs"] != NO_DOCUMENT
        first = real & (batch["positions"] == 0)
        tokens, texts = logits.unbind(-1)
        changed, spoilt = torch.from_numpy(found.changed), torch.from_numpy(found.spoilt)
        loss = functional.binary_cross_entropy_with_logits
        return TOKEN_WEIGHT * loss(tokens[real], changed[real].float()) + TEXT_WEIGHT * loss(
            texts[first], spoilt[first].float()
        )
