"""The environment variables: what is accepted, what is refused, and where compiled kernels go."""

from pathlib import Path

import pytest

from tinygrad_lite.config import Settings


def test_a_user_who_has_told_the_allocator_is_left_alone():
    assert Settings({"MALLOC_TRIM_THRESHOLD_": "1"}).allocator_is_set and not Settings({}).allocator_is_set


def test_an_empty_environment_gives_the_defaults():
    settings = Settings({}, "linux")
    assert settings.use_fused is True and settings.num_threads is None
    assert settings.cache_directory == Path.home() / ".cache/tinygrad_lite"


@pytest.mark.parametrize("value, expected", [("0", False), ("1", True), ("", True), (" 0 ", False)])
def test_fused_is_a_switch(value, expected):
    assert Settings({"TGL_FUSED": value}).use_fused is expected


@pytest.mark.parametrize("value, expected", [("1", 1), (" 7 ", 7), ("1024", 1024), ("", None), ("  ", None)])
def test_threads_are_a_number(value, expected):
    assert Settings({"TGL_NUM_THREADS": value}).num_threads == expected


@pytest.mark.parametrize("value", ["0", "-1", "abc", "2.5", "1025", "²", "1 2"])
def test_a_bad_number_of_threads_is_refused_by_name(value):
    with pytest.raises(ValueError, match="TGL_NUM_THREADS: expected a whole number from 1 to 1024, got"):
        Settings({"TGL_NUM_THREADS": value})


@pytest.mark.parametrize("value", ["false", "no", "2", "off"])
def test_a_bad_switch_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"TGL_FUSED: expected 0 or 1, got '{value}'"):
        Settings({"TGL_FUSED": value})


@pytest.mark.parametrize(
    "environment, platform, expected",
    [
        ({"TGL_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/x"}, "linux", Path("/a/b").absolute()),
        ({"TGL_CACHE_DIR": "~/kernels"}, "linux", Path.home() / "kernels"),
        ({"TGL_CACHE_DIR": "kernels"}, "linux", Path.cwd() / "kernels"),
        ({"TGL_CACHE_DIR": " ", "XDG_CACHE_HOME": "/x"}, "linux", Path("/x/tinygrad_lite")),
        ({}, "darwin", Path.home() / "Library/Caches/tinygrad_lite"),
        ({"LOCALAPPDATA": "/local"}, "win32", Path("/local/tinygrad_lite/Cache")),
    ],
)
def test_compiled_kernels_are_kept_in_the_users_cache_or_where_told(environment, platform, expected):
    assert Settings(environment, platform).cache_directory == expected


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert Settings({}, "linux").cache_directory is None


@pytest.mark.parametrize("value, expected", [
    ("", "cupy"), ("cupy", "cupy"), (" emulate ", "tinygrad_lite.kernels.cuda.emulator.cupy"),
])  # fmt: skip
def test_what_stands_behind_cuda_is_cupy_or_the_emulator(value, expected):
    assert Settings({"TGL_CUDA": value}).cuda_library == expected


def test_another_library_behind_cuda_is_refused_by_name():
    with pytest.raises(ValueError, match="TGL_CUDA: expected cupy or emulate, got 'torch'"):
        Settings({"TGL_CUDA": "torch"})


def test_graphs_are_a_switch_and_toolkits_are_found():
    assert Settings({}).use_graph and not Settings({"TGL_GRAPH": "0"}).use_graph
    assert (
        Settings({"CUDA_HOME": "/b", "CUDA_PATH": "/a"}).cuda_toolkits == ("/a", "/b")
        and not Settings({}).cuda_toolkits
    )
