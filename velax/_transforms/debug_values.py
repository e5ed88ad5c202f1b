"""What ``jax_debug_nans``, ``jax_debug_infs``, ``jax_no_execution`` and the transfer guards do: looking at each
operation that is evaluated.

In these modes the evaluating trace hands every operation to `evaluate_watched`. A call, a loop or a
branch runs compiled first; only if its result holds an invalid value, its body is run again
operation by operation to find the one that made it. A primitive with a body states how in its rule
``replay``: ``(*concrete, **params)`` evaluates the body, and the result does not matter.
"""

from __future__ import annotations

import numpy as np

from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.avals import ShapedArray
from velax._lang.config import config, transfer_guard_host_to_device
from velax._lang.primitive import Primitive
from velax._lang.source import current
from velax._lang.trace import get_aval, set_watched_evaluation
from velax._lang.transfers import check_operands_transfer

__all__ = ["check_results", "evaluate_watched"]


def evaluate_watched(primitive: Primitive, args, params):
    """Evaluate a primitive as the debugging options ask.

    Raises:
      FloatingPointError: if a result holds a value that they forbid.
      RuntimeError: if nothing is to be executed.
      JaxRuntimeError: if an operand is on the host and must not be transferred.
    """
    if config.jax_no_execution:
        raise RuntimeError(
            f"{primitive} was to be executed, but the option jax_no_execution is set; it allows tracing only"
        )
    check_operands_transfer(args)
    out = primitive.impl(*args, **params)
    check_results(primitive, args, params, out if primitive.multiple_results else [out])
    return out


def check_results(primitive: Primitive, args, params, outs) -> None:
    """FloatingPointError if the results of a primitive hold a forbidden value, naming the innermost
    operation that makes it.
    """
    kind = _forbidden(outs)
    if kind is None:
        return
    replay = primitive.rules.get("replay")
    if replay is not None:
        with transfer_guard_host_to_device("allow"):  # what the body holds is no operand
            replay(*args, **params)
    where = f"(at {current()})"
    advice = f"Look at the values before it, or turn the option jax_debug_{kind}s off."
    if _forbidden(args) == kind:
        raise FloatingPointError(
            f"invalid value ({kind}) encountered in {primitive} {where}: an operand holds one already. {advice}"
        )
    if replay is not None:
        raise FloatingPointError(
            f"invalid value ({kind}) encountered in {primitive} {where}. Run operation by operation, its body was "
            "not found to make it: it stands there "
            f"as a constant, or comes from how the compiled program rounds. {advice}"
        )
    operands = ", ".join(map(_described, args[:4]))
    raise FloatingPointError(
        f"invalid value ({kind}) encountered in {primitive} {where} on {operands or 'no operands'}. {advice}"
    )


def _described(x) -> str:
    aval = get_aval(x)
    scalar = isinstance(aval, ShapedArray) and aval.size == 1 and not dtypes.is_extended(aval.dtype)
    return f"{aval.str_short()} = {np.asarray(x).item()}" if scalar else aval.str_short()


def _forbidden(values) -> str | None:
    """``nan`` or ``inf`` if one of the values holds it and the options forbid it."""
    nans, infs = config.jax_debug_nans, config.jax_debug_infs
    for x in values:
        if isinstance(x, (ArrayImpl, np.ndarray, np.generic, float, complex)) and dtypes.is_inexact(np.result_type(x)):
            x = np.asarray(x)
            if nans and np.isnan(x).any():
                return "nan"
            if infs and np.isinf(x).any():
                return "inf"
    return None


set_watched_evaluation(evaluate_watched)
