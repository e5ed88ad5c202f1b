"""The errors that Velax raises for programs that cannot be traced, and what each of them teaches.

The constructors of the tracer errors take the tracer, and write what it stands for, the argument it depends on, and the
spelling that works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ConcretizationTypeError",
    "InconclusiveDimensionOperation",
    "JAXIndexError",
    "JAXTypeError",
    "JaxRuntimeError",
    "KeyReuseError",
    "LeakedTracerError",
    "NonConcreteBooleanIndexError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
    "TypePromotionError",
    "UnexpectedTracerError",
]


class _Rebuilt:
    """Makes errors whose constructor takes a tracer survive pickling, e.g. from a worker process."""

    def __reduce__(self):
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[Exception], args: tuple, attributes: dict) -> Exception:
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class JAXTypeError(_Rebuilt, TypeError):
    """The base of the errors about values of a kind that an operation cannot take.

    Args:
      message: what happened.
    """


class JAXIndexError(_Rebuilt, IndexError):
    """The base of the errors about indices.

    Args:
      message: what happened.
    """


class JaxRuntimeError(RuntimeError):
    """An error from a running program: a callback that raised, memory that ran out, a device that failed.

    When a Python callback raised, its exception is the ``__cause__``.
    """


class InconclusiveDimensionOperation(Exception):
    """A question about symbolic dimensions that has no single answer for all their values."""


class TypePromotionError(ValueError):
    """Operands whose dtypes have no common dtype that one may choose implicitly."""


class LeakedTracerError(_Rebuilt, Exception):
    """A traced value that outlived its trace, found by ``jax_check_tracer_leaks`` (`velax.checking_leaks`).

    Args:
      traced: what was traced, e.g. ``"the function f at file.py:3 for jit"``.
      leaked: a description of each leaked value.
    """

    def __init__(self, traced: str, leaked: Sequence[str]):
        values = "\n".join(f"  {text}" for text in leaked)
        super().__init__(
            f"Leaked {len(leaked)} traced value{'s' if len(leaked) != 1 else ''} from {traced}:\n{values}\n"
            "Something outside the function still refers to them after the trace has ended: a global, an "
            "attribute, a default "
            "argument, a closure, or a function wrapped by functools.cache. Return such values instead."
        )


def _join(*parts: str) -> str:
    return "\n".join(part.strip("\n") for part in parts if part)


class ConcretizationTypeError(JAXTypeError):
    """A traced value stood where a concrete one is needed: in ``float(x)``, as a shape, as an axis, as a
    static parameter.

    While a function is traced its arguments have shapes and dtypes but no values, so that Python cannot
    compute with the value. What helps depends on what the value is for:

    * a size, an axis or a flag: mark the argument static, ``jit(f, static_argnums=0)``, or pass a Python value;
    * part of the computation: keep it an array: ``x.astype(float)`` instead of ``float(x)``, `velax.numpy`
      functions instead of those of `math` and NumPy;
    * the size of a result that depends on data: use the three-argument ``jnp.where``, or ``size=`` where a
      function has it.

    Args:
      tracer: the traced value.
      context: what it was used for.

    Example:
      >>> import velax
      >>> velax.jit(lambda n: velax.numpy.zeros(int(n)))(3)
      Traceback (most recent call last):
      ...
      velax.errors.ConcretizationTypeError: Abstract tracer value encountered where concrete value is expected: ...
      >>> velax.jit(lambda n: velax.numpy.zeros(n), static_argnums=0)(3).shape
      (3,)
    """

    # Of use where the value is an argument of a function that was traced, not one mapped over or differentiated.
    _HINT = (
        "If the value is a size, an axis or a flag, mark the argument it comes from as static: `jit(f, "
        "static_argnums=...)` or "
        "`static_argnames=...`."
    )

    def __init__(self, tracer: Any, context: str = ""):
        origin = tracer._origin_msg()
        super().__init__(
            _join(
                f"Abstract tracer value encountered where concrete value is expected: {tracer._error_repr()}",
                context,
                origin,
                self._HINT if origin.startswith("The error occurred while tracing") else "",
            )
        )


class TracerBoolConversionError(ConcretizationTypeError):
    """A traced value decided which way Python goes: ``if x > 0``, ``while``, ``assert``, ``and``, ``not``,
    ``min(x, y)``.

    Choose with arrays instead: ``jnp.where(x > 0, a, b)`` for values, ``lax.cond(x > 0, f, g, x)`` for computations,
    ``lax.while_loop`` and ``lax.fori_loop`` for loops, ``jnp.logical_and``, ``jnp.logical_not``,
    ``jnp.minimum`` for their Python namesakes; or mark the argument static when it is a flag.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.jit(lambda x: x if x > 0 else -x)(1.0)
      Traceback (most recent call last):
      ...
      velax.errors.TracerBoolConversionError: Attempted boolean conversion of traced array with shape bool[].
      ...
      >>> float(velax.jit(lambda x: jnp.where(x > 0, x, -x))(1.0))
      1.0
    """

    def __init__(self, tracer: Any):
        JAXTypeError.__init__(
            self,
            _join(
                f"Attempted boolean conversion of {tracer._error_repr()}.",
                tracer._origin_msg(),
                "Python's `if`, `while`, `and`, `or`, `not` and `assert` need the value now. Write "
                "`jnp.where(condition, a, b)` or "
                "`lax.cond(condition, f, g, *operands)` instead of `if`, `lax.while_loop` instead of `while`, "
                "`jnp.logical_and`, `jnp.logical_or`, `jnp.logical_not` instead of `and`, `or`, `not`; or mark an "
                "argument that is a flag "
                "as static (`static_argnums`, `static_argnames`).",
            ),
        )


class TracerArrayConversionError(JAXTypeError):
    """A traced value was passed to NumPy, or to something else that asks for its data.

    Call the function of `velax.numpy` instead of NumPy's; where there is none, call back with
    ``velax.pure_callback(numpy_function, result_shape, x)``. A NumPy array that is indexed by a
    traced value becomes an array first: ``jnp.asarray(table)[i]``.

    Args:
      tracer: the traced value.

    Example:
      >>> import numpy as np, velax, velax.numpy as jnp
      >>> velax.jit(lambda x: np.sin(x))(1.0)
      Traceback (most recent call last):
      ...
      velax.errors.TracerArrayConversionError: The numpy.ndarray conversion method __array__() was called on traced array ...
      >>> velax.jit(lambda x: jnp.sin(x))(0.0)
      Array(0., dtype=float32, weak_type=True)
    """

    def __init__(self, tracer: Any):
        super().__init__(
            _join(
                f"The numpy.ndarray conversion method __array__() was called on {tracer._error_repr()}",
                tracer._origin_msg(),
                "NumPy needs the data now. Call the function of `velax.numpy` of the same name; index a NumPy "
                "array by a traced "
                "value as `jnp.asarray(table)[i]`; where only a Python function will do, use `velax.pure_callback`.",
            )
        )


class TracerIntegerConversionError(JAXTypeError):
    """A traced value was used as a Python integer: to index a list, in ``range``, in a slice of a list.

    Turn the list into an array (``jnp.asarray(values)[i]``) or choose a function with ``lax.switch(i,
    functions, x)``; loop with ``lax.fori_loop``; or mark the argument static.

    Args:
      tracer: the traced value.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.jit(lambda i: [1, 2][i])(0)
      Traceback (most recent call last):
      ...
      velax.errors.TracerIntegerConversionError: The __index__() method was called on traced array with shape int32[]
      ...
      >>> int(velax.jit(lambda i: jnp.array([1, 2])[i])(0))
      1
    """

    def __init__(self, tracer: Any):
        super().__init__(
            _join(
                f"The __index__() method was called on {tracer._error_repr()}",
                tracer._origin_msg(),
                "Python needs the integer now. Index an array instead of a list (`jnp.asarray(values)[i]`), choose "
                "a function with "
                "`lax.switch(i, functions, *operands)`, loop with `lax.fori_loop` instead of `range`, or mark the "
                "argument as static "
                "(`static_argnums`, `static_argnames`).",
            )
        )


class NonConcreteBooleanIndexError(JAXIndexError):
    """An array was indexed by a traced mask: the size of the result would depend on the mask's values.

    Keep the size: ``jnp.where(mask, x, 0)`` instead of ``x[mask]``, ``jnp.sum(x, where=mask)`` instead of
      ``sum(x[mask])``,
    ``x.at[:].set(jnp.where(mask, new, x))`` or ``jnp.where(mask, new, x)`` instead of assignment under a mask, or
    ``jnp.nonzero(mask, size=n)``.

    Args:
      tracer: the traced mask.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.jit(lambda x: x[x > 0].sum())(jnp.ones(3))
      Traceback (most recent call last):
      ...
      velax.errors.NonConcreteBooleanIndexError: Array boolean indices must be concrete; got bool[3]
      ...
      >>> float(velax.jit(lambda x: jnp.where(x > 0, x, 0).sum())(jnp.ones(3)))
      3.0
    """

    def __init__(self, tracer: Any):
        super().__init__(
            _join(
                f"Array boolean indices must be concrete; got {tracer.aval.str_short()}",
                tracer._origin_msg(),
                "The size of `x[mask]` depends on the values of the mask. Keep the size with `jnp.where(mask, x, "
                "fill)`, pass `where=mask` to "
                "the reduction, or give the size: `jnp.nonzero(mask, size=n, fill_value=...)`.",
            )
        )


class UnexpectedTracerError(JAXTypeError):
    """A traced value was used after the transformation that made it had ended.

    A function under `jit`, `grad`, `vmap`, `scan`, ... stored an intermediate value outside of itself, and
    the program used it later, when it stands for nothing. Return the value from the function instead. ``with
    velax.checking_leaks():`` finds the place where it escapes.

    Args:
      msg: where the value comes from.

    Example:
      >>> import velax
      >>> saved = []
      >>> _ = velax.jit(lambda x: saved.append(x))(1.0)
      >>> saved[0] + 1
      Traceback (most recent call last):
      ...
      velax.errors.UnexpectedTracerError: Encountered an unexpected tracer. ...
    """

    _LEAD = "Encountered an unexpected tracer."

    def __init__(self, msg: str):
        super().__init__(
            _join(
                msg if msg.startswith(self._LEAD) else f"{self._LEAD} {msg}",
                "To find where it escapes, run with JAX_CHECK_TRACER_LEAKS=1 or inside `with velax.checking_leaks():`.",
            )
        )


class KeyReuseError(JAXTypeError):
    """A random key was consumed twice under ``jax_debug_key_reuse``.

    Samples from one key are the same samples. Split the key first: ``key, subkey = random.split(key)``.

    Args:
      message: which key.
    """


# The public address of these classes is `velax.errors`; it is what tracebacks show.
for _error in [globals()[name] for name in __all__]:
    _error.__module__ = "velax.errors"
TypePromotionError.__module__ = "velax.dtypes"
