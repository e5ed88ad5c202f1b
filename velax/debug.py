"""Looking at values inside transformed and compiled functions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from velax._lang.effects import DebugEffect as DebugEffect, OrderedDebugEffect as OrderedDebugEffect
from velax._lang.traceback import public_module as _public_module
from velax.lax import _callbacks

__all__ = ["DebugEffect", "OrderedDebugEffect", "callback", "log", "print"]

_logger = logging.getLogger("velax.debug")


def print(
    fmt: str | None = None, *args: Any, ordered: bool = False, partitioned: bool = False, skip_format_check: bool = False,
    _use_logging: bool = False, **kwargs: Any,
) -> Callable[..., None] | None:  # fmt: skip
    """Print values when the program runs, also from compiled code.

    Under `vmap` it prints for each example, under `grad` the values of the forward pass.

    Args:
      fmt: a format string as of `str.format`; None returns the function with the options set.
      *args, **kwargs: what it formats: arrays and other values.
      ordered: whether prints run in program order.
      partitioned: unused with one device.
      skip_format_check: whether not to check that the format string uses all arguments.

    Raises:
      ValueError: if an argument is not used by the format string.
      IndexError, KeyError: if the format string needs more arguments.

    Example:
      >>> import velax
      >>> @velax.jit
      ... def f(x):
      ...     velax.debug.print("x = {x}", x=x)
      ...     return x * 2
      >>> _ = f(1.5)
      x = 1.5
    """
    if fmt is None:
        return functools.partial(
            print,
            ordered=ordered,
            partitioned=partitioned,
            skip_format_check=skip_format_check,
            _use_logging=_use_logging,
            **kwargs,
        )
    _callbacks.debug_print(
        fmt,
        args,
        kwargs,
        ordered=ordered,
        partitioned=partitioned,
        skip_format_check=skip_format_check,
        logger=_logger if _use_logging else None,
    )
    return None


def log(
    fmt: str | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    **kwargs: Any,
) -> Callable[..., None] | None:
    """As `print`, to the logger ``velax.debug`` at level INFO."""
    return print(
        fmt,
        *args,
        ordered=ordered,
        partitioned=partitioned,
        skip_format_check=skip_format_check,
        _use_logging=True,
        **kwargs,
    )


def callback(
    callback: Callable[..., None] | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    **kwargs: Any,
) -> Callable[..., None] | None:
    """Call a Python function with values when the program runs, also from compiled code.

    Under `vmap` it is called for each example, under `grad` with the values of the forward pass.

    Args:
      callback: called with arrays; its result is ignored. None returns the function with the options set.
      *args, **kwargs: its arguments: pytrees of arrays and other values.
      ordered: whether such calls run in program order.
      partitioned: unused with one device.

    Raises:
      JaxRuntimeError: from compiled code, if the function raises (it is the cause).

    Example:
      >>> import velax
      >>> seen = []
      >>> _ = velax.jit(lambda x: velax.debug.callback(lambda v: seen.append(float(v)), x))(2.0)
      >>> seen
      [2.0]
    """
    if callback is None:
        return functools.partial(_called, ordered=ordered, partitioned=partitioned, **kwargs)
    _callbacks.debug_callback(callback, *args, ordered=ordered, partitioned=partitioned, **kwargs)
    return None


def _called(function: Callable[..., None], *args: Any, **kwargs: Any):
    return callback(function, *args, **kwargs)


_public_module(globals())
