"""Options and fixtures of the test suite: which code generator its small programs go through, and the caches."""

import signal
import zlib

import pytest
from cache_helpers import forget

import velax
from velax._compiler import cache as disk, driver

ENCODED, THROUGH_LLVM = driver.SMALL_LAUNCH, 0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and children inherit it; tests of interrupts need them.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden texts of tests/golden anew instead of comparing with them",
    )


@pytest.fixture(autouse=True)
def code_generator(request, monkeypatch):
    """Tests run small programs. By their names, half of them have those compiled by LLVM, so that both
    generators see them all.
    """
    limit = ENCODED if zlib.crc32(request.node.nodeid.encode()) % 2 else THROUGH_LLVM
    monkeypatch.setattr(driver, "SMALL_LAUNCH", limit)


@pytest.fixture
def no_disk(monkeypatch):
    """Nothing is compiled yet, and no cache on disk is read or written."""
    monkeypatch.setenv("VELAX_CACHE", "0")
    forget()
    yield
    disk.forget_open_cache()


def _setter(*libraries):
    """A function that sets an option of all of ``libraries``, and one that undoes all of it."""
    old = {}

    def set_option(name, value):
        for lib in libraries:
            old.setdefault((lib, name), lib.config.values[name])
            lib.config.update(name, value)

    def undo():
        for (lib, name), value in old.items():
            lib.config.update(name, value)

    return set_option, undo


@pytest.fixture
def update():
    """`velax.config.update`, undone at the end."""
    set_option, undo = _setter(velax)
    yield set_option
    undo()


@pytest.fixture
def update_both():
    """`config.update` of Velax and of JAX, undone at the end."""
    import jax  # most test processes import it anyway, those of the native core alone do not

    set_option, undo = _setter(velax, jax)
    yield set_option
    undo()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the cache on disk, which the environment names."""
    monkeypatch.setenv("VELAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("VELAX_CACHE", raising=False)
    forget()
    yield tmp_path / "cache"
    forget()
