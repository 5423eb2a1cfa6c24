"""Lists that share their integers are the lists that NumPy makes, and hold and give back what they refer to."""

import gc
import sys
import weakref

import numba
import numpy as np
import pytest

import tokenizer.lists
from tokenizer.lists import shared_lists


def shared_list(ids: np.ndarray, size: int) -> list[int]:
    return shared_lists([ids], size)[0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64])
def test_the_list_is_that_of_numpy(dtype):
    ids = np.random.default_rng(0).integers(0, 50_000, 30_000).astype(dtype)
    found = shared_list(ids, 50_000)
    assert found == ids.tolist() and all(type(one) is int for one in found)
    assert shared_list(ids[::3], 50_000) == ids[::3].tolist()


def test_an_empty_list():
    assert shared_list(np.empty(0, dtype=np.int32), 10) == []


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [3], [1, 0, 2, 5], [0, 4, 0, 0, 300, 0]])
def test_several_lists_are_each_their_own(lengths):
    ids = np.random.default_rng(1).integers(0, 900, sum(lengths), dtype=np.int32)
    arrays = np.split(ids, np.cumsum(lengths)[:-1]) if lengths else []
    found = shared_lists(arrays, 900)
    assert found == [array.tolist() for array in arrays]
    assert len(set(map(id, found))) == len(lengths)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without compiled code the list is NumPy's")
def test_each_place_holds_one_reference_and_gives_it_back():
    one = shared_list(np.array([10_000], dtype=np.int32), 10_001)[0]
    before = sys.getrefcount(one)
    found = shared_list(np.full(500, 10_000, dtype=np.int32), 10_001)
    assert set(map(id, found)) == {id(one)}
    assert sys.getrefcount(one) == before + 500
    found[10:20] = range(10)
    assert sys.getrefcount(one) == before + 490
    del found
    gc.collect()
    assert sys.getrefcount(one) == before


def test_the_list_is_an_ordinary_one():
    found = shared_list(np.arange(300, dtype=np.int32), 300)
    found.append(5)
    found.sort(reverse=True)
    assert found[:2] == [299, 298] and len(found) == 301 and gc.is_tracked(found)


@pytest.mark.parametrize("wrong", [-1, 300, 2**32 + 5])
def test_an_integer_out_of_range_is_refused(wrong):
    with pytest.raises(IndexError, match=f"from 0 to 299, got .*{wrong}"):
        shared_list(np.array([1, 2, wrong, 4]), 300)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without compiled code nothing is shared")
def test_threads_that_make_the_integers_at_the_same_time_each_keep_their_own(monkeypatch):
    class Integers(list):  # unlike a list, it can be referred to weakly
        pass

    made = Integers(range(5_000))
    addresses = np.array([id(one) for one in made])
    alive = weakref.ref(made)
    pairs = [(made, addresses)]
    monkeypatch.setattr(tokenizer.lists, "_integers", lambda size: pairs.pop())  # as a cache that keeps another's
    del made
    fill = tokenizer.lists._fill

    def watched(*arguments):
        assert alive() is not None
        fill(*arguments)

    monkeypatch.setattr(tokenizer.lists, "_fill", watched)
    assert shared_list(np.array([4_000, 3], dtype=np.int32), 5_000) == [4_000, 3]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without compiled code the list is NumPy's")
def test_a_list_that_is_not_filled_yet_can_be_looked_at(monkeypatch):
    seen = []

    def look(lists, *_):
        seen.extend(repr(one) for one in gc.get_objects() if id(one) in lists)
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer.lists, "_fill", look)
    with pytest.raises(KeyboardInterrupt):
        shared_list(np.array([4, 3], dtype=np.int32), 5)
    assert seen == ["[None, None]"]
