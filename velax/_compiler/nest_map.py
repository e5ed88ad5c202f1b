"""The graph's elementwise functions on values of a nest: one expression, or a pair ``(re, im)`` of real
expressions for a complex value.
"""

from __future__ import annotations

from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART

__all__ = ["constant", "convert", "lower"]

#: functions that are one instruction of the loop IR on every number; the rest is in `velax._compiler.math`
_DIRECT = {
    "add": lb.add, "sub": lb.sub, "mul": lb.mul, "div": lb.div, "min": lb.min_, "max": lb.max_, "neg": lb.neg,
    "select": lb.select,
    "eq": lb.eq, "ne": lb.ne, "lt": lb.lt, "le": lb.le, "gt": lb.gt, "ge": lb.ge, "sqrt": lb.sqrt,
}  # fmt: skip
_ANY_DTYPE = {
    "and": lb.and_,
    "or": lb.or_,
    "xor": lb.xor,
    "not": lb.not_,
    "shl": lb.shl,
    "shrl": lb.shrl,
    "shra": lb.shra,
}


def _complex_mul(x, y):
    return (
        lb.sub(lb.mul(x[0], y[0]), lb.mul(x[1], y[1])),
        lb.add(lb.mul(x[0], y[1]), lb.mul(x[1], y[0])),
    )


_COMPLEX = {
    "add": lambda x, y: (lb.add(x[0], y[0]), lb.add(x[1], y[1])),
    "sub": lambda x, y: (lb.sub(x[0], y[0]), lb.sub(x[1], y[1])),
    "mul": _complex_mul,
    "neg": lambda x: (lb.neg(x[0]), lb.neg(x[1])),
    "select": lambda cond, x, y: (lb.select(cond, x[0], y[0]), lb.select(cond, x[1], y[1])),
    "complex": lambda re, im: (re, im), "real": lambda x: x[0], "imag": lambda x: x[1], "conj": lambda x: (x[0], lb.neg(x[1])),
}  # fmt: skip


def lower(fn: str, args: list, dtype: str):
    """The value of ``fn`` on ``args``; ``dtype`` is the result's (a complex one, or an argument that is a
    pair, means complex).
    """
    if type(args[-1]) is tuple or dtype in COMPLEX_PART:
        build = _COMPLEX.get(fn)
        if build is not None:
            return build(*args)
        # heavy to import, and few kernels are complex
        from velax._compiler import math

        return math.lower_complex(fn, args)
    build = _DIRECT.get(fn)
    if build is not None and args[-1].dtype != "bool":
        return build(*args)
    build = _ANY_DTYPE.get(fn)
    if build is not None:
        return build(*args)
    # heavy to import, and many kernels call no transcendental function
    from velax._compiler import math

    return math.lower_map(fn, args)


def constant(value, dtype: str):
    """A Python number as a value of ``dtype``."""
    part = COMPLEX_PART.get(dtype)
    if part is not None:
        value = complex(value)
        return lb.c(value.real, part), lb.c(value.imag, part)
    if dtype in loops.SIGNED or dtype in loops.UNSIGNED:
        return lb.c(int(value), dtype)
    return lb.c(value, dtype)


def convert(x, dtype: str):
    """Value conversion; complex to real takes the real part, real to complex has imaginary part 0."""
    part = COMPLEX_PART.get(dtype)
    if part is not None:
        if type(x) is tuple:
            return lb.cast(part, x[0]), lb.cast(part, x[1])
        return lb.cast(part, x), lb.c(0.0, part)
    if type(x) is tuple:
        if dtype == "bool":
            return lb.or_(lb.cast("bool", x[0]), lb.cast("bool", x[1]))
        x = x[0]
    return lb.cast(dtype, x)
