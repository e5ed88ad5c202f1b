"""Elementwise functions as loop IR expressions, one for every name in `velax._ir.graph.MAP_FNS` and every
dtype on which it is defined.

The transcendental functions are straight-line code with a maximal error of 1-3 ULP over all arguments,
denormals and infinities included (`tests/test_vector_math.py` states and checks the bound of each); f16, bf16
and the 8-bit floats compute in f32 and round. They are independent of the target and hold no loads and no
calls. Integer arithmetic follows the loop IR's rules.
"""

from __future__ import annotations

from collections.abc import Callable

from velax._compiler.math import (
    basic,
    error_function,
    exponential,
    gamma,
    inverse_trigonometric,
    logarithm,
    power,
    remainder,
    trigonometric,
)
from velax._compiler.math.complex import lower_complex
from velax._compiler.math.value import Value
from velax._ir import loops_build as build
from velax._ir.graph import MAP_FNS
from velax._ir.loops import FLOATS, SIGNED, UNSIGNED, Expr

__all__ = ["lower_complex", "lower_map"]

_INTEGERS = frozenset((*SIGNED, *UNSIGNED))
_ANY = frozenset((*FLOATS, *_INTEGERS, "bool"))
_NUMBERS = frozenset((*FLOATS, *_INTEGERS))
_BITS = frozenset((*_INTEGERS, "bool"))
_FLOATS = frozenset(FLOATS)

#: computed in f32 or f64
_TRANSCENDENTAL: dict[str, Callable[..., Value]] = {
    "exp": exponential.exp, "exp2": exponential.exp2, "expm1": exponential.expm1, "logistic": exponential.logistic,
    "tanh": exponential.tanh, "sinh": exponential.sinh, "cosh": exponential.cosh,
    "log": logarithm.log, "log1p": logarithm.log1p,
    "asinh": logarithm.asinh, "acosh": logarithm.acosh, "atanh": logarithm.atanh,
    "sin": trigonometric.sin, "cos": trigonometric.cos, "tan": trigonometric.tan,
    "asin": inverse_trigonometric.asin, "acos": inverse_trigonometric.acos,
    "atan": inverse_trigonometric.atan, "atan2": inverse_trigonometric.atan2,
    "rsqrt": power.rsqrt, "cbrt": power.cbrt, "pow": power.pow,
    "erf": error_function.erf, "erfc": error_function.erfc, "erf_inv": error_function.erf_inv,
    "lgamma": gamma.lgamma, "digamma": gamma.digamma,
}  # fmt: skip


def _identity(x: Expr) -> Expr:
    return x


def _expr(fn: Callable[..., Value]) -> Callable[..., Expr]:
    return lambda *args: fn(*map(Value, args)).expr


#: exact functions: name -> (dtypes, builder) alternatives, the first that has the operand's dtype
_EXACT: dict[str, tuple[tuple[frozenset[str], Callable[..., Expr]], ...]] = {
    # bool as the two-element field's OR and AND, as in XLA
    "add": ((_NUMBERS, build.add), (_ANY, build.or_)),
    "mul": ((_NUMBERS, build.mul), (_ANY, build.and_)),
    "min": ((_NUMBERS, build.min_), (_ANY, build.and_)),
    "max": ((_NUMBERS, build.max_), (_ANY, build.or_)),
    "sub": ((_NUMBERS, build.sub),),
    "div": ((_NUMBERS, build.div),),
    "rem": ((_INTEGERS, build.rem), (_FLOATS, lambda x, y: _wide(remainder.rem, (x, y)))),
    "neg": ((_NUMBERS, build.neg),),
    "abs": ((frozenset((*FLOATS, *SIGNED)), build.abs_), (_ANY, _identity)),
    "fma": ((_FLOATS, build.fma), (_INTEGERS, lambda x, y, z: build.add(build.mul(x, y), z))),
    "sign": ((_NUMBERS, _expr(basic.sign)),),
    "select": ((_ANY, build.select),),
    "clamp": ((_NUMBERS, _expr(basic.clamp)), (_ANY, lambda low, x, high: build.and_(build.or_(x, low), high))),
    "is_finite": ((_NUMBERS, _expr(basic.is_finite)),),
    **{fn: ((_ANY, getattr(build, fn)),) for fn in ("eq", "ne", "lt", "le", "gt", "ge")},
    "lt_total": ((_ANY, _expr(basic.lt_total)),),
    "le_total": ((_ANY, _expr(basic.le_total)),),
    "eq_total": ((_ANY, _expr(basic.eq_total)),),
    "and": ((_BITS, build.and_),),
    "or": ((_BITS, build.or_),),
    "xor": ((_BITS, build.xor),),
    "not": ((_BITS, build.not_),),
    **{fn: ((_INTEGERS, getattr(build, fn)),) for fn in ("shl", "shrl", "shra", "clz", "popcount")},
    # rounding an integer to an integer
    "floor": ((_FLOATS, build.floor), (_INTEGERS, _identity)),
    "ceil": ((_FLOATS, build.ceil), (_INTEGERS, _identity)),
    "trunc": ((_FLOATS, build.trunc), (_INTEGERS, _identity)),
    "round_even": ((_FLOATS, build.rint), (_INTEGERS, _identity)),
    "round_away": ((_FLOATS, _expr(basic.round_away)), (_INTEGERS, _identity)),
    "nextafter": ((_FLOATS, _expr(basic.nextafter)),),
    "copysign": ((_FLOATS, build.copysign),),
    "sqrt": ((_FLOATS, build.sqrt),),
    "real": ((_NUMBERS, _identity),),
    "imag": ((_NUMBERS, lambda x: build.c(0, x.dtype)),),
    "conj": ((_NUMBERS, _identity),),
}  # fmt: skip
_TOTAL_ORDER = frozenset({"lt_total", "le_total", "eq_total"})


def lower_map(fn: str, args: list[Expr]) -> Expr:
    """The expression of an elementwise function.

    Args:
        fn: a name in `velax._ir.graph.MAP_FNS`, or ``lt_total``, ``le_total``, ``eq_total`` (the
            order of ``lax.sort``).
        args: its operands, real, of one dtype (``select``: a bool first). Complex operands go to
            `lower_complex`.

    Returns:
        An expression of the operands' dtype, or a bool for comparisons and ``is_finite``.

    Raises:
        TypeError: if ``fn`` is unknown, is given another number of operands, operands of different
            dtypes, or a dtype on which it is not defined.

    >>> from velax._ir.loops import Var
    >>> lower_map("tanh", [Var("x", "bf16")]).dtype
    'bf16'
    """
    count = 2 if fn in _TOTAL_ORDER else MAP_FNS.get(fn)
    if count is None:
        raise TypeError(f"map {fn}: no such elementwise function")
    if len(args) != count:
        raise TypeError(f"map {fn}: takes {count} operands, got {len(args)}")
    if fn == "complex":
        raise TypeError("map complex: makes a complex value; use lower_complex, which works on (re, im) pairs")
    values = args[1:] if fn == "select" else args
    dtype = values[0].dtype
    if any(x.dtype != dtype for x in values) or (fn == "select" and args[0].dtype != "bool"):
        raise TypeError(
            f"map {fn}: operands of different dtypes: {', '.join(x.dtype for x in args)}; convert them first"
        )
    transcendental = _TRANSCENDENTAL.get(fn)
    if transcendental is not None:
        if dtype in _FLOATS:
            return _wide(transcendental, args)
        raise TypeError(f"map {fn}: not defined for {dtype}; convert the operand to a float dtype first")
    for dtypes, builder in _EXACT[fn]:
        if dtype in dtypes:
            return builder(*args)
    defined = " or ".join(dict.fromkeys(_describe(dtypes) for dtypes, _ in _EXACT[fn]))
    raise TypeError(f"map {fn}: not defined for {dtype}; it takes {defined}")


def _describe(dtypes: frozenset[str]) -> str:
    names = {
        _INTEGERS: "integers",
        _FLOATS: "floats",
        _NUMBERS: "numbers",
        _BITS: "integers and bool",
        _ANY: "any dtype",
    }
    return names.get(dtypes, ", ".join(sorted(dtypes)))


def _wide(fn: Callable[..., Value], args) -> Expr:
    """``fn`` on f32 and f64 as they are; narrower floats in f32."""
    dtype = args[0].dtype
    if dtype in ("f32", "f64"):
        return fn(*map(Value, args)).expr
    return build.cast(dtype, fn(*(Value(build.cast("f32", x)) for x in args)).expr)
