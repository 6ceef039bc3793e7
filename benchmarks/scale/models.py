"""The shapes of known models, and what follows from them: parameters, keys and values."""

from dataclasses import dataclass
from typing import Any

BF16, FP32 = 2, 4  # bytes of a number


@dataclass(frozen=True)
class Model:
    """A decoder with grouped-query attention, gated MLPs and a head of its own.

    Attributes:
        width: of the hidden states, d.
        layers: L.
        heads, kv_heads, head_width: of the attention.
        inner: width of an MLP, or of one expert.
        vocabulary: V.
        experts, chosen: how many experts a layer has, and how many a token goes through.
    """

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    experts: int = 1
    chosen: int = 1

    @property
    def is_mixture(self) -> bool:
        """Say whether there is a router."""
        return self.experts > 1

    def attention(self) -> int:
        """Return the parameters of the four projections of a layer."""
        return 2 * self.width * self.head_width * (self.heads + self.kv_heads)

    def expert(self) -> int:
        """Return the parameters of an MLP, or of one expert."""
        return 3 * self.width * self.inner

    def router(self) -> int:
        """Return the parameters of a router."""
        return self.width * self.experts if self.is_mixture else 0

    def layer(self) -> int:
        """Return the matrix parameters of a layer."""
        return self.attention() + self.router() + self.experts * self.expert()

    def used_layer(self) -> int:
        """Return the matrix parameters of a layer that a token goes through."""
        return self.attention() + self.router() + self.chosen * self.expert()

    def head(self) -> int:
        """Return the parameters of the head, as many as of the embedding."""
        return self.width * self.vocabulary

    def parameters(self) -> int:
        """Return all of them, norms included."""
        norms = self.width * (2 * self.layers + 1)
        return self.layers * self.layer() + 2 * self.head() + norms

    def cached(self) -> int:
        """Return the bytes of the keys and values of a token, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_width * BF16

    def config(self) -> dict[str, Any]:
        """Return the arguments of the configuration of transformers that has this shape."""
        of_experts = {"num_local_experts": self.experts, "num_experts_per_tok": self.chosen}
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
            **(of_experts if self.is_mixture else {}),
        }


# From the config.json of meta-llama/Llama-2-7b-hf, meta-llama/Meta-Llama-3-70B and
# mistralai/Mixtral-8x7B-v0.1 on the hub.
LLAMA_7B = Model("Llama-2-7B", 4096, 32, 32, 32, 128, 11_008, 32_000)
LLAMA_70B = Model("Llama-3-70B", 8192, 80, 64, 8, 128, 28_672, 128_256)
MIXTRAL = Model("Mixtral-8x7B", 4096, 32, 32, 8, 128, 14_336, 32_000, experts=8, chosen=2)
MODELS = (LLAMA_7B, LLAMA_70B, MIXTRAL)
