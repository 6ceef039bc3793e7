"""The arithmetic and the simulation of serving agree with real banks, files and theory."""

import math
import random
from pathlib import Path

import pytest
import torch

from benchmarks.scale import serving, tenants
from benchmarks.scale.__main__ import PAGE
from benchmarks.scale.adapters import ENDS, LAST
from benchmarks.scale.page import filled
from benchmarks.scale.simulation import Load, arrivals, popularity, read_from_disk, simulate
from benchmarks.scale.tables import TABLES
from reftune.serving import adapters as served
from reftune.serving.adapters import AdapterCache, read_adapter
from reftune.serving.editing import Editing
from tests.scaled_models import DENSE, build
from tests.serving.served import write_adapter


def test_keys_and_values_are_the_cached_ones():
    cache = build(DENSE)(torch.arange(5)[None]).past_key_values
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    assert sum(tensor.nbytes for tensor in tensors) == 5 * DENSE.cached()


@pytest.mark.parametrize("adapter", [LAST, ENDS], ids=lambda adapter: adapter.name)
def test_banks_and_files_have_the_bytes_that_are_said(adapter, tmp_path):
    model = build(DENSE)
    folder = write_adapter(tmp_path / "adapter", model, 0, **adapter.config(DENSE))
    editing, read = Editing(model, slots=6), read_adapter(folder, model)
    editing.hook(read)
    editing.write(1, read)
    tables = [
        table
        for banks in editing._banks.values()
        for bank in banks
        if bank._matrices is not None
        for table in vars(bank._matrices).values()
    ]
    assert sum(table.nbytes for table in tables) == serving.banks(DENSE, adapter, 5)
    assert read.size == adapter.slot(DENSE)
    files = sum(
        (folder / name).stat().st_size
        for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    assert files == pytest.approx(
        tenants.on_disk(DENSE, adapter), abs=100 + 30 * adapter.sites(DENSE)
    )


def che(load: Load, slots: int) -> float:
    """Return the share of hits of a cache that drops what was used last, by Che's approximation."""
    weights = [k**-load.exponent for k in range(1, load.tenants + 1)]
    shares = [weight / sum(weights) for weight in weights]
    low, high = 0.0, 1e9
    while high - low > 1e-6 * high:
        time = (low + high) / 2
        filled = sum(1 - math.exp(-p * time) for p in shares)
        low, high = (time, high) if filled < slots else (low, time)
    return sum(p * (1 - math.exp(-p * low)) for p in shares)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_slots_are_found_as_often_as_theory_says(exponent):
    load = Load(tenants=500, exponent=exponent, rate=5, seconds=0.1, requests=8000)
    found = simulate(load, 50)
    expected = che(load, 50)
    assert found.found == pytest.approx(expected, abs=0.02)
    assert 1 - read_from_disk(load, 50) == pytest.approx(expected, abs=0.02)
    assert found.loads == pytest.approx(found.evictions)  # they are all in use by then
    assert found.loads == pytest.approx(load.rate * (1 - found.found), rel=0.05)


def test_requests_wait_for_slots_as_in_a_queue():
    """With a tenant per request, the slots are the servers of a queue: Erlang's formula."""
    load = Load(tenants=10**5, rate=7, seconds=1, requests=10_000)
    busy, slots = load.rate * load.seconds, 10
    blocked = busy**slots / math.factorial(slots)
    blocked /= sum(busy**k / math.factorial(k) for k in range(slots + 1))
    waits = blocked / (1 - busy / slots * (1 - blocked))
    assert simulate(load, slots).waited == pytest.approx(waits, abs=0.05)


def test_the_store_reads_as_often_as_the_real_one(tmp_path, monkeypatch):
    model = build(DENSE)
    folder = write_adapter(tmp_path / "adapter", model, 0, **LAST.config(DENSE))
    adapter, read = read_adapter(folder, model), []
    monkeypatch.setattr(served, "read_adapter", lambda path, model: read.append(path) or adapter)
    monkeypatch.setattr(served, "_signature", lambda folder: ())
    load = Load(tenants=40, exponent=1.0, requests=500)
    store = AdapterCache(model, limit=7 * adapter.size)
    missing = 0
    for number, request in enumerate(arrivals(load)):
        before = len(read)
        store.get(Path(request.adapter.digest))
        missing += number >= load.requests and len(read) > before
    assert missing / load.requests == read_from_disk(load, 7) > 0


def test_zipf_is_zipf():
    load, draws = Load(tenants=100, exponent=1.0), random.Random(0)
    draw = popularity(load, draws)
    drawn = [draw() for _ in range(20_000)]
    harmonic = sum(1 / k for k in range(1, 101))
    for rank in (1, 2, 10):
        assert drawn.count(rank - 1) / 20_000 == pytest.approx(1 / rank / harmonic, rel=0.1)


def test_the_page_has_the_tables_that_the_script_makes():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, TABLES) == page, "run `python -m benchmarks.scale`"


def test_a_page_without_a_place_for_a_table_is_an_error():
    with pytest.raises(ValueError, match=r"places for \['one'\]: expected \['two'\]"):
        filled("<!-- table: one -->\n\n<!-- end -->\n", {"two": str})
