"""The tables of `docs/scale.md`."""

from collections.abc import Callable

from benchmarks.scale import serving_tables, training, training_tables
from benchmarks.scale.cells import share, size, table
from benchmarks.scale.hardware import H100, Hardware
from benchmarks.scale.models import MODELS


def machine(hardware: Hardware = H100) -> str:
    """Return what is assumed of the hardware."""
    flops = f"{hardware.flops / 1e12:g} TFLOP/s"
    rows = [
        ("memory", size(hardware.memory), share(hardware.used_memory)),
        ("bfloat16 matrix products", flops, share(hardware.used_flops)),
        ("its memory", size(hardware.bandwidth) + "/s", share(hardware.used_bandwidth)),
        ("to another GPU, one way", size(hardware.link) + "/s", ""),
        ("from the host's memory", size(hardware.host) + "/s", ""),
        ("from a local disk", size(hardware.disk) + "/s", ""),
    ]
    return table((hardware.name, "", "of which used"), rows)


def shapes() -> str:
    """Return the models."""
    rows = []
    for model in MODELS:
        used = model.layers * model.used_layer() + model.head()
        experts = f"{model.chosen} of {model.experts}" if model.is_mixture else ""
        attention = f"{model.heads} / {model.kv_heads} × {model.head_width}"
        numbers = (model.width, model.layers, attention, model.inner, experts, model.vocabulary)
        of = [size(training.weights(model)), size(training.weights(model, four_bits=True))]
        counts = (f"{model.parameters():,}", f"{used / 1e9:.3g} G", *of)
        rows.append((model.name, *map(str, numbers), *counts))
    named = ("width", "layers", "heads / kv heads", "MLP", "experts", "vocabulary")
    return table(("model", *named, "parameters", "per token", "bf16", "4 bits"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "machine": machine,
    "shapes": shapes,
    "training memory": training_tables.training_memory,
    "training time": training_tables.training_time,
    "training cards": training_tables.training_cards,
    "reuse": training_tables.saved_by_reuse,
    "serving memory": serving_tables.serving_memory,
    "serving time": serving_tables.serving_time,
    "tenants memory": serving_tables.tenants_memory,
    "tenants slots": serving_tables.tenants_slots,
    "tenants store": serving_tables.tenants_store,
}
