"""`Array`: the abstract type of every array, concrete or traced.

``isinstance(x, Array)`` holds for the native `ArrayImpl`, for tracers of arrays, and for types registered
here (typed random keys). Its methods are installed by `velax.numpy` through `install`, once for all of these.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

from velax import _native
from velax._lang.traceback import api_boundary

__all__ = ["Array", "ArrayImpl"]

ArrayImpl = _native.ArrayImpl


class _ArrayMeta(type):
    _kinds: tuple[type, ...] = (ArrayImpl,)
    _tracer: type | None = None

    def __instancecheck__(cls, instance):
        if cls is not Array:
            return type.__instancecheck__(cls, instance)
        return isinstance(instance, _ArrayMeta._kinds)

    def __subclasscheck__(cls, subclass):
        if cls is not Array:
            return type.__subclasscheck__(cls, subclass)
        return issubclass(subclass, _ArrayMeta._kinds) or type.__subclasscheck__(cls, subclass)


class Array(metaclass=_ArrayMeta):
    """An n-dimensional array: what every function of Velax takes and returns.

    Arrays are immutable; make them with `velax.numpy` (`array`, `zeros`, `arange`, ...). Use ``isinstance(x,
    Array)`` for concrete and traced ones alike, and ``Array`` in annotations.
    """

    __slots__ = ()

    def __init__(self, *args, **kwargs):
        raise TypeError(
            "velax.Array cannot be instantiated directly: make arrays with velax.numpy.array, zeros, arange, ..."
        )

    @staticmethod
    def register_tracer(cls: type) -> None:
        _ArrayMeta._tracer = cls
        Array.register_kind(cls)

    @staticmethod
    def register_kind(cls: type) -> None:
        """Count the instances of ``cls`` as arrays."""
        _ArrayMeta._kinds = (*_ArrayMeta._kinds, cls)


def install(name: str, attribute: Callable | property) -> None:
    """Give arrays and tracers the method or property ``name``."""
    if isinstance(attribute, FunctionType):
        attribute = api_boundary(attribute)
    setattr(ArrayImpl, name, attribute)
    setattr(_ArrayMeta._tracer, name, attribute)
    setattr(Array, name, attribute)
