"""The bytes of many adapters, and the seconds that moving one takes."""

from benchmarks.scale.adapters import Reft
from benchmarks.scale.hardware import Hardware
from benchmarks.scale.models import BF16, Model

# safetensors writes 8 bytes and a JSON header, padded to 8; an entry of it has a name, shape, dtype
# and offsets. adapter_config.json has about 600 bytes.
HEADER, ENTRY, CONFIG = 16, 128, 600
TENSORS = 3  # per site: weight, source, bias


def on_disk(model: Model, adapter: Reft) -> int:
    """Return the bytes of the two files of an adapter, its tensors in float32."""
    header = HEADER + ENTRY * TENSORS * adapter.sites(model) + CONFIG
    return adapter.slot(model) + header


def in_half(model: Model, adapter: Reft) -> int:
    """Return the bytes of tables in bfloat16, as an engine with compact banks has them."""
    return BF16 * adapter.parameters(model)


def seconds_to_read(model: Model, adapter: Reft, hardware: Hardware) -> float:
    """Return how long reading the files takes, without what opening them costs."""
    return on_disk(model, adapter) / hardware.disk


def seconds_to_write(model: Model, adapter: Reft, hardware: Hardware) -> float:
    """Return how long it takes to write a slot from the memory of the host."""
    return adapter.slot(model) / hardware.host
