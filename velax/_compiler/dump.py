"""What a compilation makes, printed for people, and what it starts from, written to files."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from velax._lang.config import config
from velax._lang.printer import print_jaxpr

__all__ = ["dump", "dump_kernel", "dump_program"]

_jaxpr_numbers, _graph_numbers = itertools.count(), itertools.count()


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


def dump_program(closed, name: str, graph: Callable[[], Any]) -> None:
    """Write a function that is compiled into the folder that ``jax_dump_ir_to`` names.

    The mode ``jaxpr`` of ``jax_dump_ir_modes`` writes its jaxpr, any other mode its array graph.

    Args:
      closed: the function.
      name: of the function.
      graph: makes its array graph.

    Raises:
      OSError: if the folder cannot be made or written.
    """
    folder, modes = config.jax_dump_ir_to, config.jax_dump_ir_modes.split(",")
    os.makedirs(folder, exist_ok=True)
    if "jaxpr" in modes:
        stem = f"jax_{next(_jaxpr_numbers):06d}_{name.replace(os.sep, '_')}"
        _write(folder, f"{stem}.jaxpr.txt", print_jaxpr(closed.jaxpr))
    if any(mode != "jaxpr" for mode in modes):
        from velax._ir.graph_text import print_graph  # as above

        stem = f"jax_ir{next(_graph_numbers):04d}_{re.sub(r'[^0-9a-zA-Z_]', '_', f'jit({name})').rstrip('_')}"
        _write(folder, f"{stem}_compile.graph.txt", print_graph(graph()))


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
