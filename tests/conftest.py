"""Options and fixtures of the test suite: which code generator its small programs go through, and the caches."""

import signal
import zlib

import pytest

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
    velax.clear_caches()
    disk.forget_open_cache()
    yield
    disk.forget_open_cache()
