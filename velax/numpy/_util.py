"""What the functions of `velax.numpy` share: argument checks, dtype and rank promotion, and the
form in which they are compiled.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from velax import lax
from velax._lang import dtypes, promotion
from velax._lang.array import Array, ArrayImpl
from velax._lang.config import config
from velax._lang.trace import Tracer, get_aval
from velax._transforms.jit import jit
from velax.lax._structural import convert_type
from velax.lax._values import scalar_of

__all__ = [
    "check_arraylike", "check_arraylike_or_none", "common_shape", "compiled", "inlined", "is_arraylike",
    "promote_args", "promote_args_inexact", "promote_args_numeric", "promote_dtypes", "promote_dtypes_inexact",
    "promote_dtypes_numeric", "promote_shapes", "settled", "to_array",
]  # fmt: skip

_FAST = (ArrayImpl, Tracer)
_NUMBERS = (bool, int, float, complex, np.generic)
_LEAVES = (bool, int, float, complex, np.ndarray, np.generic)


def inlined(fun: Callable) -> Callable:
    """The form of small functions: called eagerly, one compiled call; traced, its operations in
    place.
    """
    return jit(fun, inline=True)


def compiled(fun: Callable | None = None, *, static: tuple[str, ...] = (), inline: bool = False) -> Callable:
    """The form of larger functions: called eagerly, one compiled call; traced, one named ``jit``
    equation, traced once for each signature.
    """
    if fun is None:
        return functools.partial(compiled, static=static, inline=inline)
    return jit(fun, static_argnames=static, inline=inline)


# -- checks --------------------------------------------------------------------------------------


def is_arraylike(x: Any) -> bool:
    return isinstance(x, (*_FAST, *_LEAVES, Array)) or hasattr(x, "__jax_array__")


def check_arraylike(fun_name: str, *args: Any, emit_warning: bool = False, stacklevel: int = 3) -> None:
    """TypeError unless all arguments are arrays or numbers (lists and tuples are neither here)."""
    for i, x in enumerate(args):
        if isinstance(x, _FAST) or is_arraylike(x):
            continue
        if emit_warning:
            warnings.warn(
                f"{fun_name} requires ndarray or scalar arguments, got {type(x)} at position {i}. In a future "
                "release this will be an error.",
                DeprecationWarning,
                stacklevel=stacklevel,
            )
            continue
        hint = " Use jnp.array() to make an array of it." if isinstance(x, (list, tuple)) else ""
        raise TypeError(f"{fun_name} requires ndarray or scalar arguments, got {type(x)} at position {i}.{hint}")


def check_arraylike_or_none(fun_name: str, *args: Any) -> None:
    check_arraylike(fun_name, *(0 if x is None else x for x in args))


def to_array(x):
    """An array of an arraylike, weak type kept."""
    if isinstance(x, (*_FAST, Array)):
        return x
    if hasattr(x, "__jax_array__"):
        return x.__jax_array__()
    from velax.numpy._creation import asarray  # creation uses this module

    return asarray(x)


# -- promotion -----------------------------------------------------------------------------------


def _value(x):
    return x.__jax_array__() if hasattr(x, "__jax_array__") and not isinstance(x, _FAST) else x


def _converted(x, dtype, weak):
    """`convert_type`, a number becoming a constant of the dtype: no operation is staged for it."""
    if isinstance(x, np.ndarray) and not weak and x.dtype == dtype:
        return x
    if type(x) is int:
        dtypes.check_python_int(x)
    if (
        (isinstance(x, _NUMBERS) or (isinstance(x, np.ndarray) and not x.shape))
        and not weak
        and isinstance(dtype, np.dtype)
    ):
        return np.asarray(x).astype(dtype)[()]
    if weak and type(x) in (int, float, complex):
        number = scalar_of(dtype, x, weak=True)
        if get_aval(number).weak_type:
            return number
    return convert_type(x, dtype, weak)


def settled(*args):
    """Arrays without weak types, as operations with constants of their dtype give; numbers stay
    weak.
    """
    return [
        convert_type(x, get_aval(x).dtype, False) if get_aval(x).shape and get_aval(x).weak_type else x for x in args
    ]


def promote_dtypes(*args):
    """The arguments converted to their common dtype by JAX's lattice; weak if all are."""
    args = [_value(x) for x in args]
    avals = [get_aval(x) for x in args]
    first = avals[0]
    if all(a.dtype == first.dtype and a.weak_type == first.weak_type for a in avals) and isinstance(
        first.dtype, np.dtype
    ):
        return (
            [x if isinstance(x, _FAST) else _converted(x, first.dtype, first.weak_type) for x in args]
            if len(args) > 1
            else args
        )
    dtype, weak = promotion.lattice_result_type(*args)
    return [_converted(x, dtype, weak) for x in args]


def promote_dtypes_inexact(*args):
    """As `promote_dtypes`, integers and booleans becoming floats."""
    args = [_value(x) for x in args]
    dtype, weak = promotion.lattice_result_type(*args)
    inexact = dtypes.to_inexact_dtype(dtype)
    return [_converted(x, inexact, weak) for x in args]


def promote_dtypes_numeric(*args):
    """As `promote_dtypes`, booleans becoming integers."""
    args = [_value(x) for x in args]
    dtype, weak = promotion.lattice_result_type(*args)
    return [_converted(x, dtypes.to_numeric_dtype(dtype), weak) for x in args]


def promote_shapes(fun_name: str, *args):
    """Arguments of one rank (rank 0 aside), leading axes of size 1 added; sizes are matched by the
    operation itself.
    """
    if len(args) < 2:
        return list(args)
    shapes = [get_aval(x).shape for x in args]
    ranks = {len(s) for s in shapes if s}
    if len(ranks) < 2:
        return list(args)
    if config.jax_numpy_rank_promotion != "allow":
        _rank_promotion(fun_name, shapes)
    rank = len(common_shape(fun_name, shapes))
    return [
        x
        if not s or len(s) == rank
        else lax.broadcast_in_dim(x, (1,) * (rank - len(s)) + s, range(rank - len(s), rank))
        for x, s in zip(args, shapes, strict=True)
    ]


def common_shape(fun_name: str, shapes) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"Incompatible shapes for broadcasting: shapes={list(shapes)} in {fun_name}. Shapes are aligned at their "
            "last axes, where sizes must be equal or 1; add axes of size 1 elsewhere with x[:, None] or "
            "jnp.expand_dims."
        ) from None


def _rank_promotion(fun_name: str, shapes) -> None:
    message = (
        f"Following NumPy automatic rank promotion for {fun_name} on shapes {' '.join(map(str, shapes))}. Set the "
        "jax_numpy_rank_promotion config option to "
        "'allow' to disable this message; for more information, see "
        "https://docs.jax.dev/en/latest/rank_promotion_warning.html."
    )
    if config.jax_numpy_rank_promotion == "raise":
        raise ValueError(
            f"Operands could not be broadcast together for {fun_name} on shapes {' '.join(map(str, shapes))} and "
            "with the config option jax_numpy_rank_promotion='raise'. For more information, see "
            "https://docs.jax.dev/en/latest/rank_promotion_warning.html."
        )
    warnings.warn(message, stacklevel=4)


def _check_promotable(fun_name: str, args) -> None:
    """Dtypes that are not NumPy's, as those of random keys, join only themselves."""
    found = {get_aval(x).dtype for x in args}
    if len(found) > 1 and any(map(dtypes.is_extended, found)):
        raise TypeError(f"{fun_name} does not accept dtypes {', '.join(str(get_aval(x).dtype) for x in args)}.")


def promote_args(fun_name: str, *args):
    """Arguments of an elementwise function: checked, of one dtype and rank."""
    check_arraylike(fun_name, *args)
    _check_promotable(fun_name, args)
    return promote_shapes(fun_name, *promote_dtypes(*args))


def promote_args_inexact(fun_name: str, *args):
    """As `promote_args`, in a float or complex dtype."""
    check_arraylike(fun_name, *args)
    _check_promotable(fun_name, args)
    return promote_shapes(fun_name, *promote_dtypes_inexact(*args))


def promote_args_numeric(fun_name: str, *args):
    """As `promote_args`, in a dtype of numbers."""
    check_arraylike(fun_name, *args)
    _check_promotable(fun_name, args)
    return promote_shapes(fun_name, *promote_dtypes_numeric(*args))
