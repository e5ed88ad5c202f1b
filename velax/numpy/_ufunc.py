"""Universal functions: elementwise functions that can also reduce, accumulate and update.

A `ufunc` is a compiled function with more attributes, not an object around one: a call of
``jnp.add`` costs what a call of any compiled function does. So the class makes such functions and
recognises them, and none is an instance of it in the sense of ``type``.
"""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

from velax import _native
from velax._lang.trace import get_aval
from velax._lang.traceback import public_class
from velax._transforms.jit import jit
from velax.lax._structural import reshape
from velax.numpy._util import check_arraylike

__all__ = ["frompyfunc", "ufunc"]

#: the ufuncs made from functions, so that making one again gives the same, with what it has compiled
_made: weakref.WeakValueDictionary[tuple, Any] = weakref.WeakValueDictionary()


class _Kind(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _native.JitFunction) and "_own" in value.__dict__


@public_class
class ufunc(metaclass=_Kind):
    """A function that works on arrays elementwise, with broadcasting.

    Args:
      func: a function of ``nin`` scalars.
      nin: the number of its arguments.
      nout: the number of its results.
      name: the name; None: that of ``func``.
      nargs: what the attribute ``nargs`` says; None: ``nin``.
      identity: the result of reducing nothing; None: there is none.
      call: the function of whole arrays that calls run; None: ``func``, vectorized.
      reduce, accumulate, at, reduceat: functions that the methods call in place of walking over the
        elements.

    Attributes:
      nin, nout, nargs, identity: as above.

    Example:
      >>> import velax.numpy as jnp
      >>> area = jnp.ufunc(lambda x, y: x * y, nin=2, nout=1, identity=1)
      >>> area(jnp.arange(3), 2), area.reduce(jnp.array([2, 3, 4]))
      (Array([0, 2, 4], dtype=int32), Array(24, dtype=int32))
    """

    def __new__(
        cls, func: Callable, /, nin: int, nout: int, *, name: str | None = None, nargs: int | None = None,
        identity=None, call: Callable | None = None, reduce: Callable | None = None,
        accumulate: Callable | None = None, at: Callable | None = None, reduceat: Callable | None = None,
    ):  # fmt: skip
        nin, nout = operator.index(nin), operator.index(nout)
        own = {"reduce": reduce, "accumulate": accumulate, "at": at, "reduceat": reduceat}
        key = (func, nin, nout, name, nargs, type(identity), identity, call, *own.values())
        try:
            found = _made.get(key)
        except TypeError:  # unhashable, such as an array for identity
            return _make(func, nin, nout, name, nargs, identity, call, own)
        if found is None:
            found = _made[key] = _make(func, nin, nout, name, nargs, identity, call, own)
        return found

    def reduce(self, a, axis=0, dtype=None, out=None, keepdims=False, initial=None, where=None):
        """The elements along an axis joined by the function, from the left.

        Args:
          a: an array.
          axis: the axis; None: all of them.
          dtype: the dtype of the result; None: that of the function's results.
          out: not supported.
          keepdims: whether the axis stays, with size 1.
          initial: a number in front of the elements; None: the identity, if there is one.
          where: booleans that broadcast against ``a``: the elements to join.

        Returns:
          An array without the axis.

        Raises:
          ValueError: if the function is not of two arguments with one result; if there are no
            elements, or ``where`` is given, and there is neither an identity nor ``initial``.

        Example:
          >>> import velax.numpy as jnp
          >>> jnp.subtract.reduce(jnp.array([[9, 8], [1, 2]]))
          Array([8, 6], dtype=int32)
        """
        _check_binary(self, "reduce", out)
        check_arraylike(f"{self.__name__}.reduce", a)
        if where is not None and self.identity is None and initial is None:
            raise ValueError(
                f"reduction operation {self.__name__!r} does not have an identity, so to use a where mask one has "
                "to specify 'initial'."
            )
        how = _own(self, "reduce")
        return how(a, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)

    def accumulate(self, a, axis=0, dtype=None, out=None):
        """The results of joining the first, the first two, ... elements along an axis.

        Args:
          a: an array.
          axis: the axis.
          dtype: the dtype of the result; None: that of the function's results.
          out: not supported.

        Returns:
          An array of the shape of ``a``.

        Raises:
          ValueError: if the function is not of two arguments with one result.

        Example:
          >>> import velax.numpy as jnp
          >>> jnp.maximum.accumulate(jnp.array([1, 3, 2]))
          Array([1, 3, 3], dtype=int32)
        """
        _check_binary(self, "accumulate", out)
        return _own(self, "accumulate")(a, axis=axis, dtype=dtype)

    def reduceat(self, a, indices, axis=0, dtype=None, out=None):
        """Reductions of the slices between indices, along an axis.

        Args:
          a: an array.
          indices: an array of integers of one axis. The slice of each goes up to the next one, the
            last to the end; where the next is not larger, the slice is one element.
          axis: the axis.
          dtype: the dtype in which to reduce; None: that of ``a``.
          out: not supported.

        Returns:
          An array with as many elements along the axis as there are indices.

        Raises:
          ValueError: if the function is not of two arguments with one result, or ``indices`` has
            not one axis.

        Example:
          >>> import velax.numpy as jnp
          >>> jnp.add.reduceat(jnp.arange(8), jnp.array([0, 3, 5]))
          Array([ 3,  7, 18], dtype=int32)
        """
        _check_binary(self, "reduceat", out)
        check_arraylike(f"{self.__name__}.reduceat", a, indices)
        return _own(self, "reduceat")(a, indices, axis=axis, dtype=dtype)

    def outer(self, A, B, /):
        """The function of all pairs of elements.

        Args:
          A, B: arrays.

        Returns:
          An array with the axes of ``A``, then those of ``B``.

        Raises:
          ValueError: if the function is not of two arguments with one result.

        Example:
          >>> import velax.numpy as jnp
          >>> jnp.multiply.outer(jnp.array([1, 2]), jnp.array([3, 4]))
          Array([[3, 4],
                 [6, 8]], dtype=int32)
        """
        _check_binary(self, "outer", None)
        check_arraylike(f"{self.__name__}.outer", A, B)
        a, b = get_aval(A), get_aval(B)
        return self(reshape(A, a.shape + (1,) * b.ndim) if a.ndim and b.ndim else A, B)

    def at(self, a, indices, b=None, /, *, inplace=True):
        """``a`` with the function applied to elements, once for each time that they are indexed.

        Args:
          a: an array.
          indices: an index, as between square brackets.
          b: the second arguments, which broadcast against ``a[indices]``; None for a function of
            one.
          inplace: must be False: arrays are immutable.

        Returns:
          An array of the shape of ``a``.

        Raises:
          NotImplementedError: unless ``inplace`` is False.

        Example:
          >>> import velax.numpy as jnp
          >>> jnp.add.at(jnp.zeros(3), jnp.array([0, 0, 2]), 1.0, inplace=False)
          Array([2., 0., 1.], dtype=float32)
        """
        if inplace:
            raise NotImplementedError(
                "Because JAX arrays are immutable, jnp.ufunc.at() cannot operate inplace like np.ufunc.at(). "
                f"Write x = jnp.{self.__name__}.at(x, indices, ..., inplace=False), or use the methods of x.at."
            )
        if b is None and self.nin == 2:
            raise TypeError(f"{self.__name__}.at() is missing the second arguments, b")
        rest = () if b is None else (b,)
        check_arraylike(f"{self.__name__}.at", a, *rest)
        return _own(self, "at")(a, indices, *rest)


_methods = {name: vars(ufunc)[name] for name in ("reduce", "accumulate", "reduceat", "outer", "at")}


def _make(func, nin: int, nout: int, name, nargs, identity, call, own):
    """A ufunc of any function."""
    name = name or func.__name__

    def run(*args):
        from velax.numpy._functional import vectorize  # which uses ufuncs

        check_arraylike(name, *args)
        return (call or vectorize(func))(*args)

    run.__name__ = run.__qualname__ = name
    run.__doc__, run.__module__ = func.__doc__, getattr(func, "__module__", None)
    return _with_methods(run, nin, nout, nargs, identity, False, own)


def library_ufunc(*, nin: int = 2, identity=None) -> Callable:
    """Decorates a function of the library, of whole arrays; its methods are in `_ufunc_methods`."""
    return lambda fun: _with_methods(fun, nin, 1, None, identity, True, None)


def _with_methods(fun, nin: int, nout: int, nargs, identity, inline: bool, own):
    @functools.wraps(fun)
    def call(*args, out=None, where=None):
        for what, value in (("out", out), ("where", where)):
            if value is not None:
                raise NotImplementedError(
                    f"{what} argument of <jnp.ufunc {fun.__name__!r}> is not supported: arrays are immutable. "
                    "Use the result, or choose from it with jnp.where."
                )
        return fun(*args)

    f = jit(call, inline=inline)
    f.nin, f.nout, f.nargs, f.identity, f._own = nin, nout, nin if nargs is None else nargs, identity, own
    for name, method in _methods.items():
        setattr(f, name, MethodType(method, f))
    return f


def _own(f, method: str) -> Callable:
    """What does a method's work: the function's own way, or the way for all."""
    from velax.numpy import _ufunc_methods as methods  # which uses most of `velax.numpy`

    own = methods.LIBRARY[f.__name__] if f._own is None else f._own
    return own.get(method) or functools.partial(getattr(methods, method), f)


_repr_of_compiled = _native.JitFunction.__repr__


def _repr(self) -> str:
    return f"<jnp.ufunc {self.__name__!r}>" if isinstance(self, ufunc) else _repr_of_compiled(self)


_native.JitFunction.__repr__ = _repr


def frompyfunc(func: Callable, /, nin: int, nout: int, *, identity=None) -> ufunc:
    """A `ufunc` from a function of scalars.

    Args:
      func: a function of ``nin`` scalars that can be traced.
      nin: the number of its arguments.
      nout: the number of its results.
      identity: the result of reducing nothing; None: there is none.

    Returns:
      The ufunc.

    Example:
      >>> import velax.numpy as jnp
      >>> longest = jnp.frompyfunc(lambda x, y: jnp.where(x * x > y * y, x, y), 2, 1)
      >>> longest.reduce(jnp.array([1.0, -3.0, 2.0]))
      Array(-3., dtype=float32)
    """
    return ufunc(func, nin, nout, identity=identity)


def _check_binary(f, method: str, out) -> None:
    if f.nin != 2:
        raise ValueError(f"{method} only supported for binary ufuncs; {f.__name__} takes {f.nin} arguments")
    if f.nout != 1:
        raise ValueError(
            f"{method} only supported for functions returning a single value; {f.__name__} returns {f.nout}"
        )
    if out is not None:
        raise NotImplementedError(f"out argument of {f.__name__}.{method}() is not supported: arrays are immutable")
