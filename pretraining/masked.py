"""The encoder: RoBERTa's shape, and the loss of masked tokens."""

import torch
from torch.nn import functional
from transformers import RobertaConfig, RobertaForMaskedLM

from pretraining.batches import Batch
from pretraining.tokenizer import BOS, END, PAD, SPECIALS

MASK_ID = len(SPECIALS)
# Under a fixed budget an encoder learns more if it first predicts next tokens, as a decoder does,
# and masked ones after that: https://arxiv.org/abs/2507.00994
CAUSAL_PHASE = 0.4
# Of the tokens, so many are masked: more than RoBERTa's 15 %. https://arxiv.org/abs/2202.08005
SHARE = 0.3
LONGEST = 256


class Masked:
    """Predicts next tokens at first, then tokens that are masked, replaced or kept, 80 : 10 : 10.

    https://arxiv.org/abs/1907.11692, section 2.3
    """

    def build(
        self, vocab_size: int, hidden: int, layers: int, heads: int, ff: int
    ) -> RobertaForMaskedLM:
        """Make an untrained RoBERTa whose tokens look at their neighbours.

        It has no dropout, which so few passes over the text do not need.
        """
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
        model = RobertaForMaskedLM(config)
        _look_near(model)
        return model

    def loss(self, model: RobertaForMaskedLM, batch: Batch, progress: float) -> torch.Tensor:
        """Mean loss of the predicted tokens, see `pretraining.batches`."""
        if progress < CAUSAL_PHASE:
            return self.causal_loss(model, batch)
        ids = batch["ids"]
        chosen = (torch.rand(ids.shape) < SHARE) & (ids > MASK_ID)
        fate = torch.rand(ids.shape)
        shown = ids.masked_fill(chosen & (fate < 0.8), MASK_ID)
        others = torch.randint(MASK_ID + 1, model.config.vocab_size, ids.shape)
        shown = torch.where(chosen & (fate >= 0.9), others, shown)
        hidden = self.states(model, shown, batch, batch["mask"])
        return _prediction_loss(model, hidden[chosen], ids[chosen])

    def causal_loss(self, model: RobertaForMaskedLM, batch: Batch) -> torch.Tensor:
        """Mean loss of every next token, which no token sees."""
        ids, docs = batch["ids"], batch["docs"]
        length = ids.shape[1]
        later = torch.ones(length, length).triu(1).bool()
        mask = batch["mask"].masked_fill(later, torch.finfo(torch.float32).min)
        chosen = torch.zeros_like(ids).bool()
        chosen[:, :-1] = (docs[:, 1:] == docs[:, :-1]) & (ids[:, 1:] != model.config.pad_token_id)
        hidden = self.states(model, ids, batch, mask)
        return _prediction_loss(model, hidden[chosen], ids.roll(-1, dims=1)[chosen])

    @staticmethod
    def states(
        model: RobertaForMaskedLM, shown: torch.Tensor, batch: Batch, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the last hidden states of packed rows."""
        return model.roberta(
            input_ids=shown,
            attention_mask=mask,
            position_ids=batch["positions"] + model.config.pad_token_id + 1,
        ).last_hidden_state


def _prediction_loss(
    model: RobertaForMaskedLM, hidden: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    return functional.cross_entropy(model.lm_head(hidden).float(), wanted)


@torch.no_grad()
def _look_near(model: RobertaForMaskedLM) -> None:
    """Begin with positions as waves and queries equal to keys, so that near tokens attend.

    From random positions it takes hundreds of steps to find out which tokens are near, and until
    then nothing is learned but which words go together.
    """
    config, inner = model.config, model.roberta
    table = inner.embeddings.position_embeddings.weight
    width = config.hidden_size
    place = torch.arange(len(table))[:, None]
    wave = place / 10000 ** (torch.arange(0, width, 2) / width)
    size = config.initializer_range * 2**0.5  # as long as a token's embedding
    table.copy_(torch.cat([wave.sin(), wave.cos()], dim=1) * size)
    table[config.pad_token_id] = 0
    for layer in inner.encoder.layer:
        attention = layer.attention.self
        torch.nn.init.orthogonal_(attention.query.weight)
        attention.key.weight.copy_(attention.query.weight)
