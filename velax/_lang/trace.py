"""Traces and tracers: how a transformation interprets a Python function.

The current trace is thread-local (native; None means evaluate now). `Primitive.bind` hands each
operation to it. A transformation is a `Trace` subclass: it boxes values in `Tracer`s of its own,
interprets each primitive on them under its parent trace, and unboxes. Values of other traces are
opaque constants to it. The protocol is public: libraries subclass `Trace` and `Tracer`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from velax import _native
from velax._lang import avals as _avals, dtypes, errors
from velax._lang.array import Array, ArrayImpl
from velax._lang.avals import AbstractRef, AbstractValue, ShapedArray, aval_factories
from velax._lang.config import FLAG_DEBUG
from velax._lang.primitive import Primitive, set_eval_trace

__all__ = [
    "EvalTrace", "Trace", "TraceTag", "Tracer", "as_array", "concrete_or_error", "current_trace",
    "ensure_compile_time_eval", "eval_context", "eval_trace",
    "get_aval", "is_concrete", "set_current_trace", "take_current_trace", "trace_state_clean", "typeof",
    "valid_jaxtype",
]  # fmt: skip

_swap_trace = _native.swap_trace
_get_trace = _native.get_trace
_config_flags = _native.config_flags


class TraceTag:
    """Identity of one transformation level; a trace entered again (e.g. in a nested call) keeps its tag."""


class Trace:
    """How to interpret primitives; subclass it for a new transformation.

    A subclass implements `process_primitive`, and may override `process_call`, `process_custom_jvp_call` and
    `process_custom_vjp_call`, which receive the un-traced functions.
    """

    __slots__ = ("__weakref__", "_invalidated")

    stages = False  #: whether it writes programs down, so that nothing is evaluated under it

    def __init__(self):
        self._invalidated = False

    def process_primitive(self, primitive: Primitive, tracers, params) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must implement process_primitive")

    def process_call(self, primitive, f, tracers, params):
        raise NotImplementedError(
            f"{type(self).__name__} must implement process_call to handle call-like primitives such as {primitive}"
        )

    def process_custom_jvp_call(self, primitive, fun, jvp, tracers, **params):
        raise NotImplementedError(
            f"{type(self).__name__} must implement process_custom_jvp_call to handle custom_jvp functions"
        )

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, tracers, **params):
        raise NotImplementedError(
            f"{type(self).__name__} must implement process_custom_vjp_call to handle custom_vjp functions"
        )

    def invalidate(self) -> None:
        """Mark the trace as ended: its tracers must not be used any more."""
        self._invalidated = True

    def is_valid(self) -> bool:
        return not self._invalidated

    def __repr__(self):
        return type(self).__name__

    @property
    def main(self):
        return self


class Tracer:
    """A value of a trace, standing for an array. Its array methods are installed by `velax.numpy`."""

    __slots__ = ("__weakref__", "_trace")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 1000

    def __init__(self, trace: Trace):
        self._trace = trace

    @property
    def aval(self) -> AbstractValue:
        raise NotImplementedError(f"{type(self).__name__} must have an aval")

    def full_lower(self):
        return self

    def is_concrete(self) -> bool:
        """Whether `to_concrete_value` would give one."""
        return self.to_concrete_value() is not None

    def to_concrete_value(self):
        """The value if it is known now, else None."""
        return None

    def get_referent(self):
        return self

    # -- array attributes -------------------------------------------------------------------------

    @property
    def shape(self):
        return self.aval.shape

    @property
    def dtype(self):
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def itemsize(self) -> int:
        return self.aval.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.aval.size * self.aval.dtype.itemsize

    @property
    def weak_type(self) -> bool:
        return self.aval.weak_type

    @property
    def sharding(self):
        return self.aval.sharding

    @property
    def committed(self) -> bool:
        return True

    def __len__(self):
        if not self.aval.shape:
            raise TypeError("len() of unsized object")
        return self.aval.shape[0]

    # -- conversions that need the value ----------------------------------------------------------

    def __bool__(self):
        value = self.to_concrete_value()
        if value is not None:
            return bool(value)
        if self.aval.shape and self.aval.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        raise errors.TracerBoolConversionError(self)

    # A Python number forgets the derivative, so these raise also where the primal is known.

    def __int__(self):
        raise _conversion_error(self, "int")

    def __float__(self):
        raise _conversion_error(self, "float")

    def __complex__(self):
        raise _conversion_error(self, "complex")

    def __index__(self):
        raise errors.TracerIntegerConversionError(self)

    def __array__(self, *args, **kwargs):
        raise errors.TracerArrayConversionError(self)

    def block_until_ready(self):
        return self

    def copy_to_host_async(self):
        pass

    def is_deleted(self) -> bool:
        return False

    def __setitem__(self, index, value):
        if isinstance(self.aval, AbstractRef):
            self.aval._setitem(self, index, value)
            return
        raise TypeError(
            "JAX arrays are immutable and do not support in-place item assignment. Instead of x[idx] = y, use x = "
            "x.at[idx].set(y) or another .at[] method."
        )

    def __delitem__(self, index):
        raise TypeError(
            "JAX arrays are immutable and do not support item deletion. Select what to keep, or use jnp.delete(x, idx)."
        )

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    # -- text -------------------------------------------------------------------------------------

    def _contents(self):
        return ()

    def _origin_msg(self) -> str:
        """Where the value comes from, for error messages (staging traces know the argument it depends on)."""
        return ""

    def _made_msg(self) -> str:
        """Where the value was made, as a sentence with a space behind it: for the errors about values that
        outlive their trace.
        """
        return ""

    def _error_repr(self) -> str:
        return f"traced array with {_describe(self.aval)}"

    def __repr__(self):
        name = type(self).__name__
        return f"{name}<{self.aval}>"

    def __format__(self, spec):
        if not spec:
            return repr(self)
        raise TypeError(
            f"unsupported format string {spec!r}: {self._error_repr()} has no value to format while the function "
            "is traced. Print values with "
            'velax.debug.print("{x:.2f}", x=x), which formats them when the program runs.'
        )


def _only_of_arrays(name: str, shown: str):
    def raise_error(self, *_args, **_kwargs):
        raise errors.ConcretizationTypeError(self, f"{shown} was used on a traced array, which has no data yet.")

    raise_error.__name__ = name
    return raise_error


for _name in (
    "item", "tolist", "tobytes", "delete", "devices", "addressable_data", "on_device_size_in_bytes",
    "unsafe_buffer_pointer", "__dlpack__",
    "__dlpack_device__", "__reduce__",
):  # fmt: skip
    setattr(Tracer, _name, _only_of_arrays(_name, f"The {_name}() method"))
for _name in ("addressable_shards", "global_shards", "is_fully_addressable", "is_fully_replicated", "traceback"):
    setattr(Tracer, _name, property(_only_of_arrays(_name, f"The {_name} property")))


def _describe(aval) -> str:
    return f"shape {aval.str_short()}" if isinstance(aval, ShapedArray) else str(aval)


def _conversion_error(tracer: Tracer, name: str) -> Exception:
    check_scalar_conversion(tracer)
    return errors.ConcretizationTypeError(
        tracer,
        f"The problem arose with the `{name}` function. If trying to convert the data type of a value, try using "
        f"`x.astype({name})` or "
        f"`jnp.array(x, {name})` instead.",
    )


def check_scalar_conversion(x) -> None:
    if len(x.aval.shape) > 0 and x.aval.size != 1:
        raise TypeError(f"Only scalar arrays can be converted to Python scalars; got arr.ndim={x.aval.ndim}")


Array.register_tracer(Tracer)
_native.set_tracer_type(Tracer)


_watched_evaluation: Callable[[Primitive, Any, dict], Any]


def set_watched_evaluation(f: Callable[[Primitive, Any, dict], Any]) -> None:
    """Registered by `velax._transforms.debug_values`: ``f(primitive, args, params)`` evaluates while a
    debugging option is set.
    """
    global _watched_evaluation
    _watched_evaluation = f


class EvalTrace(Trace):
    """Evaluation: every primitive runs now."""

    __slots__ = ()

    def process_primitive(self, primitive, args, params):
        for arg in args:
            if isinstance(arg, Tracer):
                raise escaped_tracer_error(arg)
        if _config_flags() & FLAG_DEBUG:
            return _watched_evaluation(primitive, args, params)
        return primitive.impl(*args, **params)

    def process_call(self, primitive, f, args, params):
        return f(*args) if primitive.rule("impl") is None else primitive.impl(f, *args, **params)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, **_):
        return fun(*args)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, **_):
        return fun(*args)


eval_trace = EvalTrace()
set_eval_trace(eval_trace)


def escaped_tracer_error(tracer: Tracer) -> Exception:
    """The error for a tracer used outside the transformation that made it."""
    message = (
        "A function transformed by JAX had a side effect, allowing for a reference to an intermediate value with type "
        f"{tracer.aval.str_short()} wrapped in a {type(tracer).__name__} to escape the scope of the transformation. "
        f"{tracer._made_msg()}"
        f"A function passed to jit, grad, vmap, scan, ... must not store such values in globals, attributes or "
        "closures: return them instead. Functions with derivative or batching rules of their own take such values "
        "as arguments, not by closure."
    )
    return errors.UnexpectedTracerError(message)


# -- the current trace ---------------------------------------------------------------------------


def current_trace() -> Trace:
    """The trace that `bind` would use now."""
    return _get_trace() or eval_trace


class set_current_trace:
    """Context manager: interpret under ``trace``."""

    __slots__ = ("_old", "_trace")

    def __init__(self, trace: Trace | None, check_leaks: bool = False):
        self._trace = None if trace is eval_trace else trace

    def __enter__(self):
        self._old = _swap_trace(self._trace)

    def __exit__(self, *exc):
        _swap_trace(self._old)


class take_current_trace:
    """Context manager giving the current trace and evaluating inside: for transformations that put themselves
    on top of it.
    """

    __slots__ = ("_old",)

    def __enter__(self) -> Trace:
        self._old = _swap_trace(None)
        return self._old or eval_trace

    def __exit__(self, *exc):
        _swap_trace(self._old)


def trace_state_clean() -> bool:
    return _get_trace() is None


@contextlib.contextmanager
def ensure_compile_time_eval():
    """Evaluate inside at once, also while tracing: operations on concrete values give concrete values.

    Operations on tracers inside raise, since their values are not known yet.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> @velax.jit
      ... def f(x):
      ...     with velax.ensure_compile_time_eval():
      ...         n = int(jnp.sum(jnp.arange(4)))
      ...     return x * n
      >>> int(f(2))
      12
    """
    with set_current_trace(eval_trace):
        yield


eval_context = ensure_compile_time_eval


# -- avals of values -----------------------------------------------------------------------------

aval_factories[ArrayImpl] = lambda x: x.aval


def get_aval(x) -> AbstractValue:
    """The aval of a value; TypeError for what is no value of the language."""
    if isinstance(x, Tracer):
        return x.aval
    factory = aval_factories.get(type(x))
    if factory is not None:
        return factory(x)
    for base in type(x).__mro__[1:]:
        factory = aval_factories.get(base)
        if factory is not None:
            return factory(x)
    if hasattr(x, "__jax_array__"):
        return get_aval(x.__jax_array__())
    raise TypeError(f"Value {x!r} with type {type(x)} is not a valid JAX type")


def as_array(x):
    """A value as an array: Python scalars and NumPy values become one of the same type; what has no native
    array (traced values, keys, float0) stays.
    """
    if isinstance(x, Array):
        return x
    aval = get_aval(x)
    if dtypes.is_extended(aval.dtype) or aval.dtype == dtypes.float0:
        return x
    return _native.array_from_numpy(np.asarray(x, aval.dtype, order="C"), aval.weak_type)


def typeof(x) -> AbstractValue:
    """The type (aval) of a value.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.typeof(jnp.zeros((2, 3)))
      ShapedArray(float32[2,3])
    """
    return get_aval(x)


def valid_jaxtype(x) -> bool:
    try:
        get_aval(x)
    except TypeError:
        return False
    return True


def is_concrete(x) -> bool:
    return not isinstance(x, Tracer) or x.to_concrete_value() is not None


def to_concrete_value(x):
    return x.to_concrete_value() if isinstance(x, Tracer) else x


def concrete_or_error(force, value, context: str = ""):
    """``force(value)`` (``force`` None: the value itself) if it is concrete; a `ConcretizationTypeError`
    mentioning ``context`` if traced.
    """
    if isinstance(value, Tracer):
        concrete = value.to_concrete_value()
        if concrete is None:
            raise errors.ConcretizationTypeError(value, context)
        value = concrete
    return value if force is None else force(value)


def shaped_abstractify(x) -> AbstractValue:
    """The aval of an argument: of values as `get_aval`; of things with ``shape`` and ``dtype``
    (`ShapeDtypeStruct`, arrays of others) by these.
    """
    try:
        return get_aval(x)
    except TypeError:
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            dtype = dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True)
            return _avals.shaped_array(tuple(x.shape), dtype, bool(getattr(x, "weak_type", False)))
        raise
