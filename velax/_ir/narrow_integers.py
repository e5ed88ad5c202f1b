"""Integers of fewer than 8 bits, in the array graph: the low bits of bytes whose upper bits mean nothing.

The graph has no such dtypes: ``int4`` is ``i8``, ``uint4`` is ``u8`` (`velax._lang.dtypes.ir_name`). Where a
primitive is lowered, graph building extends its operands to the numbers that they stand for, has the rule compute
with these, and clears the upper bits of what it gives. So a rule knows nothing of it, except for those that count
or shift bits. Clear upper bits are how NumPy stores such integers; bytes that were given others are the same
numbers. What only moves elements takes them as they are, and what computes modulo a power of 2 needs no extension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from velax._ir.dtype_names import FLOATS, SIGNED
from velax._ir.graph import COMPLEX_PART, Builder, Node
from velax._lang import dtypes

__all__ = ["computed", "extended", "is_narrow", "literal_value", "sign_extended", "taken_as_stored", "zero_extended"]

_NARROW = frozenset(dtypes.narrow_integer_dtypes)

#: primitives that move elements, or hand them on -> the operands that are moved (others are indices)
_MOVES: dict[str, slice] = {
    **dict.fromkeys((
        "all_gather", "all_to_all", "broadcast_in_dim", "concatenate", "cond", "copy", "custom_jvp_call",
        "custom_vjp_call", "debug_callback", "debug_print", "io_callback", "jit", "linear_call", "name",
        "optimization_barrier", "pad", "ppermute", "pure_callback", "remat2", "reshape", "rev", "scan", "select_n",
        "slice", "split", "squeeze", "stop_gradient", "transpose", "while",
    ), slice(None)),
    "dynamic_slice": slice(1), "dynamic_update_slice": slice(2), "gather": slice(1), "scatter": slice(0, None, 2),
}  # fmt: skip
#: primitives whose result's low bits depend on the operands' low bits alone
_MODULAR = frozenset({
    "add", "add_any", "and", "cumprod", "cumsum", "mul", "neg", "not", "or", "psum", "reduce_and", "reduce_or",
    "reduce_prod", "reduce_sum", "reduce_xor", "scatter-add", "scatter-mul", "scatter-sub", "square", "sub", "xor",
})  # fmt: skip


def is_narrow(dtype) -> bool:
    """Whether `dtype` is an integer of fewer than 8 bits."""
    return dtype in _NARROW


def literal_value(value: int, dtype: np.dtype) -> int:
    """What a literal of the narrow `dtype` holds.

    >>> literal_value(-1, np.dtype("int4"))
    15
    """
    return value & _mask(dtype)


def _mask(dtype: np.dtype) -> int:
    return (1 << dtypes.itemsize_bits(dtype)) - 1


def zero_extended(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """``x`` of the narrow `dtype`, its upper bits clear; of another dtype, as it is."""
    return b.map("and", x, b.full(x.shape, _mask(dtype), x.dtype)) if is_narrow(dtype) else x


def sign_extended(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """``x`` of the narrow `dtype`, its highest bit repeated upward; of another dtype, as it is."""
    if not is_narrow(dtype):
        return x
    sign = b.full(x.shape, _mask(dtype) // 2 + 1, x.dtype)
    return b.map("sub", b.map("xor", zero_extended(b, x, dtype), sign), sign)


def extended(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """The numbers that the elements of ``x`` of the narrow `dtype` stand for."""
    return sign_extended(b, x, dtype) if x.dtype in SIGNED else zero_extended(b, x, dtype)


def taken_as_stored(primitive: str, count: int) -> Sequence[int]:
    """The positions of those of ``count`` operands that a built-in primitive takes as they are stored."""
    if primitive in _MODULAR:
        return range(count)
    return range(count)[_MOVES[primitive]] if primitive in _MOVES else ()


def computed(b: Builder, x: Node, primitive: str, dtype: np.dtype) -> Node:
    """What is stored of ``x``, a result of the narrow `dtype` that the primitive's rule gave."""
    if primitive in _MOVES:
        return x
    info = dtypes.iinfo(dtype)
    if x.op == "convert" and (x.inputs[0].dtype in FLOATS or x.inputs[0].dtype in COMPLEX_PART):  # floats saturate
        low, high = (b.full(x.shape, int(limit), x.dtype) for limit in (info.min, info.max))
        x = b.map("clamp", low, x, high)
    elif x.op == "reduce" and x.attrs["fn"] in ("min", "max") and not x.inputs[0].size:  # the extrema of nothing
        x = b.full(x.shape, int(info.max if x.attrs["fn"] == "min" else info.min), x.dtype)
    return zero_extended(b, x, dtype)
