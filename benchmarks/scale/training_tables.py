"""What training needs, as tables."""

from dataclasses import replace

from benchmarks.scale import reuse, training
from benchmarks.scale.adapters import ENDS, LAST, SUFFIX
from benchmarks.scale.cells import seconds, share, size, table
from benchmarks.scale.hardware import H100, Hardware
from benchmarks.scale.models import MODELS, Model
from benchmarks.scale.training import METHODS, Batch, Method
from reftune.reuse.frozen import WORTH

BATCH = Batch()


def methods_of(model: Model) -> list[Method]:
    """Return the methods; LoRA on all linear layers is left out where those are experts."""
    return [m for m in METHODS if not (model.is_mixture and m.name.endswith("all linear"))]


def training_memory() -> str:
    """Return the memory of a step on one device."""
    rows = []
    for model in MODELS:
        for method in methods_of(model):
            frozen = 0 if method.is_full else training.weights(model)
            parts = (
                frozen,
                training.states(model, method),
                training.activations(model, method, BATCH, checkpointing=False),
                training.activations(model, method, BATCH, checkpointing=True),
                training.logits(model, method, BATCH),
                training.memory(model, method, BATCH, checkpointing=True),
            )
            trained = f"{method.trained(model):,}"
            rows.append((model.name, method.name, trained, *map(size, parts)))
    kept = ("activations", "the same, checkpointing", "logits, loss", "sum, checkpointing")
    return table(("model", "method", "trained", "frozen weights", "trained × 16", *kept), rows)


def training_time(hardware: Hardware = H100) -> str:
    """Return the time of a step, if it were on one GPU or perfectly split."""
    rows = []
    rate = hardware.flops * hardware.used_flops
    for model in MODELS:
        of = methods_of(model)
        most = training.operations(model, of[-1], BATCH)
        for method in of:
            plain = training.operations(model, method, BATCH)
            again = training.operations(model, method, BATCH, checkpointing=True)
            # A ring sends nearly every gradient twice.
            sent = 2 * training.FP32 * method.trained(model) / hardware.link
            times = (seconds(plain / rate), seconds(again / rate), seconds(sent))
            rows.append(
                (model.name, method.name, f"{plain / 1e12:,.0f}", share(plain / most), *times)
            )
    named = ("TFLOP", "of full", "GPU seconds", "the same, checkpointing", "gradients of DDP")
    return table(("model", "method", *named), rows)


def training_cards(hardware: Hardware = H100) -> str:
    """Return how many GPUs a training needs at least."""
    return table(
        ("model", "method", "bf16, one GPU", "bf16, FSDP2", "4 bits, one GPU"),
        [
            (model.name, method.name, *_cards(model, method, hardware))
            for model in MODELS
            for method in methods_of(model)
        ],
    )


def _cards(model: Model, method: Method, hardware: Hardware) -> tuple[str, str, str]:
    """Say whether one GPU is enough, and how many hold a step of one row each."""
    room, one = hardware.memory * hardware.used_memory, replace(BATCH, rows=1)
    alone = training.memory(model, method, one, checkpointing=True)
    kept = alone - training.states(model, method)
    kept -= 0 if method.is_full else training.weights(model)
    split = training.states(model, method)
    split += 0 if method.is_full else training.weights(model)
    whole = 2 * training.BF16 * model.layer()  # of two layers: one is computed, one is on its way
    count = next(n for n in (1, 2, 4, 8, 16, 32, 64) if split / n + whole + kept <= room)
    small = training.weights(model, four_bits=True) + training.states(model, method) + kept
    answers = ("yes" if alone <= room else "no", str(count))
    return (*answers, "" if method.is_full else ("yes" if small <= room else "no"))


def saved_by_reuse() -> str:
    """Return what reuse saves."""
    rows = []
    for model in MODELS:
        for adapter in (LAST, SUFFIX, ENDS):
            below, computed = adapter.below(model), reuse.queries(adapter, BATCH)
            plain, reused = reuse.cost(model, below, computed, BATCH.length)
            kept = reuse.kept_per_row(model, adapter, BATCH)
            if reused > WORTH * plain:  # too little is saved, and everything is computed
                reused, kept = plain, 0
            faster = (reuse.times_faster(plain, reused, epochs) for epochs in (3, 12))
            memory = reuse.activations(model, adapter, BATCH)
            of = (share(reused / plain), *(f"{times:.2f}" for times in faster))
            rows.append((model.name, adapter.name, str(below), *of, size(kept), size(memory)))
    named = ("layers below", "work of a step", "faster, 3 epochs", "12 epochs")
    return table(("model", "adapter", *named, "kept per row", "activations"), rows)
