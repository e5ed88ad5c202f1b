"""Records of what the package does, through the logger of the module that does it.

Importing `logging` is left to the programs that use it: where no option asks for a record and nobody has
imported it, nobody can see the record either.
"""

from __future__ import annotations

import sys
import time

from velax._lang.config import config

__all__ = ["FinishedRecord", "log"]


def log(module: str, wanted: bool, text: str, *values) -> None:
    """Write ``text % values`` as a warning if it is `wanted`, otherwise at debug level.

    Args:
      module: whose logger, the ``__name__`` of the caller.
      wanted: whether an option asks for the record.
      text, values: as the functions of `logging` take them.
    """
    if wanted or "logging" in sys.modules:
        import logging  # see above

        logging.getLogger(module).log(logging.WARNING if wanted else logging.DEBUG, text, *values)


class FinishedRecord:
    """A context manager that writes ``Finished WHAT in T sec`` when its block ends, wanted by ``jax_log_compiles``."""

    __slots__ = ("_module", "_start", "_what")

    def __init__(self, module: str, what: str):
        self._module, self._what = module, what

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_exception) -> None:
        seconds = time.perf_counter() - self._start
        log(self._module, config.jax_log_compiles, "Finished %s in %.9f sec", self._what, seconds)
