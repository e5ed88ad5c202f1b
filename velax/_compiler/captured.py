"""The warning about large captured arrays: option ``jax_captured_constants_warn_bytes``.

Arrays are often captured by mistake, where they should have been passed as arguments; those of NumPy are
copied for every program that captures them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from velax._lang.jaxpr import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxprs_in_params
from velax._lang.source import user_stack_level

__all__ = ["warn_of_captured"]

_MOST_REPORTED = 5


def warn_of_captured(closed: ClosedJaxpr, name: str, total: int, report: bool) -> None:
    """Warn of the captured arrays of a function that is compiled.

    Args:
      closed: the function; its constants are what it captured.
      name: of the function.
      total: bytes of them all.
      report: whether to list the largest ones and the lines that read them.
    """
    message = (
        f"A large amount of constants were captured by the function {name}, which is compiled ({_size(total)} total). "
        "Pass them as arguments, or set jax_captured_constants_warn_bytes to -1 if this is intended."
    )
    if report:
        pairs = sorted(zip(closed.consts, closed.jaxpr.constvars, strict=True), key=lambda p: -_nbytes(p[0]))
        for const, var in pairs[:_MOST_REPORTED]:
            message += f"\n  {var.aval.str_short()} ({type(const).__name__}, {_size(_nbytes(const))}), read at:"
            lines = dict.fromkeys(str(eqn.source_info) for eqn in _readers(closed.jaxpr, var))
            message += "".join(f"\n    {line}" for line in lines) or " no operation"
    else:
        message += " With jax_captured_constants_report_frames=-1 this warning says which they are, and who reads them."
    warnings.warn(message, stacklevel=user_stack_level())


def _nbytes(const) -> int:
    return getattr(const, "nbytes", 0)


def _size(n: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1000:
            return f"{n:.2f}{unit}"
        n /= 1000
    return f"{n:.2f}TB"


def _readers(jaxpr: Jaxpr, var: Var) -> Iterator[JaxprEqn]:
    """The operations that read a variable, inside of calls that pass it on."""
    for eqn in jaxpr.eqns:
        for i, operand in enumerate(eqn.invars):
            if operand is not var:
                continue
            called = [sub for sub in jaxprs_in_params(eqn.params) if len(sub.invars) == len(eqn.invars)]
            for sub in called:
                yield from _readers(sub, sub.invars[i])
            if not called:
                yield eqn
