"""Short builders of loop IR expressions that fold integer constants and identities as they build.

Operands may be Python numbers: they take the dtype of the other operand (``add(i, 1)``), a lone number is
``i64``. Only integer and bool arithmetic is folded, with the wrapping and division rules of
`velax._ir.loops`; float arithmetic is kept as written, so what runs is what was asked for. Small ``i64``
constants are shared objects, which keeps expressions that are equal often identical.

>>> from velax._ir.loops import Var
>>> i = Var("i")
>>> add(mul(i, 1), 0) is i
True
>>> const_value(add(c(3), mul(4, 5)))
23
"""

from __future__ import annotations

import math

from velax._ir.loops import (
    SIGNED,
    UNSIGNED,
    WIDTH,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Expr,
    Fma,
    Load,
    Select,
    Unary,
)

__all__ = [
    "abs_", "add", "add_n", "and_", "bitcast", "c", "cast", "ceil", "clamp", "clz", "const_value", "copysign", "div",
    "eq", "floor",
    "fma", "fold_binary", "fold_cast", "fold_unary", "ge", "gt", "is_const", "le", "load", "lt", "max_", "min_",
    "mul", "mulhi", "ne",
    "neg", "not_", "or_", "popcount", "rem", "rint", "select", "shl", "shra", "shrl", "sqrt", "sub", "trunc", "wrap",
    "xor",
]  # fmt: skip

_INTEGERS = frozenset((*SIGNED, *UNSIGNED))
_FOLDED = _INTEGERS | {"bool"}
#: the small ones that were used, of which programs are full
_SMALL: dict[int, Const] = {}


def c(value: bool | int | float, dtype: str = "i64") -> Const:
    """A constant of ``dtype``; integers wrap to its width."""
    if dtype == "i64":
        found = _SMALL.get(value) if type(value) is int else None
        if found is None:
            found = Const(wrap(int(value), "i64"), "i64")
            if type(value) is int and -16 <= value <= 256:
                _SMALL[value] = found
        return found
    if dtype == "bool":
        return Const(bool(value), "bool")
    if dtype in _INTEGERS:
        return Const(wrap(int(value), dtype), dtype)
    return Const(float(value), dtype)


def wrap(value: int, dtype: str) -> int:
    """``value`` reduced to the range of the integer ``dtype`` (bool: its lowest bit)."""
    if dtype == "bool":
        return bool(value & 1)
    bits = WIDTH[dtype]
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype in SIGNED and value >> (bits - 1) else value


def is_const(x: Expr) -> bool:
    return type(x) is Const


def const_value(x: Expr):
    """The Python value of a constant, None for anything else."""
    return x.value if type(x) is Const else None


def fold_binary(op: str, x, y, dtype: str):
    """``op`` on two integer or bool values of ``dtype`` by the rules of the loop IR (comparisons give a bool).

    The one definition of integer semantics in Python: construction, the interpreter and emission all fold with it.
    """
    match op:
        case "eq":
            return x == y
        case "ne":
            return x != y
        case "lt":
            return x < y
        case "le":
            return x <= y
        case "gt":
            return x > y
        case "ge":
            return x >= y
        case "add":
            return wrap(x + y, dtype)
        case "sub":
            return wrap(x - y, dtype)
        case "mul":
            return wrap(x * y, dtype)
        case "min":
            return min(x, y)
        case "max":
            return max(x, y)
        case "and":
            return wrap(x & y, dtype)
        case "or":
            return wrap(x | y, dtype)
        case "xor":
            return wrap(x ^ y, dtype)
    bits = WIDTH[dtype]
    mask = (1 << bits) - 1
    match op:
        case "div":
            if y == 0:
                return wrap(-1, dtype)
            return wrap(abs(x) // abs(y) if (x < 0) == (y < 0) else -(abs(x) // abs(y)), dtype)
        case "rem":
            if y == 0:
                return x
            return wrap(abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y)), dtype)
        case "shl":
            return 0 if (y & mask) >= bits else wrap(x << (y & mask), dtype)
        case "shrl":
            return 0 if (y & mask) >= bits else wrap((x & mask) >> (y & mask), dtype)
        case "shra":
            signed = wrap(x, "i" + dtype[1:])
            return wrap(signed >> min(y & mask, bits - 1), dtype)
        case "mulhi":
            return wrap((x * y) >> bits, dtype)
    raise TypeError(f"{op} is not an integer operation")


def fold_unary(op: str, x, dtype: str):
    """``op`` on one integer or bool value of ``dtype``."""
    bits = WIDTH[dtype]
    match op:
        case "neg":
            return wrap(-x, dtype)
        case "abs":
            return wrap(abs(x), dtype)
        case "not":
            return not x if dtype == "bool" else wrap(~x, dtype)
        case "clz":
            return bits - (x & ((1 << bits) - 1)).bit_length()
        case "popcount":
            return (x & ((1 << bits) - 1)).bit_count()
    raise TypeError(f"{op} is not an integer operation")


def fold_cast(dtype: str, x):
    """A Python bool, int or float converted to the integer or bool ``dtype``."""
    if dtype == "bool":
        return x != 0
    if isinstance(x, float):
        if math.isnan(x):
            return 0
        bits = WIDTH[dtype]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in SIGNED else (0, (1 << bits) - 1)
        if math.isinf(x):
            return high if x > 0 else low
        return min(max(int(x), low), high)
    return wrap(int(x), dtype)


def _pair(x, y):
    """Both operands as expressions of one dtype: a Python number takes the other's."""
    if isinstance(x, Expr):
        return x, (y if isinstance(y, Expr) else c(y, x.dtype))
    if isinstance(y, Expr):
        return c(x, y.dtype), y
    return c(x), c(y)


def _binary(op: str, x, y) -> Expr:
    x, y = _pair(x, y)
    if type(x) is Const and type(y) is Const and x.dtype in _FOLDED and x.dtype == y.dtype:
        value = fold_binary(op, x.value, y.value, x.dtype)
        return Const(value, "bool") if type(value) is bool else c(value, x.dtype)
    return Binary(op, x, y)


def add(x, y) -> Expr:
    """``x + y``; constants move to the right and merge: ``(x + 1) + 2 -> x + 3``."""
    x, y = _pair(x, y)
    if x.dtype in _INTEGERS:
        if type(x) is Const:
            x, y = y, x
        if type(y) is Const:
            if y.value == 0:
                return x
            if type(x) is Binary and x.op == "add" and type(x.y) is Const:
                return add(x.x, _binary("add", x.y, y))
    return _binary("add", x, y)


def add_n(*terms) -> Expr:
    """The sum of all terms, left to right."""
    total = terms[0] if isinstance(terms[0], Expr) else c(terms[0])
    for term in terms[1:]:
        total = add(total, term)
    return total


def sub(x, y) -> Expr:
    """``x - y``; subtracting a constant integer is adding its negative."""
    x, y = _pair(x, y)
    if x.dtype in _INTEGERS:
        if type(y) is Const:
            return add(x, c(-y.value, y.dtype))
        if x is y:
            return c(0, x.dtype)
    return _binary("sub", x, y)


def mul(x, y) -> Expr:
    """``x * y``; integer constants move to the right and merge, times 0 and 1 vanish."""
    x, y = _pair(x, y)
    if x.dtype in _INTEGERS:
        if type(x) is Const:
            x, y = y, x
        if type(y) is Const:
            if y.value == 0:
                return y
            if y.value == 1:
                return x
            if type(x) is Binary and x.op == "mul" and type(x.y) is Const:
                return mul(x.x, _binary("mul", x.y, y))
    return _binary("mul", x, y)


def div(x, y) -> Expr:
    x, y = _pair(x, y)
    if type(y) is Const and y.value == 1 and x.dtype in _INTEGERS:
        return x
    return _binary("div", x, y)


def rem(x, y) -> Expr:
    x, y = _pair(x, y)
    if type(y) is Const and y.value == 1 and x.dtype in _INTEGERS:
        return c(0, x.dtype)
    return _binary("rem", x, y)


def _logic(op: str, x, y) -> Expr:
    x, y = _pair(x, y)
    if type(x) is Const:
        x, y = y, x
    if type(y) is Const and y.dtype in _FOLDED and type(x) is not Const:
        ones = True if y.dtype == "bool" else wrap(-1, y.dtype)
        if op == "and":
            if not y.value:
                return y
            if y.value == ones:
                return x
        elif not y.value:
            return x
        elif op == "or" and y.value == ones:
            return y
    return _binary(op, x, y)


def and_(x, y) -> Expr:
    return _logic("and", x, y)


def or_(x, y) -> Expr:
    return _logic("or", x, y)


def xor(x, y) -> Expr:
    return _logic("xor", x, y)


def _shift(op: str, x, y) -> Expr:
    x, y = _pair(x, y)
    return x if type(y) is Const and y.value == 0 else _binary(op, x, y)


def shl(x, y) -> Expr:
    return _shift("shl", x, y)


def shrl(x, y) -> Expr:
    return _shift("shrl", x, y)


def shra(x, y) -> Expr:
    return _shift("shra", x, y)


def min_(x, y) -> Expr:
    x, y = _pair(x, y)
    return x if x is y else _binary("min", x, y)


def max_(x, y) -> Expr:
    x, y = _pair(x, y)
    return x if x is y else _binary("max", x, y)


def clamp(low, x, high) -> Expr:
    """``min(max(x, low), high)``."""
    return min_(max_(x, low), high)


def mulhi(x, y) -> Expr:
    return _binary("mulhi", x, y)


def copysign(x, y) -> Expr:
    return _binary("copysign", x, y)


def eq(x, y) -> Expr:
    return _binary("eq", x, y)


def ne(x, y) -> Expr:
    return _binary("ne", x, y)


def lt(x, y) -> Expr:
    return _binary("lt", x, y)


def le(x, y) -> Expr:
    return _binary("le", x, y)


def gt(x, y) -> Expr:
    return _binary("gt", x, y)


def ge(x, y) -> Expr:
    return _binary("ge", x, y)


def _unary(op: str, x: Expr) -> Expr:
    if type(x) is Const and x.dtype in _FOLDED:
        return c(fold_unary(op, x.value, x.dtype), x.dtype)
    return Unary(op, x)


def neg(x: Expr) -> Expr:
    return _unary("neg", x)


def abs_(x: Expr) -> Expr:
    return _unary("abs", x)


def not_(x: Expr) -> Expr:
    """Bitwise (bool: logical) complement; ``not_(not_(x)) is x``."""
    return x.x if type(x) is Unary and x.op == "not" else _unary("not", x)


def sqrt(x: Expr) -> Expr:
    return Unary("sqrt", x)


def floor(x: Expr) -> Expr:
    return Unary("floor", x)


def ceil(x: Expr) -> Expr:
    return Unary("ceil", x)


def trunc(x: Expr) -> Expr:
    return Unary("trunc", x)


def rint(x: Expr) -> Expr:
    return Unary("rint", x)


def clz(x: Expr) -> Expr:
    return _unary("clz", x)


def popcount(x: Expr) -> Expr:
    return _unary("popcount", x)


def fma(x, y, z) -> Expr:
    """``x * y + z`` with one rounding; numbers take the dtype of the operand that is an expression."""
    dtype = next(v.dtype for v in (x, y, z) if isinstance(v, Expr))
    return Fma(*(v if isinstance(v, Expr) else c(v, dtype) for v in (x, y, z)))


def select(cond: Expr, x, y) -> Expr:
    """``x`` where ``cond`` else ``y``."""
    x, y = _pair(x, y)
    if type(cond) is Const:
        return x if cond.value else y
    return x if x is y else Select(cond, x, y)


def cast(dtype: str, x: Expr) -> Expr:
    """``x`` converted to ``dtype``: itself when it has it; constants fold when the result is an integer, a
    bool, or exact.
    """
    if x.dtype == dtype:
        return x
    if type(x) is Const:
        if dtype in _FOLDED:
            return c(fold_cast(dtype, x.value), dtype)
        if x.dtype in _FOLDED and -256 < x.value < 256 and dtype in ("f32", "f64"):
            return c(float(x.value), dtype)
    return Cast(dtype, x)


def bitcast(dtype: str, x: Expr) -> Expr:
    if x.dtype == dtype:
        return x
    if type(x) is Const and x.dtype in _INTEGERS and dtype in _INTEGERS:
        return c(x.value, dtype)
    return Bitcast(dtype, x)


def load(buffer: Buffer, index=0) -> Load:
    """``buffer[index]``, the index an expression or a number."""
    return Load(buffer, index if isinstance(index, Expr) else c(index))
