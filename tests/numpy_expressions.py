"""Expressions over ``jnp`` checked against two oracles: JAX's types and errors, found by tracing, and NumPy's values.

Compiling with XLA is slow, so JAX computes values only where NumPy has no such function, or where
the expression is marked ``jax: ...`` as one on which the two differ.
"""

from __future__ import annotations

import both_libraries  # noqa: F401 - first: makes the oracle cheap
import jax
import jax.extend
import jax.numpy as jjnp
import numpy as np

import velax
import velax.numpy as vnp

VALUES = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "y": np.array([[3, 1, 2], [9, 7, 8]], np.float32),
    "v": np.arange(3, dtype=np.float32),
    "i": np.arange(6, dtype=np.int32).reshape(2, 3),
    "b": np.array([[True, False, True], [False, True, True]]),
    "h": np.array([[1, 2, 3], [4, 5, 7]], np.float16),
    "z": np.array([1 + 2j, 3 - 1j, 0.5j], np.complex64),
    "f": np.array([3, np.nan, 1, 2, np.inf, -1], np.float32),
    "u": np.array([250, 3, 7], np.uint8),
    "empty": np.zeros((0, 2), np.float32),
    "cube": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
}


def _names(namespace, package, convert):
    return {"jnp": namespace, "package": package, "np": np, **{k: convert(a) for k, a in VALUES.items()}}


_ours = _names(vnp, velax, vnp.asarray)
_theirs = _names(jjnp, jax, jjnp.asarray)
_numpy = _names(np, np, np.copy)


def _leaves(result):
    return [leaf for part in result for leaf in _leaves(part)] if isinstance(result, (tuple, list)) else [result]


def _concrete_values(source):
    """NumPy's value of an expression, or None where it has none."""
    try:
        with np.errstate(all="ignore"):
            return _leaves(eval(source, dict(_numpy)))
    except Exception:
        return None


def _is_array(x):
    return hasattr(x, "weak_type")


def _types(source, from_jax):
    """JAX's result by tracing alone; NumPy's or else JAX's own value where the result's type
    depends on values; or JAX's error.
    """
    try:
        out = eval("package.eval_shape(lambda: " + source + ")", dict(_theirs))
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ):
        values = None if from_jax else _concrete_values(source)
        if values is not None:
            return [
                jax.ShapeDtypeStruct(np.shape(v), jax.dtypes.canonicalize_dtype(np.asarray(v).dtype)) for v in values
            ]
        out = eval(source, dict(_theirs))
    except TypeError as e:
        if "not a valid JAX type" not in str(e):
            raise
        out = eval(source, dict(_theirs))  # no array: tracing cannot return it
    return _leaves(out)


def _tolerance(dtype):
    return {2: 1e-2, 1: 1e-1}.get(dtype.itemsize, 3e-5) if dtype.kind not in "iub" else 0


def check(expression: str) -> None:
    """The expression gives in Velax the types of JAX and the values of NumPy; or raises JAX's
    error, its message beginning as JAX's does.
    """
    from_jax = expression.startswith("jax:")
    source = expression.removeprefix("jax:").strip()
    try:
        expected = _types(source, from_jax)
    except Exception as error:
        _check_error(source, error)
        return
    ours = _leaves(eval(source, dict(_ours)))
    if not all(map(_is_array, ours)):
        expected = _leaves(eval(source, dict(_theirs)))
    assert len(ours) == len(expected), f"{source}: {len(ours)} results against {len(expected)}"
    values = None if from_jax else _concrete_values(source)
    if values is None or len(values) != len(ours):
        traced = any(isinstance(e, jax.ShapeDtypeStruct) for e in expected)
        values = _leaves(eval("package.jit(lambda: " + source + ")()", dict(_theirs))) if traced else expected
    for a, e, value in zip(ours, expected, values, strict=True):
        if not _is_array(e):
            assert a == e, f"{source}: {a!r} against {e!r}"
            continue
        assert (a.shape, a.dtype, a.weak_type) == (e.shape, e.dtype, e.weak_type), (
            f"{source}: {velax.typeof(a)} weak={a.weak_type} against {e}"
        )
        mine, value = (
            np.asarray(v).astype(np.complex128 if np.asarray(v).dtype.kind == "c" else np.float64) for v in (a, value)
        )
        tolerance = _tolerance(e.dtype)
        np.testing.assert_allclose(mine, value, rtol=tolerance, atol=tolerance / 10, err_msg=source)


def _check_error(source, error):
    try:
        result = eval(source, dict(_ours))
    except Exception as ours:
        assert type(ours).__name__ == type(error).__name__, f"{source}: {ours!r} against {error!r}"
        assert str(ours)[:20] == str(error)[:20], f"{source}: {ours} against {error}"
        return
    raise AssertionError(f"{source} raised nothing, gave {result}; the oracle raises {error!r}")


def lines(text: str) -> list[str]:
    """The expressions of a block of text, one a line."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def check_transformed(expression: str) -> None:
    """``jit``, ``vmap``, ``jvp`` and ``grad`` of ``expression``, in ``x`` and the library ``jnp``:
    types and values by JAX's tracing and by differences.

    Derivatives are compared with central differences in float64 arithmetic of the values, and ``vmap`` with a loop.
    """
    f = eval("lambda x: " + expression, {"jnp": vnp, "np": np})
    theirs = eval("lambda x: " + expression, {"jnp": jjnp, "np": np})
    x0 = np.array([[0.3, 1.7, 2.2], [4.1, 3.3, 5.9]], np.float32)
    x = vnp.asarray(x0)
    value = f(x)
    shape = jax.eval_shape(theirs, x0)
    assert (value.shape, value.dtype) == (shape.shape, shape.dtype), f"{expression}: {value} against {shape}"
    np.testing.assert_allclose(velax.jit(f)(x), value, rtol=2e-5, atol=1e-5, err_msg=expression)
    batch = np.stack([x0, x0 + 0.1, 2 * x0])
    loop = np.stack([np.asarray(f(vnp.asarray(r))) for r in batch])
    np.testing.assert_allclose(velax.vmap(f)(vnp.asarray(batch)), loop, rtol=2e-5, atol=1e-5, err_msg=expression)
    direction = np.cos(np.arange(6, dtype=np.float32)).reshape(2, 3)
    step = 1e-2
    ahead, behind = (np.asarray(f(vnp.asarray(x0 + s * step * direction)), np.float64) for s in (1, -1))
    difference = (ahead - behind) / (2 * step)
    _, tangent = velax.jvp(f, (x,), (vnp.asarray(direction),))
    np.testing.assert_allclose(tangent, difference, rtol=2e-2, atol=2e-2, err_msg=expression)
    weights = np.cos(np.arange(value.size, dtype=np.float32)).reshape(value.shape)
    gradient = velax.grad(lambda x: vnp.sum(f(x) * weights))(x)
    np.testing.assert_allclose(
        np.sum(np.asarray(gradient) * direction),
        np.sum(weights * np.asarray(tangent)),
        rtol=1e-3,
        atol=1e-3,
        err_msg=expression,
    )
