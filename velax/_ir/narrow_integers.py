"""Integers narrower than a byte, in the array graph: values of the next wider integer whose upper bits repeat the sign, or are 0 if there is none.

The graph has no such dtypes. ``int4`` is ``i8`` and ``uint4`` ``u8`` (`velax._lang.dtypes.ir_name`); where a primitive's result is of such a dtype, graph
building brings it back into the range (`wrap`). Inside a lowering rule values may leave it: sums, products, shifts to the left and
truncations agree modulo 16 whenever that happens. What depends on the upper bits (shifts to the right, counts of bits) asks for them with `sign_extend` and `zero_extend`.
"""

from __future__ import annotations

import math

import numpy as np

from velax._ir.graph import COMPLEX_PART, Builder, Node
from velax._ir.dtype_names import FLOATS, SIGNED
from velax._lang import dtypes

__all__ = ["is_narrow", "sign_extend", "wrap", "wrap_number", "zero_extend"]

_NARROW = frozenset(dtypes.narrow_integer_dtypes)


def is_narrow(dtype) -> bool:
    """Whether `dtype` is an integer of 4 bits and fewer."""
    return dtype in _NARROW


def wrap_number(value: int, dtype: np.dtype) -> int:
    """The number of the range of `dtype` that agrees with ``value`` modulo its size.

    >>> wrap_number(9, np.dtype("int4"))
    -7
    """
    info = dtypes.iinfo(dtype)
    return (value - int(info.min)) % (1 << info.bits) + int(info.min)


def zero_extend(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """``x`` of the narrow `dtype` (of another one: unchanged) with upper bits of 0."""
    return b.map("and", x, b.full(x.shape, (1 << dtypes.itemsize_bits(dtype)) - 1, x.dtype)) if is_narrow(dtype) else x


def sign_extend(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """``x`` of the narrow `dtype` (of another one: unchanged) with the uppermost of its bits repeated above."""
    if not is_narrow(dtype):
        return x
    sign = b.full(x.shape, 1 << dtypes.itemsize_bits(dtype) - 1, x.dtype)
    return b.map("sub", b.map("xor", zero_extend(b, x, dtype), sign), sign)


def wrap(b: Builder, x: Node, dtype: np.dtype, operands=()) -> Node:
    """``x``, the result of a primitive, in the range of the narrow `dtype`; as it is where that is certain.

    Args:
      operands: the nodes known to be in the range of their dtypes.
    """
    info = dtypes.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    if _in_range(x, low, high, frozenset(operands)):
        return x
    if x.op == "convert" and (x.inputs[0].dtype in FLOATS or x.inputs[0].dtype in COMPLEX_PART):  # floats saturate
        return b.map("clamp", *(b.full(x.shape, low, x.dtype), x, b.full(x.shape, high, x.dtype)))
    if x.op == "reduce" and x.attrs["fn"] in ("min", "max") and not math.prod(x.inputs[0].shape[d] for d in x.attrs["axes"]):
        return b.full(x.shape, high if x.attrs["fn"] == "min" else low, x.dtype)  # the extremum of nothing
    return sign_extend(b, x, dtype) if x.dtype in SIGNED else zero_extend(b, x, dtype)


#: operations whose result holds elements of these operands alone (a slice of them), or one of the extrema
_CHOOSES = {
    "broadcast": slice(1), "reshape": slice(1), "transpose": slice(1), "slice": slice(1), "rev": slice(1), "dynamic_slice": slice(1),
    "pad": slice(2), "dynamic_update_slice": slice(2), "concatenate": slice(None),
}  # fmt: skip
_CHOOSING_MAPS = {"select": slice(1, 3), "min": slice(2), "max": slice(2), "clamp": slice(3), "and": slice(2), "or": slice(2), "xor": slice(2)}


def _in_range(x: Node, low: int, high: int, operands: frozenset[Node]) -> bool:
    """Whether the elements of ``x`` are known to lie from ``low`` to ``high``. Operands of the same width and signedness count as such."""
    todo, seen = [x], set()
    while todo:
        node = todo.pop()
        if node in operands or node in seen:
            continue
        seen.add(node)
        fn = node.attrs.get("fn")
        if node.op == "literal":
            if not low <= int(node.attrs["value"]) <= high:
                return False
        elif node.op in _CHOOSES:
            todo.extend(node.inputs[_CHOOSES[node.op]])
        elif node.op == "map" and fn in _CHOOSING_MAPS:
            todo.extend(node.inputs[_CHOOSING_MAPS[fn]])
        elif node.op == "gather" and (node.attrs["mode"] != "fill" or low <= int(node.attrs["fill"]) <= high):
            todo.append(node.inputs[0])
        elif node.op == "scatter" and fn in ("set", "min", "max"):
            todo.extend((node.inputs[0], node.inputs[2]))
        elif node.op == "cumulate" and fn in ("min", "max"):
            todo.append(node.inputs[0])
        elif node.op == "reduce" and fn in ("min", "max") and math.prod(node.inputs[0].shape[d] for d in node.attrs["axes"]):
            todo.append(node.inputs[0])
        elif node.op == "get" and node.inputs[0].op in ("while", "cond", "scan"):
            continue  # the results of nested graphs are those of primitives
        elif node.op == "get" and node.inputs[0].op in ("sort", "barrier"):
            todo.append(node.inputs[0].inputs[node.attrs["k"]])
        else:
            return False
    return True
