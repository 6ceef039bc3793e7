"""Bytes and operations of one training step.

Bytes of activations are those of the tensors that autograd keeps from the forward pass of the
layers of transformers, with weights in bfloat16, rows of one length, and an attention kernel that
keeps its inputs, its output and a number per head and token. A frozen matrix keeps no input: its
gradient is not needed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scale.adapters import (
    ENDS,
    LAST,
    LORA_RANK,
    Reft,
    lora_inputs,
    lora_parameters,
)
from benchmarks.scale.models import BF16, FP32, Model

# float32: a parameter, its gradient, two moments of Adam
TRAINED = 4 * FP32
# bfloat16 logits; in float32 the log-probabilities, their gradient and that of the logits
LOGIT = BF16 + 3 * FP32
# 4 bits, and a scale per 64 numbers that is kept in 8 bits itself (QLoRA, arXiv 2305.14314, §3)
FOUR_BITS = 0.5 + 0.127 / 8


@dataclass(frozen=True)
class Batch:
    """Rows of one length."""

    rows: int = 8
    prompt: int = 480
    completion: int = 32

    @property
    def length(self) -> int:
        """Return the tokens of a row."""
        return self.prompt + self.completion

    @property
    def tokens(self) -> int:
        """Return the tokens of all rows."""
        return self.rows * self.length

    @property
    def labelled(self) -> int:
        """Return the tokens that have a label."""
        return self.rows * self.completion


@dataclass(frozen=True)
class Method:
    """A way of finetuning.

    Attributes:
        trained: its parameters.
        kept: bytes that a layer keeps per token, besides those of a frozen one.
        below: how many of the first layers need no gradient.
        is_full: whether the model's own matrices are trained.
        is_reft: whether few tokens are edited, and logits computed where there are labels alone.
    """

    name: str
    trained: Callable[[Model], int]
    kept: Callable[[Model], int]
    below: Callable[[Model], int]
    is_full: bool = False
    is_reft: bool = False


def reft(adapter: Reft) -> Method:
    """Return how an adapter is trained. What its edits keep is that of a few tokens: left out."""
    return Method(adapter.name, adapter.parameters, lambda model: 0, adapter.below, is_reft=True)


def lora(everywhere: bool) -> Method:
    """Return LoRA by PEFT: adapters in float32, each of which keeps its input in float32."""

    def kept(model: Model) -> int:
        inputs = lora_inputs(model, everywhere)
        return sum(FP32 * (before + LORA_RANK) for before, _ in inputs)

    where = "all linear" if everywhere else "q, v"
    return Method(
        f"LoRA r 8, {where}",
        lambda model: lora_parameters(model, everywhere),
        kept,
        lambda model: 0,
    )


def _kept_by_weights(model: Model) -> int:
    """Return the inputs of the matrices and of the norms' weights, of which gradients are made."""
    attention_and_norms = 8 * model.width
    if not model.is_mixture:
        return attention_and_norms + 2 * model.inner
    return attention_and_norms + model.chosen * 2 * (model.width + model.inner)


FULL = Method("full", Model.parameters, _kept_by_weights, lambda model: 0, is_full=True)
METHODS = (reft(LAST), reft(ENDS), lora(everywhere=False), lora(everywhere=True), FULL)


def activations_per_token(model: Model, method: Method) -> int:
    """Return the bytes that a layer keeps of a token."""
    q, kv = model.heads * model.head_width, model.kv_heads * model.head_width
    norms = 2 * FP32 * (model.width + 1)
    attention = BF16 * 2 * (q + kv) + FP32 * model.heads
    mlp = BF16 * 3 * model.inner
    if model.is_mixture:
        # Per expert also its output, its weight, and where its tokens come from.
        mlp = model.chosen * (mlp + BF16 * model.width + 40) + FP32 * (model.experts + 1)
    return norms + attention + mlp + method.kept(model)


def activations(model: Model, method: Method, batch: Batch, checkpointing: bool) -> int:
    """Return the bytes that all layers keep.

    Args:
        checkpointing: keep the inputs of layers, and run one of them again at a time.
    """
    each = activations_per_token(model, method)
    run = model.layers - method.below(model)
    if checkpointing:
        return batch.tokens * (run * BF16 * model.width + each)
    return batch.tokens * run * each


def logits(model: Model, method: Method, batch: Batch) -> int:
    """Return the bytes of logits and loss."""
    tokens = batch.labelled if method.is_reft else batch.tokens
    return tokens * model.vocabulary * LOGIT


def weights(model: Model, four_bits: bool = False) -> float:
    """Return the bytes of a frozen model, its layers in bfloat16 or in 4 bits."""
    layers = model.layers * model.layer()
    each = FOUR_BITS if four_bits else BF16
    return layers * each + (model.parameters() - layers) * BF16


def states(model: Model, method: Method) -> float:
    """Return the bytes of what is trained, with gradients and optimizer.

    Of full finetuning these are all the weights.
    """
    return TRAINED * method.trained(model)


def memory(model: Model, method: Method, batch: Batch, checkpointing: bool) -> float:
    """Return all of it on one device."""
    frozen = 0.0 if method.is_full else weights(model)
    kept = activations(model, method, batch, checkpointing) + logits(model, method, batch)
    return frozen + states(model, method) + kept


def operations(model: Model, method: Method, batch: Batch, checkpointing: bool = False) -> float:
    """Return the floating-point operations of a step.

    A matrix product costs 2 per parameter and token, as much again for the gradient of its input,
    and as much again for that of the matrix if it is trained. Attention is counted over all pairs
    of tokens, as kernels without a causal mask compute it.
    """
    linear = 2.0 * batch.tokens * model.used_layer()
    attention = 4.0 * batch.tokens * batch.length * model.heads * model.head_width
    run = model.layers - method.below(model)
    forward = model.layers * (linear + attention)
    backward = run * (linear * (2 if method.is_full else 1) + 2 * attention)
    again = run * (linear + attention) if checkpointing else 0
    tokens = batch.labelled if method.is_reft else batch.tokens
    head = 2.0 * tokens * model.head() * (3 if method.is_full else 2)
    beside = 6.0 * batch.tokens * method.trained(model)
    own = 0 if method.is_full or method.is_reft else beside  # that of a few tokens is left out
    return forward + backward + again + head + own
