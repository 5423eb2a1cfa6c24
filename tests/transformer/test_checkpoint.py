"""Reading a run's directory while the run goes on writing into it."""

import os

import numpy as np
import pytest

from transformer import checkpoint
from transformer.files import save_arrays


def save(out, step):
    """A checkpoint whose every part tells its step."""
    array = np.full(3, step, np.float32)
    checkpoint.save(out, step, {"w": array}, {"optimizer.m": array}, {"step": step})


def parts(loaded):
    *arrays, state = loaded
    return {state["step"], *(int(x) for named in arrays for array in named.values() for x in array)}


@pytest.mark.parametrize("load", [checkpoint.load, checkpoint.load_weights])
@pytest.mark.parametrize("function", ["_latest", "all_in", "_read"])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_save_at_any_moment_of_reading_leaves_one_whole_checkpoint_to_read(
    tmp_path, monkeypatch, load, function, call, when
):
    save(tmp_path, 10)
    real, calls = getattr(checkpoint, function), []

    def meanwhile(*args):
        calls.append(args)
        number = len(calls)
        if number == call and when == "before":
            other_process_saves()
        result = real(*args)
        if number == call and when == "after":
            other_process_saves()
        return result

    def other_process_saves():
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, function, real)
            save(tmp_path, 20)

    monkeypatch.setattr(checkpoint, function, meanwhile)
    assert parts(load(tmp_path)) in ({10}, {20})


def test_a_checkpoint_that_is_damaged_and_not_replaced_is_an_error_at_once(tmp_path):
    save(tmp_path, 10)
    (tmp_path / "step-00000010" / "model.safetensors").write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match="model.safetensors: cannot be read"):
        checkpoint.load_weights(tmp_path)


def test_reading_writes_nothing_and_needs_no_lock(tmp_path):
    save(tmp_path, 10)
    with checkpoint.lock(tmp_path):
        before = {p: p.stat().st_mtime_ns for p in (tmp_path, *tmp_path.rglob("*"))}
        mode = os.stat(tmp_path).st_mode
        os.chmod(tmp_path, 0o500)
        try:
            assert parts(checkpoint.load_weights(tmp_path)) == {10}
        finally:
            os.chmod(tmp_path, mode)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_an_old_checkpoint_that_cannot_be_removed_now_goes_with_the_next_save(tmp_path, monkeypatch):
    save(tmp_path, 10)
    real = checkpoint.replace

    def refuse(source, target):
        if ".removing-" in str(target):
            raise PermissionError("open elsewhere")
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "replace", refuse)
        save(tmp_path, 20)
    assert parts(checkpoint.load(tmp_path)) == {20} and parts(checkpoint.load(tmp_path / "step-00000010")) == {10}
    save(tmp_path, 30)
    assert [p.name for p in tmp_path.glob("*step-*")] == ["step-00000030"]


def test_what_a_killed_process_left_is_cleared_by_the_next_run_though_it_saves_nothing(tmp_path):
    save(tmp_path, 10)
    for name in (".removing-1-step-00000005", ".writing-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    with checkpoint.lock(tmp_path):
        assert parts(checkpoint.load(tmp_path)) == {10}
    assert not [*tmp_path.glob(".removing-*"), *tmp_path.glob(".writing-*")]


def test_what_is_left_of_a_removal_is_never_in_the_way_of_another_of_its_name(tmp_path):
    save(tmp_path, 10)
    left = tmp_path / f".removing-{os.getpid()}-step-00000010"  # another process's, of this number
    left.mkdir()
    (left / "optimizer.safetensors").write_bytes(b"")
    save(tmp_path, 20)
    assert checkpoint.find(tmp_path).name == "step-00000020" and not left.exists()
    save(tmp_path, 30)
    assert [p.name for p in tmp_path.glob("*step-*")] == ["step-00000030"]


def test_checkpoints_that_are_kept_stay_and_the_newest_is_still_found(tmp_path):
    for step in (1, 2, 3):
        array = np.full(3, step, np.float32)
        checkpoint.save(tmp_path, step, {"w": array}, {"optimizer.m": array}, {"step": step}, keep=True)
    assert [p.name for p in checkpoint.all_in(tmp_path)] == ["step-00000001", "step-00000002", "step-00000003"]
    assert parts(checkpoint.load(tmp_path)) == {3}
    assert parts(checkpoint.load(tmp_path / "step-00000001")) == {1}


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_no_half_and_the_one_before(tmp_path, monkeypatch, error):
    def fail(path):
        raise error

    save(tmp_path, 10)
    monkeypatch.setattr(checkpoint, "_flush", fail)
    with pytest.raises(type(error)):
        save(tmp_path, 20)
    assert parts(checkpoint.load(tmp_path)) == {10} and not list(tmp_path.glob(".writing-*"))


def test_arrays_that_cannot_be_written_are_the_systems_error_with_the_files_name(tmp_path):
    with pytest.raises(OSError, match=r"none.w\.safetensors: cannot be written: "):
        save_arrays(tmp_path / "none" / "w.safetensors", {"w": np.zeros(3, np.float32)})
