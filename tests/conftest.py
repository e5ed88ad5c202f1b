"""Options of the test suite, and which code generator its small programs go through."""

import zlib

import pytest

from velax._compiler import driver

ENCODED, THROUGH_LLVM = driver.SMALL_LAUNCH, 0


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
