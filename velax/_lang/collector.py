"""Python's garbage collector, paused where it would search in vain."""

from __future__ import annotations

import gc
import sys

__all__ = ["collector_paused"]


class collector_paused:
    """For a ``with`` statement that makes many objects that live until its end, or on: an import, a compilation.
    The collector would walk them again and again and find nothing; it took a tenth of the time of `import velax`.

    Where modules were imported, what there is then joins the oldest generation without a walk over it, unless the
    program has frozen objects itself.
    """

    __slots__ = ("_modules", "_resume")

    def __enter__(self) -> None:
        self._resume, self._modules = gc.isenabled(), len(sys.modules)
        gc.disable()

    def __exit__(self, *exception: object) -> None:
        if not self._resume:
            return
        if len(sys.modules) != self._modules and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        gc.enable()
