"""What the options ``jax_transfer_guard*`` do: looking at values that come from the host.

A CPU's memory is the host's, so what the guards distinguish is Python numbers and NumPy arrays from
arrays of Velax. The former are transferred *explicitly* by `device_put`, *implicitly* where they are
operands of what is evaluated and where functions such as ``jnp.asarray`` make arrays of them. Nothing is
transferred in the other direction (``np.asarray(x)`` looks at the array's own memory), nor between devices,
of which there is one. While a program is staged nothing is transferred either: host values become part of it,
as do the numbers of an index (``x[0]``, which JAX transfers).

A guard sets `FLAG_DEBUG`, so that without one nothing but that flag is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from velax import _native
from velax._lang.avals import AbstractValue
from velax._lang.config import FLAG_DEBUG, transfer_guard_host_to_device
from velax._lang.dtypes import float0
from velax._lang.errors import JaxRuntimeError
from velax._lang.logs import log
from velax._lang.source import current
from velax._lang.trace import as_array, get_aval

__all__ = [
    "as_operands", "check_explicit_transfer", "check_implicit_transfer", "check_operands_transfer", "is_host",
    "transfers_are_guarded",
]  # fmt: skip

_HOST = (bool, int, float, complex, np.ndarray, np.generic)
_IMPLICIT = {"log": "log", "log_explicit": "log", "disallow": "disallow", "disallow_explicit": "disallow"}
_EXPLICIT = {"log_explicit": "log", "disallow_explicit": "disallow"}
_ADVICE = "Write velax.device_put(x) where it is wanted."


def check_explicit_transfer(value: Any) -> None:
    """Does what the guards say of ``device_put(value)``.

    Raises:
      JaxRuntimeError: if they forbid it.
    """
    if _native.config_flags() & FLAG_DEBUG and is_host(value) and _evaluates():
        _check(get_aval(value), _EXPLICIT, "velax.transfer_guard('disallow') would allow it.")


def check_implicit_transfer(aval: AbstractValue) -> None:
    """Does what the guards say of making an array of that type of values on the host, if `transfers_are_guarded`.

    Raises:
      JaxRuntimeError: if they forbid it.
    """
    if _evaluates():
        _check(aval, _IMPLICIT, _ADVICE)


def check_operands_transfer(values: Iterable[Any]) -> None:
    """Does what the guards say of evaluating an operation on these values.

    Raises:
      JaxRuntimeError: if they forbid it.
    """
    for x in values:
        if is_host(x):
            _check(get_aval(x), _IMPLICIT, _ADVICE)


def as_operands(values: Sequence[Any]) -> Sequence[Any]:
    """The values, under a guard as arrays: what a program holds is not transferred when it is called."""
    if not transfers_are_guarded():
        return values
    return [as_array(x) if is_host(x) else x for x in values]


def transfers_are_guarded() -> bool:
    """Whether operands on the host are disallowed or logged."""
    return _native.config_flags() & FLAG_DEBUG != 0 and transfer_guard_host_to_device.value in _IMPLICIT


def is_host(x: Any) -> bool:
    """Whether a value is a number, or an array of NumPy that an array of Velax can be made of."""
    return isinstance(x, _HOST) and getattr(x, "dtype", None) != float0


def _evaluates() -> bool:
    """Whether operations are evaluated now, perhaps by transformations, rather than staged."""
    trace = _native.get_trace()
    while trace is not None and not trace.stages:
        trace = getattr(trace, "parent_trace", None)
    return trace is None


def _check(aval: AbstractValue, actions: dict[str, str], advice: str) -> None:
    action = actions.get(transfer_guard_host_to_device.value)
    if action is None:
        return
    what = f"host-to-device transfer: aval={aval!r} (at {current()})"
    if action == "disallow":
        raise JaxRuntimeError(f"INVALID_ARGUMENT: Disallowed {what}. {advice}")
    log(__name__, True, "%s", what)
