"""What serving and many tenants need, as tables."""

from benchmarks.scale import serving, tenants, training
from benchmarks.scale.adapters import ENDS, LAST, lora_parameters
from benchmarks.scale.cells import seconds, share, size, table
from benchmarks.scale.hardware import H100, Hardware
from benchmarks.scale.models import MODELS
from benchmarks.scale.simulation import Load, read_from_disk, simulate

PROMPT, ROWS, CONTEXT, SLOTS, TENANTS = 480, 32, 1024, 64, 10_000
GIB = 1 << 30


def serving_memory(hardware: Hardware = H100) -> str:
    """Return the memory of a server."""
    rows = []
    for model in MODELS:
        count = serving.cards(model, hardware)
        for adapter in (LAST, ENDS):
            room = serving.cached_tokens(model, adapter, SLOTS, hardware, count)
            sizes = (serving.banks(model, adapter, slots) for slots in (SLOTS, 1024))
            of = (size(training.weights(model)), size(model.cached()), *map(size, sizes))
            rows.append((model.name, str(count), adapter.name, *of, f"{room:,}"))
    named = ("weights", "keys and values of a token", "64 slots", "1024 slots")
    return table(("model", "GPUs", "adapters", *named, "tokens of room, 64 slots"), rows)


def serving_time(hardware: Hardware = H100) -> str:
    """Return the time of steps of a server."""
    rows = []
    for model in MODELS:
        count = serving.cards(model, hardware)
        step = serving.decoding(model, ROWS, CONTEXT, hardware, count)
        loras = [
            serving.lora_of_a_step(model, ROWS, everywhere)
            for everywhere in (False, True)
            if not (everywhere and model.is_mixture)
        ]
        with_loras = [
            serving.decoding(model, ROWS, CONTEXT, hardware, count, more) / step for more in loras
        ]
        times = (
            seconds(serving.prefill(model, PROMPT, hardware, count)),
            seconds(serving.edits_of_a_prompt(model, ENDS, hardware)),
            seconds(step),
            "1",
            *(f"{ratio:.3f}" for ratio in with_loras),
        )
        rows.append((model.name, str(count), *times, *[""] * (2 - len(loras))))
    named = ("prompt of 480", "reading its edits", "32 tokens, one each", "with 32 ReFTs")
    return table(("model", "GPUs", *named, "32 LoRAs on q, v", "on all linear"), rows)


def tenants_memory(hardware: Hardware = H100) -> str:
    """Return what ten thousand adapters take."""
    rows = []
    for model in MODELS:
        for adapter in (LAST, ENDS):
            one = adapter.slot(model)
            cells = (one, TENANTS * one, TENANTS * tenants.in_half(model, adapter))
            times = (
                tenants.seconds_to_read(model, adapter, hardware),
                tenants.seconds_to_write(model, adapter, hardware),
            )
            fit = f"{GIB // one:,}"
            rows.append((model.name, adapter.name, *map(size, cells), fit, *map(seconds, times)))
        lora = 4 * lora_parameters(model, everywhere=False)
        none = ("", "", "")
        cells = (size(lora), size(TENANTS * lora), size(TENANTS * lora / 2))
        rows.append((model.name, "LoRA r 8, q, v", *cells, *none))
    named = ("one, fp32", "10,000, fp32", "10,000, bf16", "in 1 GiB")
    return table(("model", "adapter", *named, "from disk", "into a slot"), rows)


def tenants_slots() -> str:
    """Return what a server does whose tenants have fewer slots than they are."""
    rows = []
    for exponent, name in ((0.0, "uniform"), (1.0, "Zipf")):
        for rate in (10.0, 25.0):
            for slots in (64, 256, 1024):
                found = simulate(Load(TENANTS, exponent, rate), slots)
                rows.append(
                    (
                        name,
                        f"{rate:g}",
                        str(slots),
                        share(found.found),
                        f"{found.loads:.1f}",
                        f"{found.evictions:.1f}",
                        share(found.waited),
                        seconds(found.late) if found.late else "0",
                    )
                )
    named = ("found in a slot", "loads per second", "evictions per second", "had to wait")
    return table(("popularity", "requests per second", "slots", *named, "99 of 100 waited"), rows)


def tenants_store() -> str:
    """Return how often an adapter comes from the disk."""
    rows = []
    for exponent, name in ((0.0, "uniform"), (1.0, "Zipf")):
        load = Load(TENANTS, exponent, requests=8_000)
        found = [share(read_from_disk(load, kept)) for kept in (128, 512, 2048)]
        rows.append((name, *found))
    return table(("popularity", "128 in memory", "512", "2,048"), rows)
