"""Checks of derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.differentiate import jvp, vjp
from velax.tree_util import tree_flatten, tree_leaves, tree_map, tree_unflatten

__all__ = ["check_grads", "check_jvp", "check_vjp"]

#: step and tolerance of the comparison: central differences in double precision of a function computed in the dtype
_STEP = {"float16": 1e-1, "bfloat16": 1e-1, "float32": 5e-3, "float64": 1e-6, "complex64": 5e-3, "complex128": 1e-6}
_TOLERANCE = {
    "float16": 1e-1,
    "bfloat16": 1e-1,
    "float32": 5e-3,
    "float64": 1e-5,
    "complex64": 5e-3,
    "complex128": 1e-5,
}


def _wide(x) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def _dtype(x) -> np.dtype:
    return get_aval(x).dtype


def _is_inexact(x) -> bool:
    return dtypes.is_inexact(_dtype(x))


def _random_like(rng, x):
    shape, dtype = np.shape(x), _dtype(x)
    if not dtypes.is_inexact(dtype):
        return np.zeros(shape, dtypes.float0)
    values = rng.standard_normal(shape)
    if dtypes.is_complex(dtype):
        values = values + 1j * rng.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def _worst_dtype(args) -> str:
    names = [_dtype(x).name for x in tree_leaves(args) if _is_inexact(x)]
    return min(names, key=lambda n: -_TOLERANCE[n], default="float32")


def _moved(args, tangents, step):
    def move(x, t):
        return (_wide(x) + step * _wide(t)).astype(_dtype(x)) if _is_inexact(x) else x

    leaves, tree = tree_flatten(args)
    return tree_unflatten(tree, [move(x, t) for x, t in zip(leaves, tree_leaves(tangents), strict=True)])


def _difference(f, args, tangents, step):
    """The directional derivative by central differences, as wide NumPy arrays."""
    above, below = f(*_moved(args, tangents, step)), f(*_moved(args, tangents, -step))
    return [(_wide(a) - _wide(b)) / (2 * step) for a, b in zip(tree_leaves(above), tree_leaves(below), strict=True)]


def _tolerances(args, atol, rtol, eps):
    name = _worst_dtype(args)
    return atol or _TOLERANCE[name], rtol or _TOLERANCE[name], eps or _STEP[name]


def check_jvp(f: Callable, f_jvp: Callable, args: Sequence, atol=None, rtol=None, eps=None, err_msg: str = "") -> None:
    """Compare ``f_jvp(args, tangents) -> (outs, tangents out)`` with central differences of ``f`` along a
    random direction.

    Raises:
      AssertionError: if they differ by more than the tolerances.
    """
    atol, rtol, eps = _tolerances(args, atol, rtol, eps)
    rng = np.random.default_rng(0)
    tangents = tree_map(lambda x: _random_like(rng, x), tuple(args))
    _, derived = f_jvp(tuple(args), tangents)
    for ours, numeric in zip(tree_leaves(derived), _difference(f, tuple(args), tangents, eps), strict=True):
        if _is_inexact(ours):
            np.testing.assert_allclose(
                _wide(ours),
                numeric,
                atol=atol,
                rtol=rtol,
                err_msg=f"{err_msg} the forward-mode derivative differs from central differences",
            )


def check_vjp(f: Callable, f_vjp: Callable, args: Sequence, atol=None, rtol=None, eps=None, err_msg: str = "") -> None:
    """Compare ``f_vjp(*args) -> (outs, function of cotangents)`` with central differences of ``f``, for a
    random direction and cotangent.

    Raises:
      AssertionError: if they differ by more than the tolerances.
    """
    atol, rtol, eps = _tolerances(args, atol, rtol, eps)
    rng = np.random.default_rng(1)
    tangents = tree_map(lambda x: _random_like(rng, x), tuple(args))
    outs, pull = f_vjp(*args)
    cotangents = tree_map(lambda x: _random_like(rng, x), outs)
    pulled = tree_leaves(pull(cotangents))
    dot = lambda xs, ys: sum(
        np.sum(_wide(x) * _wide(y)).real
        for x, y in zip(xs, ys, strict=True)
        if _is_inexact(x) and y.dtype != dtypes.float0
    )
    numeric = dot(tree_leaves(cotangents), _difference(f, tuple(args), tangents, eps))
    np.testing.assert_allclose(
        dot(tree_leaves(tangents), pulled),
        numeric,
        atol=atol,
        rtol=rtol,
        err_msg=f"{err_msg} the reverse-mode derivative differs from central differences",
    )


def check_grads(
    f: Callable, args: Sequence, order: int, modes: Sequence[str] = ("fwd", "rev"), atol=None, rtol=None, eps=None
) -> None:
    """Check the derivatives of a function against central differences, up to an order and in both modes.

    Args:
      f: the function, of arrays or pytrees.
      args: its arguments.
      order: the highest order of derivative to check.
      modes: ``"fwd"``, ``"rev"`` or both.
      atol, rtol, eps: tolerances and the step; by default from the dtypes of the arguments.

    Raises:
      AssertionError: if a derivative differs.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax.test_util import check_grads
      >>> check_grads(lambda x: jnp.sin(x) * x, (0.5,), order=2)
    """
    args = tuple(args)
    _check(f, args, order, (modes,) if isinstance(modes, str) else tuple(modes), atol, rtol, eps, "")


def _check(f, args, order, modes, atol, rtol, eps, path):
    if "fwd" in modes:
        f_jvp = lambda primals, tangents: jvp(f, primals, tangents)
        check_jvp(f, f_jvp, args, atol, rtol, eps, f"{path}JVP:")
        if order > 1:
            _check(lambda *xs: jvp(f, xs, xs)[1], args, order - 1, modes, atol, rtol, eps, f"{path}JVP of ")
    if "rev" in modes:
        check_vjp(f, lambda *xs: vjp(f, *xs), args, atol, rtol, eps, f"{path}VJP:")
        if order > 1:

            def pulled(*xs):
                outs, pull = vjp(f, *xs)
                return pull(outs)

            _check(pulled, args, order - 1, modes, atol, rtol, eps, f"{path}VJP of ")
