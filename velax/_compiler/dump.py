"""What a compilation makes, printed for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["dump", "dump_kernel"]


def dump(what: str, text: Callable[[], str]) -> None:
    """Print ``text()`` if ``VELAX_DUMP`` names ``what``: ``loops``, ``llvm``, ``asm``."""
    if what in os.environ.get("VELAX_DUMP", "").split(","):
        print(text(), file=sys.stderr)


def dump_kernel(kernel) -> None:
    """Print the loop IR of a kernel if it is wanted."""

    def text() -> str:
        from velax._ir.loops_text import print_kernel  # large, and for people alone

        return print_kernel(kernel)

    dump("loops", text)
