"""Tiny random models of the real transformers classes, one row per architecture under test."""

from dataclasses import dataclass, field
from functools import partial

import torch
import transformers as tf

TEXT = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GATED = {**TEXT, **TOKENS, "intermediate_size": 48, "num_key_value_heads": 2}
ENCODER = {**TEXT, **TOKENS, "intermediate_size": 48, "max_position_embeddings": 80}


@dataclass(frozen=True)
class TinyModel:
    """One architecture: how to build a random model of it, and what it is able to do."""

    name: str
    config: partial
    model_class: str
    # GPT-2 and OPT-like models count positions from the row's start unless told otherwise, so a
    # left-padded row equals the unpadded one only with explicit position_ids.
    needs_position_ids: bool = False
    components: tuple[str, ...] = field(
        default=("attention_output", "mlp_output", "mlp_activation", "attention_value_output")
    )

    def build(self, seed: int = 0, **overrides) -> tf.PreTrainedModel:
        torch.manual_seed(seed)
        config = self.config(**overrides)
        return getattr(tf, self.model_class)(config).eval()


CAUSAL = [
    TinyModel("llama", partial(tf.LlamaConfig, **GATED), "LlamaForCausalLM"),
    TinyModel("mistral", partial(tf.MistralConfig, **GATED), "MistralForCausalLM"),
    TinyModel("qwen2", partial(tf.Qwen2Config, **GATED), "Qwen2ForCausalLM"),
    TinyModel("qwen3", partial(tf.Qwen3Config, **GATED, head_dim=8), "Qwen3ForCausalLM"),
    TinyModel(
        "qwen3_moe",
        partial(
            tf.Qwen3MoeConfig,
            **GATED,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
        ),
        "Qwen3MoeForCausalLM",
        components=("attention_output", "mlp_output", "attention_value_output"),
    ),
    TinyModel(
        "gemma3_text", partial(tf.Gemma3TextConfig, **GATED, head_dim=8), "Gemma3ForCausalLM"
    ),
    TinyModel("phi3", partial(tf.Phi3Config, **GATED), "Phi3ForCausalLM"),
    TinyModel("olmo2", partial(tf.Olmo2Config, **GATED), "Olmo2ForCausalLM"),
    TinyModel(
        "gpt2",
        partial(
            tf.GPT2Config, vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=80, **TOKENS
        ),
        "GPT2LMHeadModel",
        needs_position_ids=True,
    ),
    TinyModel(
        "gpt_neox",
        partial(tf.GPTNeoXConfig, **TEXT, **TOKENS, intermediate_size=48),
        "GPTNeoXForCausalLM",
    ),
    TinyModel(
        "opt",
        partial(
            tf.OPTConfig,
            **TEXT,
            **TOKENS,
            ffn_dim=48,
            word_embed_proj_dim=32,
            max_position_embeddings=80,
        ),
        "OPTForCausalLM",
    ),
    TinyModel("falcon", partial(tf.FalconConfig, **TEXT, **TOKENS), "FalconForCausalLM"),
    TinyModel(
        "mpt",
        partial(
            tf.MptConfig, vocab_size=96, d_model=32, n_layers=3, n_heads=4, max_seq_len=80, **TOKENS
        ),
        "MptForCausalLM",
    ),
]
ENCODERS = [
    TinyModel("bert", partial(tf.BertConfig, **ENCODER), "BertForSequenceClassification"),
    TinyModel("roberta", partial(tf.RobertaConfig, **ENCODER), "RobertaForSequenceClassification"),
    TinyModel(
        "deberta_v2",
        partial(
            tf.DebertaV2Config,
            **ENCODER,
            relative_attention=True,
            position_buckets=16,
            pos_att_type=["p2c", "c2p"],
        ),
        "DebertaV2ForSequenceClassification",
    ),
    TinyModel(
        "modernbert",
        partial(
            tf.ModernBertConfig,
            **{**GATED, "global_attn_every_n_layers": 2},
            cls_token_id=1,
            sep_token_id=2,
        ),
        "ModernBertForSequenceClassification",
    ),
]
SEQ2SEQ = [
    TinyModel(
        "t5",
        partial(
            tf.T5Config,
            vocab_size=96,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=3,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=0,
            dropout_rate=0.0,
        ),
        "T5ForConditionalGeneration",
    ),
]
VISION = [
    TinyModel(
        "vit",
        partial(
            tf.ViTConfig,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            image_size=16,
            patch_size=4,
        ),
        "ViTForImageClassification",
    ),
]
