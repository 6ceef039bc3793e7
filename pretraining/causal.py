"""The decoders: Llama's shape, and the loss of the next token."""

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from pretraining.batches import Batch
from pretraining.tokenizer import BOS, END, PAD, SPECIALS


class Causal:
    """Predicts every next token of the same document, weighted."""

    def build(
        self, vocab_size: int, hidden: int, layers: int, heads: int, ff: int
    ) -> LlamaForCausalLM:
        """Make an untrained Llama with tied embeddings and at most half as many key heads."""
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=next(n for n in range(max(1, heads // 2), 0, -1) if heads % n == 0),
            intermediate_size=ff,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=SPECIALS.index(BOS),
            eos_token_id=SPECIALS.index(END),
            pad_token_id=SPECIALS.index(PAD),
        )
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    parameter.zero_()
        return model

    def loss(self, model: LlamaForCausalLM, batch: Batch, progress: float) -> torch.Tensor:
        """Weighted next-token loss of one batch, see `pretraining.batches`."""
        hidden = model.model(
            input_ids=batch["ids"],
            attention_mask=batch["mask"],
            position_ids=batch["positions"],
            use_cache=False,
        ).last_hidden_state
        same = batch["docs"][:, 1:] == batch["docs"][:, :-1]
        wanted = (batch["weight"][:, 1:] * same).reshape(-1)
        keep = wanted > 0
        logits = model.lm_head(hidden[:, :-1].reshape(-1, hidden.size(-1))[keep])
        losses = functional.cross_entropy(
            logits.float(), batch["ids"][:, 1:].reshape(-1)[keep], reduction="none"
        )
        return (losses * wanted[keep]).sum() / wanted.sum()
