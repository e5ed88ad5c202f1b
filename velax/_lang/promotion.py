"""The dtype of the result of an operation on operands of several dtypes.

Dtypes form a semilattice; the result is the least upper bound of the operands. Python's scalar types are
members of their own (written ``i*``, ``f*``, ``c*`` below): a *weakly typed* operand joins as one of them, so
that ``x * 2.0`` keeps the dtype of an
array ``x`` of floats of any width::

    bool -> i* -> u8 -> u16 -> u32 -> u64 ----+            (and u8 -> i16, u16 -> i32, u32 -> i64)
            i* -> i8 -> i16 -> i32 -> i64 -> f* -> bf16 -> f32 -> f64 -> c128
            i* -> i4, u4, i2, ...            f* -> f16  -> f32 -> c64 -> c128
                                             f* -> f8, ...    f* -> c* -> c64

While 64-bit dtypes are off, u32 and i32 meet in i32, since i64 does not exist. In strict mode
(``jax_numpy_dtype_promotion``) only the edges that leave a Python scalar type remain.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from velax._lang import config, dtypes
from velax._lang.config_options import NumpyDtypePromotion
from velax._lang.dtypes import ExtendedDType
from velax._lang.errors import TypePromotionError

__all__ = [
    "TypePromotionError",
    "dtype_and_weak_type",
    "lattice_result_type",
    "promote_types",
    "register_operand_rule",
    "result_type",
    "safe_to_cast",
]

# A member of the lattice: a dtype, or the Python scalar type that stands for a weak one.
Member = np.dtype | type


def _d(name) -> np.dtype:
    return np.dtype(name)


def _standard_edges(x64: bool) -> dict[Member, list[Member]]:
    f32, f64, c64, c128 = map(_d, ("float32", "float64", "complex64", "complex128"))
    bf16, f16 = _d(ml_dtypes.bfloat16), _d("float16")
    edges: dict[Member, list[Member]] = {
        _d("bool"): [int],
        int: [_d("uint8"), _d("int8"), *dtypes.narrow_integer_dtypes],
        _d("uint8"): [_d("int16"), _d("uint16")],
        _d("uint16"): [_d("int32"), _d("uint32")],
        _d("uint32"): [_d("int64") if x64 else _d("int32"), _d("uint64")],
        _d("uint64"): [float],
        _d("int8"): [_d("int16")],
        _d("int16"): [_d("int32")],
        _d("int32"): [_d("int64")],
        _d("int64"): [float],
        float: [*dtypes.narrow_float_dtypes, bf16, f16, complex],
        bf16: [f32],
        f16: [f32],
        f32: [f64, c64],
        f64: [c128],
        complex: [c64],
        c64: [c128],
        c128: [],
    }
    return edges | {d: [] for d in (*dtypes.narrow_integer_dtypes, *dtypes.narrow_float_dtypes)}


def _strict_edges() -> dict[Member, list[Member]]:
    edges: dict[Member, list[Member]] = {
        int: [float, *dtypes.integer_dtypes],
        float: [complex, *dtypes.floating_dtypes],
        complex: list(dtypes.complex_dtypes),
    }
    return edges | {d: [] for d in dtypes.all_dtypes}


def _upper_bounds(edges: dict[Member, list[Member]]) -> dict[Member, frozenset[Member]]:
    """Every member at or above each member."""

    @functools.cache
    def above(member):
        return frozenset([member]).union(*(above(parent) for parent in edges[member]))

    return {member: above(member) for member in edges}


@functools.cache
def _lattice(strict: bool, x64: bool) -> dict[Member, frozenset[Member]]:
    return _upper_bounds(_strict_edges() if strict else _standard_edges(x64))


@functools.lru_cache(maxsize=4096)
def _least_upper_bound(strict: bool, x64: bool, members: tuple[Member, ...]) -> Member:
    bounds = _lattice(strict, x64)
    for member in members:
        if member not in bounds:
            if member == dtypes.float0:
                raise TypeError(dtypes.float0_message)
            raise ValueError(f"dtype={member!r} is not a valid dtype for type promotion: arrays cannot have it")
    common = frozenset.intersection(*(bounds[m] for m in members))
    # The least of the common bounds is the one that all of them are above.
    for member in common:
        if bounds[member] == common:
            return member
    raise TypePromotionError(_no_path_message(strict, members))


def _no_path_message(strict: bool, members: Iterable[Member]) -> str:
    members = list(dict.fromkeys(members))
    names = tuple(f"Python {m.__name__}" if isinstance(m, type) else m.name for m in members)
    message = f"Input dtypes {names} have no available implicit dtype promotion path"
    if strict:
        return (
            f"{message} when jax_numpy_dtype_promotion=strict. Try explicitly casting inputs to the desired output "
            "type, x.astype(dtype), or set jax_numpy_dtype_promotion=standard."
        )
    if any(m in dtypes.narrow_float_dtypes for m in members):
        return f"{message}. Floats of 8 bits and fewer are never promoted implicitly; cast them first, e.g. x.astype('float32')."
    if any(m in dtypes.narrow_integer_dtypes for m in members):
        return f"{message}. Integers of 4 bits and fewer are never promoted implicitly; cast them first, e.g. x.astype('int32')."
    return f"{message}. Cast the operands to the dtype that you want, x.astype(dtype)."


def promote_types(a: Any, b: Any) -> np.dtype:
    """The dtype in which values of the types `a` and `b` meet.

    Args:
      a, b: dtypes, their names, or Python scalar types; the latter stand for weak types.

    Returns:
      The least upper bound, not narrowed to 32 bits.

    Raises:
      TypePromotionError: the types have no implicit common type.
      TypeError, ValueError: one of them is no dtype of the language.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.promote_types("int32", "bfloat16")
      dtype(bfloat16)
    """
    members = tuple(_member_of_type(t) for t in (a, b))
    joined = _least_upper_bound(_is_strict(), config.x64_enabled(), members)
    return np.dtype(joined)


def _member_of_type(t: Any) -> Member:
    if isinstance(t, type) and t in (int, float, complex):
        return t
    if isinstance(t, ExtendedDType):
        raise TypeError(f"{t} takes no part in dtype promotion")
    return dtypes.as_dtype(t)


def _is_strict() -> bool:
    return config.numpy_dtype_promotion.value is NumpyDtypePromotion.STRICT


# Operands: what type and weakness a value has, by its type where that says all, so that eager operations need
# not search.
_operand_rules: dict[type, Any] = {}


def register_operand_rule(t: type, rule) -> None:
    """Says how values of type `t` take part in promotion: ``rule(x) -> (dtype, weak_type)``."""
    _operand_rules[t] = rule


def dtype_and_weak_type(x: Any) -> tuple[np.dtype | ExtendedDType, bool]:
    """The canonical dtype of a value, and whether it is weak.

    Args:
      x: an array, a scalar, a traced value, or what names a dtype (``None``: the default float).
    """
    rule = _operand_rules.get(type(x))
    if rule is not None:
        return rule(x)
    if x is None:
        return dtypes.default_float_dtype(), False
    if isinstance(x, type) and x in (int, float, complex):
        return dtypes.dtype_of_python_scalar(x), True
    return dtypes.dtype(x), dtypes.is_weakly_typed(x)


_operand_rules |= {t: lambda x: (dtypes.dtype_of_python_scalar(type(x)), True) for t in (int, float, complex)}
_operand_rules[bool] = lambda x: (np.dtype("bool"), False)
_operand_rules[np.ndarray] = lambda x: (dtypes.canonicalize_dtype(x.dtype), False)
_operand_rules |= {type(d): lambda x: (dtypes.canonicalize_dtype(x), False) for d in dtypes.all_dtypes}
_operand_rules |= {t: lambda x: (dtypes.canonicalize_dtype(x.dtype), False) for t in dtypes.numpy_scalar_types}


def _weak_member(dtype: np.dtype) -> Member:
    """The member that a weakly typed value of this dtype joins as."""
    if dtypes.issubdtype(dtype, np.integer):
        return int
    if dtypes.issubdtype(dtype, np.floating):
        return float
    if dtypes.issubdtype(dtype, np.complexfloating):
        return complex
    return dtype


@functools.lru_cache(maxsize=8192)
def _join(key: Any, operands: tuple[tuple[np.dtype | ExtendedDType, bool], ...]) -> tuple[np.dtype, bool]:
    # `key` stands for the configuration: the promotion mode and the x64 flag are read below.
    del key
    kinds = {dtype for dtype, _ in operands}
    for dtype in kinds:
        if dtype not in dtypes.all_dtypes and dtype != dtypes.float0 and not isinstance(dtype, ExtendedDType):
            raise TypeError(f"Velax arrays hold numbers and booleans; an operand has dtype {dtype}")
    all_weak = all(weak for _, weak in operands)
    if len(operands) == 1 or (len(kinds) == 1 and not all_weak):
        return operands[0][0], len(operands) == 1 and operands[0][1]
    if any(isinstance(d, ExtendedDType) for d in kinds):
        names = tuple(d.name for d, _ in operands)
        raise TypePromotionError(
            f"Input dtypes {names} have no available implicit dtype promotion path: keys only join keys like them"
        )
    strict, x64 = _is_strict(), config.x64_enabled()
    if all_weak and not strict:
        # Weak types among themselves join as the dtypes they stand for, and stay weak.
        joined = _least_upper_bound(strict, x64, tuple(dict.fromkeys(d for d, _ in operands)))
        weak = dtypes.issubdtype(joined, np.number)
        return joined, weak
    members = tuple(dict.fromkeys(_weak_member(d) if weak else d for d, weak in operands))
    joined = _least_upper_bound(strict, x64, members)
    if isinstance(joined, type):
        return dtypes.dtype_of_python_scalar(joined), True
    return joined, False


def lattice_result_type(*args: Any) -> tuple[np.dtype, bool]:
    """The dtype in which the operands `args` meet, and whether it is weak.

    Args:
      *args: arrays, scalars, traced values or dtypes.

    Raises:
      TypePromotionError: the dtypes have no implicit common dtype.
      ValueError: there are no operands.
    """
    if not args:
        raise ValueError("at least one array or dtype is required")
    return _join(config.config_key(), tuple([dtype_and_weak_type(x) for x in args]))


def result_type(*args: Any, return_weak_type_flag: bool = False) -> np.dtype | tuple[np.dtype, bool]:
    """The dtype of the result of an operation on `args`.

    Args:
      *args: arrays, scalars, traced values or dtypes; Python scalars (and their types) are weak.
      return_weak_type_flag: whether to return ``(dtype, weak_type)``.

    Raises:
      TypePromotionError: the dtypes have no implicit common dtype.
      ValueError: there are no operands.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.result_type(jnp.int8, 2.0)
      dtype('float32')
    """
    dtype, weak = lattice_result_type(*args)
    if weak:
        dtype = _default_width(dtype)
    elif not isinstance(dtype, ExtendedDType):
        dtype = dtypes.canonicalize_dtype(dtype)
    return (dtype, weak) if return_weak_type_flag else dtype


def _default_width(dtype: np.dtype) -> np.dtype:
    """The default dtype of the kind of `dtype`: what a weak dtype on its own stands for."""
    if dtypes.issubdtype(dtype, np.unsignedinteger):
        return dtypes.default_uint_dtype()
    member = _weak_member(dtype)
    return dtypes.dtype_of_python_scalar(member) if isinstance(member, type) else dtype


def safe_to_cast(input_dtype_or_value: Any, output_dtype_or_value: Any) -> bool:
    """Whether values of the first dtype fit the second as promotion sees it: whether the two meet in the second.

    Args:
      input_dtype_or_value, output_dtype_or_value: values or dtypes.
    """
    dtype, weak = dtype_and_weak_type(input_dtype_or_value)
    # a weak array keeps its dtype all the same when something is written to it
    target, _ = dtype_and_weak_type(output_dtype_or_value)
    if dtype == target:
        return True
    members = (_weak_member(dtype) if weak else dtype, target)
    try:
        # Casting is about the dtypes: strict promotion does not make it less safe.
        return _least_upper_bound(False, config.x64_enabled(), members) == target
    except TypePromotionError:
        return False
