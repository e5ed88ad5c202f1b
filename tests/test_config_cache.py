"""Options of the cache on disk: they go before Velax's own environment variables, from the next compilation on."""

import errno
import os

import pytest
from cache_helpers import X, compile_and_run, entries, forget
from jax.experimental.compilation_cache import compilation_cache as jax_compilation_cache
from process_helpers import run_fresh

import velax
from velax._compiler import cache as disk
from velax._lang import config as c
from velax.experimental.compilation_cache import compilation_cache


def test_a_folder_that_the_program_sets(folder, tmp_path, update, monkeypatch):
    """It is used from the next compilation on, whatever the environment says; what is in memory stays."""
    compile_and_run()
    update("jax_compilation_cache_dir", tmp_path / "theirs")
    assert compile_and_run()[0] == ["memory"] and not (tmp_path / "theirs").exists()
    velax.clear_caches()
    assert compile_and_run()[0] == ["compiled"]
    monkeypatch.setenv("VELAX_CACHE", "0")
    forget()
    assert compile_and_run()[0] == ["disk"]
    assert {p.name for p in entries(tmp_path / "theirs")} == {p.name for p in entries(folder)}
    update("jax_compilation_cache_dir", None)
    velax.clear_caches()
    assert compile_and_run()[0] == ["compiled"]


def test_the_folder_of_the_environment(tmp_path):
    source = "import velax, velax.numpy as jnp; velax.jit(lambda x: x * 2)(jnp.ones(3))"
    run_fresh(source, JAX_COMPILATION_CACHE_DIR=tmp_path / "theirs", VELAX_CACHE_DIR=tmp_path / "ours")
    assert entries(tmp_path / "theirs", "program") and not (tmp_path / "ours").exists()


def test_the_functions_that_set_it(folder, tmp_path, update):
    assert set(compilation_cache.__all__) == {n for n in dir(jax_compilation_cache) if not n.startswith("_")}
    update("jax_compilation_cache_dir", None)
    compilation_cache.set_cache_dir(tmp_path / "theirs")
    compile_and_run()
    assert velax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    assert entries(tmp_path / "theirs", "program") and not folder.exists()
    (tmp_path / "theirs").rename(tmp_path / "elsewhere")
    (tmp_path / "theirs").write_text("a file now")
    compilation_cache.reset_cache()
    with pytest.warns(RuntimeWarning, match="File exists"):
        compile_and_run(lambda x: x - 1, X)


@pytest.mark.parametrize(
    "option, value", [("jax_enable_compilation_cache", False), ("jax_compilation_cache_max_size", 0)]
)
def test_switched_off_by_the_program(folder, update, option, value):
    compile_and_run()
    update(option, value)
    velax.clear_caches()
    n = len(entries(folder))
    assert compile_and_run()[0] == compile_and_run(lambda x: x - 1, X)[0] == ["compiled"]
    assert len(entries(folder)) == n


def test_switched_off_for_a_block(folder):
    with c.enable_compilation_cache(False):
        compile_and_run()
    assert not folder.exists()
    compile_and_run(lambda x: x - 1, X)
    assert entries(folder, "program")


def test_the_cap_that_the_program_sets(folder, update, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE_MAX_BYTES", "1G")
    update("jax_compilation_cache_max_size", 8000)
    forget()
    for k in range(6):
        compile_and_run(lambda x, k=k: x * (k + 0.5), X)
        assert sum(p.stat().st_size for p in entries(folder)) <= 8000 + 8000 // 8 + 4000


def test_files_of_others_in_the_folder_stay(tmp_path):
    cache = disk.Cache(tmp_path, max_bytes=3000)
    others = ["notes.txt", "program-notes.txt", "jit_f-0a1b-cache", "kernel", ".new-thing", "program-v2"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(5000))
        os.utime(tmp_path / name, (0, 0))
    cache.store("program", "0a", bytes(1500))
    cache.trim()
    assert cache.load("program", "0a") is not None  # theirs do not count
    (tmp_path / ".new-1-2-3").write_bytes(bytes(2000))  # of a process that was killed
    os.utime(tmp_path / ".new-1-2-3", (0, 0))
    cache.trim()
    assert {p.name for p in tmp_path.iterdir()} == {*others, "program-0a"}


def test_errors_are_raised_where_the_program_asks_for_it(folder, tmp_path, update, monkeypatch):
    update("jax_raise_persistent_cache_errors", True)
    compile_and_run()

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    for what in ("_read", "_new_file"):
        with monkeypatch.context() as m:
            m.setattr(disk, what, fail)
            for _ in range(2):
                velax.clear_caches()
                with pytest.raises(OSError, match="Input/output error"):
                    compile_and_run(lambda x: x - 1, X)
    for p in entries(folder, "program"):
        p.write_bytes(b"nonsense")
    velax.clear_caches()
    with pytest.raises(RuntimeError, match=r"entry .*program-\w+ of the cache of compiled programs was damaged"):
        compile_and_run()
    assert compile_and_run()[0] == ["compiled"]  # it is gone
    (tmp_path / "file").write_text("mine")
    for name, error in ((tmp_path / "file", "File exists"), ("gs://bucket/cache", "no folder of this machine")):
        update("jax_compilation_cache_dir", name)
        with pytest.raises(OSError, match=error):
            compile_and_run(lambda x: x - 2, X)
