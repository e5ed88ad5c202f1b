"""Operators, methods and properties of arrays.

Operators of concrete arrays are native slots that call the functions registered here; tracers get the same functions as Python methods. Everything else is
installed once for both. Functions of modules that are imported later are looked up in `velax.numpy` when a method is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import velax.numpy as jnp
from velax import _native
from velax._lang.array import Array, ArrayImpl, install
from velax._lang.trace import Tracer
from velax._transforms.jit import jit
from velax.numpy import _ufuncs as ufuncs
from velax.numpy._at import IndexUpdateHelper
from velax.numpy._indexing import getitem, iterate

__all__: list[str] = []

# -- operators ------------------------------------------------------------------------------------------------------------


def _reflected(f):
    """``f`` with its operands exchanged, for ``other + array``."""

    def reflected(x, y):
        return f(y, x)

    reflected.__name__ = reflected.__qualname__ = "r" + f.__name__
    return jit(reflected, inline=True)


def _matmul(x, y):
    return jnp.matmul(x, y)


def _rmatmul(x, y):
    return jnp.matmul(y, x)


def _rpow(x, y):
    return ufuncs.power(y, x)


_BINARY = {
    "add": (ufuncs.add, "+"), "sub": (ufuncs.subtract, "-"), "mul": (ufuncs.multiply, "*"), "truediv": (ufuncs.true_divide, "/"),
    "floordiv": (ufuncs.floor_divide, "//"), "mod": (ufuncs.remainder, "%"), "divmod": (ufuncs.divmod, "divmod"), "lshift": (ufuncs.left_shift, "<<"),
    "rshift": (ufuncs.right_shift, ">>"), "and": (ufuncs.bitwise_and, "&"), "or": (ufuncs.bitwise_or, "|"), "xor": (ufuncs.bitwise_xor, "^"),
}  # fmt: skip
_COMPARISONS = {
    "lt": (ufuncs.less, "<"), "le": (ufuncs.less_equal, "<="), "eq": (ufuncs.equal, "=="), "ne": (ufuncs.not_equal, "!="), "gt": (ufuncs.greater, ">"),
    "ge": (ufuncs.greater_equal, ">="),
}  # fmt: skip
_UNARY = {"neg": ufuncs.negative, "pos": ufuncs.positive, "abs": ufuncs.absolute, "invert": ufuncs.bitwise_not}

_operators: dict[str, Any] = {name: f for name, (f, _) in (_BINARY | _COMPARISONS).items()}
_operators |= {"r" + name: _reflected(f) for name, (f, _) in _BINARY.items()}
_operators |= _UNARY
_operators |= {"pow": ufuncs.power, "rpow": _rpow, "matmul": _matmul, "rmatmul": _rmatmul, "getitem": getitem, "iter": iterate}
_native.set_array_operators(_operators)

_ACCEPTED = (int, float, complex, np.generic, np.ndarray)
_REJECTED = (list, tuple, set, dict)


def _deferring(f, symbol: str, swapped: bool = False):
    """A binary operator of tracers: NotImplemented for operands of unknown types, so that these get their turn."""

    def op(self, other):
        if isinstance(other, (Tracer, ArrayImpl, *_ACCEPTED)) or isinstance(other, Array) or hasattr(other, "__jax_array__"):
            return f(self, other)
        if type(other) in _REJECTED:
            names = (type(other).__name__, type(self).__name__) if swapped else (type(self).__name__, type(other).__name__)
            raise TypeError(f"unsupported operand type(s) for {symbol}: {names[0]!r} and {names[1]!r}; convert it with jnp.asarray first")
        return NotImplemented

    return op


def _install_tracer_operators() -> None:
    symbols = {name: symbol for name, (_, symbol) in (_BINARY | _COMPARISONS).items()} | {"pow": "**", "matmul": "@"}
    for name, symbol in symbols.items():
        setattr(Tracer, f"__{name}__", _deferring(_operators[name], symbol))
        if "r" + name in _operators:
            setattr(Tracer, f"__r{name}__", _deferring(_operators["r" + name], symbol, swapped=True))
    for name in ("neg", "pos", "abs", "invert", "getitem", "iter"):
        f = _operators[name]
        setattr(Tracer, f"__{name}__", (lambda f: lambda self, *args: f(self, *args))(f))


_install_tracer_operators()
install("at", property(IndexUpdateHelper))
