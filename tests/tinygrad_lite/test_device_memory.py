"""A GPU without room: what is kept for later is given back first, and the error says what was asked and what helps."""

import gc
import os

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import device
from tinygrad_lite.config import settings
from tinygrad_lite.device_memory import OutOfMemory, Pool
from tinygrad_lite.kernels.cuda.emulator import cupy as emulated
from tinygrad_lite.kernels.cuda.emulator import memory
from tinygrad_lite.kernels.cuda.graph import Graph

pytestmark = pytest.mark.skipif(os.environ.get("TGL_CUDA") != "emulate", reason="only the emulated card is made small")
MIB = 2**20


@pytest.fixture(autouse=True)
def room(monkeypatch):
    """room(bytes): the card has so much left, after what other tests hold; pools keep nothing for later."""
    device.get_device("cuda")

    def leave(count):
        gc.collect()
        memory.default_pool.free_all_blocks()
        monkeypatch.setattr(memory.card, "total", memory.card.taken + count)

    return leave


def make(mib):
    return tgl.zeros(mib, MIB, dtype="bool", device="cuda")


def test_the_error_says_what_was_asked_what_is_free_what_is_held_and_what_helps(room):
    room(10 * MIB)
    kept = make(4)
    with pytest.raises(MemoryError) as caught:
        make(8)
    said = str(caught.value)
    free = f"6.0 MiB of {memory.card.total / 2**20:.1f} MiB free on emulated GPU"
    for part in ('device "cuda": out of memory: 8.0 MiB asked for', free, "pools hold", "of it in use",
                 "--batch-size", "--accumulate", "--dtype bfloat16", "--block-size", "nvidia-smi"):  # fmt: skip
        assert part in said
    assert isinstance(caught.value, OutOfMemory) and kept.shape == (4, MIB)
    del kept
    assert make(8).shape == (8, MIB)


def test_what_the_pools_hold_is_counted_over_all_of_them(room):
    room(10 * MIB)
    pool = Pool(emulated)
    held = sum(p.total_bytes() for p in (pool, memory.default_pool))
    blocks = [pool.malloc(3 * MIB), pool.malloc(2 * MIB)]
    del blocks[0]
    assert (pool.total_bytes(), pool.used_bytes()) == (5 * MIB, 2 * MIB)
    pool.is_recorded = True  # so that the block that is free stays
    with pytest.raises(OutOfMemory, match=r"9.0 MiB asked for, 5.0 MiB of") as caught:
        pool.malloc(9 * MIB)
    assert f"pools hold {(held + 5 * MIB) / MIB:.1f} MiB" in str(caught.value)


def test_what_one_pool_keeps_for_later_is_given_back_for_another(room):
    room(10 * MIB)
    make(8)  # and dies: the default pool keeps its block
    assert memory.default_pool.free_bytes() == 8 * MIB
    pool = Pool(emulated)
    assert pool.malloc(6 * MIB) and pool.total_bytes() == 6 * MIB and memory.default_pool.free_bytes() == 0


def test_arrays_in_cycles_are_collected_before_giving_up(room):
    room(10 * MIB)
    cycle = [make(8)]
    cycle.append(cycle)
    del cycle
    gc.disable()
    try:
        assert make(8).shape == (8, MIB)
    finally:
        gc.enable()


def test_a_limit_that_the_user_sets_on_the_pool_ends_in_the_same_error(room):
    room(10 * MIB)
    memory.default_pool.set_limit(memory.default_pool.total_bytes() + MIB)
    try:
        with pytest.raises(OutOfMemory, match="2.0 MiB asked for"):
            make(2)
    finally:
        memory.default_pool.set_limit(0)


def test_a_graph_runs_out_of_memory_with_the_same_error_and_while_captured_gives_no_block_back(room):
    lib, sizes = emulated, [5 * MIB, 7 * MIB]

    def function(x):  # the capture asks for another size than the first run, whose block is free by then
        lib.zeros((sizes.pop(0),), np.uint8)
        return [x + 1.0]

    graph = Graph(function, tgl.Generator(0))
    room(10 * MIB)
    graph(np.ones(3, np.float32))
    held = graph.pool.total_bytes()
    assert held - graph.pool.used_bytes() == 5 * MIB
    with pytest.raises(OutOfMemory, match="7.0 MiB asked for"):
        graph(np.ones(3, np.float32))
    assert graph.pool.total_bytes() == held  # launches that were recorded before might write there
    assert make(6).shape == (6, MIB) and graph.pool.total_bytes() < held  # no graph came of it: they never run
    assert memory.get_allocator() != graph.pool.malloc and lib.zeros((3,), np.uint8).shape == (3,)


def test_a_pools_own_memory_is_the_cards_again_when_it_dies(room):
    room(10 * MIB)
    taken = memory.card.taken
    pool = Pool(emulated)
    pool.malloc(5 * MIB)
    assert memory.card.taken == taken + 5 * MIB
    del pool
    gc.collect()
    assert memory.card.taken == taken


def test_an_allocator_that_the_program_has_set_stays(monkeypatch):
    own = memory.MemoryPool().malloc
    monkeypatch.setattr(device, "_DEVICES", {"cpu": device.CPU})
    monkeypatch.setattr(settings, "cuda_library", emulated.__name__)
    with memory.using_allocator(own):
        device.get_device("cuda")
        assert memory.get_allocator() == own
