"""What the model types of transformers call their layers and projections: one row per type.

From the two projections of a row follow all components of a layer. A model type without a row still
has `block_output` and `block_input` if its layers can be found by their number, and every module by
its dotted path. To add an
architecture, print `model.base_model`, add its row here and a tiny model of it to the tests.
"""

from dataclasses import dataclass
from typing import Literal

Side = Literal["input", "output"]

# Name of a component -> the fields of `LayerStack`, the first that is filled, with the module that
# owns it (none: the layer itself), and the side.
COMPONENTS: dict[str, tuple[tuple[str, ...], Side]] = {
    "block_output": ((), "output"),
    "block_input": ((), "input"),
    "attention_output": (("attention",), "output"),
    "attention_value_output": (("attention",), "input"),
    "mlp_output": (("mlp", "mlp_block"), "output"),
    "mlp_activation": (("mlp",), "input"),
}


@dataclass(frozen=True)
class LayerStack:
    """The names of one stack of layers.

    Args:
        layers: path of the list of layers, from the base model (`model.base_model`), so that one
            row serves the bare model and all its heads.
        attention: path of the attention's output projection within a layer; its input is
            `attention_value_output`, its output `attention_output`.
        mlp: path of the MLP's down projection within a layer; its input is `mlp_activation`, its
            output `mlp_output`. Empty where experts have many.
        mlp_block: path of the whole MLP where it has no single down projection.
    """

    layers: str
    attention: str = ""
    mlp: str = ""
    mlp_block: str = ""


_LLAMA = LayerStack("layers", "self_attn.o_proj", "mlp.down_proj")
_MOE = LayerStack("layers", "self_attn.o_proj", mlp_block="mlp")
_VISION_LANGUAGE = LayerStack("language_model.layers", "self_attn.o_proj", "mlp.down_proj")
_BERT = LayerStack("encoder.layer", "attention.output.dense", "output.dense")
_FALCON = LayerStack("h", "self_attention.dense", "mlp.dense_4h_to_h")

_BART = {
    "encoder": LayerStack("encoder.layers", "self_attn.out_proj", "fc2"),
    "decoder": LayerStack("decoder.layers", "self_attn.out_proj", "fc2"),
}

# One row per model type: the name of a stack ("" for the only one) -> its paths.
ARCHITECTURES: dict[str, dict[str, LayerStack]] = {
    "llama": {"": _LLAMA},
    "mistral": {"": _LLAMA},
    "qwen2": {"": _LLAMA},
    "qwen3": {"": _LLAMA},
    "gemma": {"": _LLAMA},
    "gemma2": {"": _LLAMA},
    "gemma3_text": {"": _LLAMA},
    "phi3": {"": _LLAMA},
    "olmo": {"": _LLAMA},
    "olmo2": {"": _LLAMA},
    "smollm3": {"": _LLAMA},
    "granite": {"": _LLAMA},
    "stablelm": {"": _LLAMA},
    "mixtral": {"": _MOE},
    "olmoe": {"": _MOE},
    "qwen2_moe": {"": _MOE},
    "qwen3_moe": {"": _MOE},
    "gemma3": {"": _VISION_LANGUAGE},
    "llava": {"": _VISION_LANGUAGE},
    "qwen2_5_vl": {"": _VISION_LANGUAGE},
    "phi": {"": LayerStack("layers", "self_attn.dense", "mlp.fc2")},
    "gpt2": {"": LayerStack("h", "attn.c_proj", "mlp.c_proj")},
    "gptj": {"": LayerStack("h", "attn.out_proj", "mlp.fc_out")},
    "gpt_neox": {"": LayerStack("layers", "attention.dense", "mlp.dense_4h_to_h")},
    "opt": {"": LayerStack("decoder.layers", "self_attn.out_proj", "fc2")},
    "bloom": {"": _FALCON},
    "falcon": {"": _FALCON},
    "mpt": {"": LayerStack("blocks", "attn.out_proj", "ffn.down_proj")},
    "bert": {"": _BERT},
    "roberta": {"": _BERT},
    "xlm-roberta": {"": _BERT},
    "electra": {"": _BERT},
    "deberta": {"": _BERT},
    "deberta-v2": {"": _BERT},
    "modernbert": {"": LayerStack("layers", "attn.Wo", "mlp.Wo")},
    "vit": {"": LayerStack("layers", "attention.o_proj", "mlp.fc2")},
    "t5": {
        "encoder": LayerStack(
            "encoder.block", "layer.0.SelfAttention.o", "layer.1.DenseReluDense.wo"
        ),
        "decoder": LayerStack(
            "decoder.block", "layer.0.SelfAttention.o", "layer.2.DenseReluDense.wo"
        ),
    },
    "bart": _BART,
    "mbart": _BART,
    "marian": _BART,
    "pegasus": _BART,
    "whisper": _BART,
}

# Model types whose hidden states are (seq, batch, width), in which no row of a batch is found.
SEQUENCE_FIRST = {"xlnet", "fsmt"}
