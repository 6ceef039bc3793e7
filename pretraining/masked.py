"""The encoder: RoBERTa's shape, and the loss of masked tokens."""

import torch
from torch.nn import functional
from transformers import RobertaConfig, RobertaForMaskedLM

from pretraining.batches import Batch
from pretraining.tokenizer import BOS, END, PAD, SPECIALS

MASK_ID = len(SPECIALS)
SHARE = 0.25  # of the tokens are predicted: more than RoBERTa's 15 %, as there are few steps
LONGEST = 256


class Masked:
    """Predicts tokens that are masked, replaced or kept, as 80 : 10 : 10.

    https://arxiv.org/abs/1907.11692, section 2.3
    """

    def build(
        self, vocab_size: int, hidden: int, layers: int, heads: int, ff: int
    ) -> RobertaForMaskedLM:
        """Make an untrained RoBERTa without dropout, which so few passes over the text need not."""
        config = RobertaConfig(
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=ff,
            # RoBERTa counts positions from the padding token's id + 1.
            max_position_embeddings=LONGEST + SPECIALS.index(PAD) + 1,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            bos_token_id=SPECIALS.index(BOS),
            eos_token_id=SPECIALS.index(END),
            pad_token_id=SPECIALS.index(PAD),
        )
        return RobertaForMaskedLM(config)

    def loss(self, model: RobertaForMaskedLM, batch: Batch) -> torch.Tensor:
        """Mean loss of the chosen tokens, see `pretraining.batches`."""
        ids = batch["ids"]
        chosen = (torch.rand(ids.shape) < SHARE) & (ids > MASK_ID)
        fate = torch.rand(ids.shape)
        shown = ids.masked_fill(chosen & (fate < 0.8), MASK_ID)
        others = torch.randint(MASK_ID + 1, model.config.vocab_size, ids.shape)
        shown = torch.where(chosen & (fate >= 0.9), others, shown)
        hidden = model.roberta(
            input_ids=shown,
            attention_mask=batch["mask"],
            position_ids=batch["positions"] + model.config.pad_token_id + 1,
        ).last_hidden_state
        logits = model.lm_head(hidden[chosen])
        return functional.cross_entropy(logits.float(), ids[chosen])
