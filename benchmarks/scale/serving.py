"""Bytes and seconds of serving one base model with many adapters."""

from benchmarks.scale.adapters import LORA_RANK, Reft, lora_inputs
from benchmarks.scale.hardware import Hardware
from benchmarks.scale.models import BF16, Model
from benchmarks.scale.training import weights


def banks(model: Model, adapter: Reft, slots: int) -> int:
    """Return the bytes of the tables of all slots, with that of the base model."""
    return (slots + 1) * adapter.slot(model)


def cards(model: Model, hardware: Hardware) -> int:
    """Return how many GPUs, a power of two, hold the weights and have a fifth left for the rest."""
    count = 1
    while weights(model) > 0.8 * count * hardware.memory * hardware.used_memory:
        count *= 2
    return count


def cached_tokens(model: Model, adapter: Reft, slots: int, hardware: Hardware, count: int) -> int:
    """Return for how many tokens there is room for keys and values on so many GPUs.

    Keys and values are split over the GPUs, banks are on each.
    """
    room = count * (hardware.memory * hardware.used_memory - banks(model, adapter, slots))
    return int((room - weights(model)) // model.cached())


def read_weights(model: Model, tokens: int) -> float:
    """Return the bytes of the weights that a step over so many tokens reads.

    Of a mixture these are the experts that one of the tokens goes through, if all are equally
    likely.
    """
    missed = (1 - model.chosen / model.experts) ** tokens
    experts = model.experts * (1 - missed) if model.is_mixture else 1
    layer = model.attention() + model.router() + experts * model.expert()
    return BF16 * (model.layers * layer + model.head())


def decoding(
    model: Model, rows: int, context: int, hardware: Hardware, count: int, more: float = 0.0
) -> float:
    """Return the seconds of a step that gives each of so many rows a token.

    Args:
        context: tokens that each row attends to.
        count: of GPUs, which read their parts at once.
        more: bytes that are read besides the weights, keys and values.
    """
    read = read_weights(model, rows) + rows * context * model.cached() + more
    return read / (count * hardware.bandwidth * hardware.used_bandwidth)


def prefill(model: Model, tokens: int, hardware: Hardware, count: int) -> float:
    """Return the seconds that a prompt takes alone."""
    attention = 4 * tokens * model.heads * model.head_width
    per_token = model.layers * (2 * model.used_layer() + attention)
    done = tokens * per_token + 2 * model.head()
    return done / (count * hardware.flops * hardware.used_flops)


def edits_of_a_prompt(model: Model, adapter: Reft, hardware: Hardware) -> float:
    """Return the seconds in which the edits of one prompt read their rows of the banks.

    After the prompt there is nothing to read.
    """
    return adapter.slot(model) / (hardware.bandwidth * hardware.used_bandwidth)


def lora_of_a_step(model: Model, adapters: int, everywhere: bool) -> int:
    """Return the bytes that a decoding step reads of so many different LoRAs, in bfloat16."""
    widths = lora_inputs(model, everywhere)
    return adapters * BF16 * model.layers * sum(LORA_RANK * (a + b) for a, b in widths)
