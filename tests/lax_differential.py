"""Comparing functions of `velax.lax` with their namesakes of JAX: values, both modes of differentiation, batching."""

import itertools

import jax
import numpy as np
from both_libraries import host

import velax
from velax._lang.check import check_jaxpr


def leaves(tree):
    return velax.tree_util.tree_leaves(tree)


def assert_same(ours, theirs, rtol=1e-5, atol=1e-5, what=""):
    ours, theirs = leaves(ours), leaves(theirs)
    assert len(ours) == len(theirs), f"{what}: {len(ours)} results against {len(theirs)}"
    for x, y in zip(ours, theirs, strict=True):
        assert x.dtype == y.dtype, f"{what}: {x.dtype} against {y.dtype}"
        assert x.shape == y.shape, f"{what}: {x.shape} against {y.shape}"
        if x.dtype == jax.dtypes.float0:
            continue
        np.testing.assert_allclose(host(x), host(y), rtol=rtol, atol=atol, err_msg=what)


def is_differentiable(x):
    return np.asarray(x).dtype.kind in "fcV"


def random_like(x, seed=0):
    """Random values of an array's type, in [-1, 1); float0 for integers."""
    x, rng = np.asarray(x), np.random.default_rng(seed)
    if not is_differentiable(x):
        return np.zeros(x.shape, jax.dtypes.float0)
    values = rng.uniform(-1, 1, x.shape)
    if x.dtype.kind == "c":
        values = values + 1j * rng.uniform(-1, 1, x.shape)
    return values.astype(x.dtype)


def compare(
    f,
    *args,
    grad=True,
    single=True,
    second=False,
    batch=True,
    jit=True,
    rtol=1e-5,
    atol=1e-5,
    axes=(None, 0, -1),
    hide_constants=False,
):
    """Compare ``f(library, *args)`` of both libraries.

    Args:
      f: the function; ``library`` is `velax` or `jax`.
      *args: NumPy arrays.
      grad: whether to compare derivatives.
      single: whether to compare derivatives with respect to one argument at a time too.
      second: whether to compare second derivatives (forward over reverse).
      batch: whether to compare `vmap` over every choice of mapped arguments and axes.
      jit: whether to compare the compiled function too, and check its jaxpr.
      rtol, atol: tolerances.
      axes: the axes to map.
      hide_constants: keep XLA from folding constants, which it does by other code than it compiles,
        with bugs of its own.
    """
    of = lambda lib: lambda *xs: f(lib, *(jax.lax.optimization_barrier(xs) if lib is jax and hide_constants else xs))
    args = [np.asarray(a) for a in args]
    checks = {"value": lambda lib: of(lib)(*args)}
    if grad:
        tangents = [random_like(a, 10 + i) for i, a in enumerate(args)]
        checks["jvp"] = lambda lib: lib.jvp(of(lib), tuple(args), tuple(tangents))
        checks["vjp"] = lambda lib: vjp(lib, of(lib), args)
        for i, a in enumerate(args):  # one argument at a time: the other tangents are symbolic zeros
            if single and len(args) > 1 and is_differentiable(a):
                one = lambda lib, i=i: lambda x: of(lib)(*args[:i], x, *args[i + 1 :])
                checks[f"jvp of argument {i}"] = lambda lib, one=one, i=i: lib.jvp(one(lib), (args[i],), (tangents[i],))
                checks[f"vjp of argument {i}"] = lambda lib, one=one, i=i: vjp(lib, one(lib), [args[i]])
        if second:
            checks["second derivative"] = lambda lib: lib.jvp(
                lambda *xs: vjp(lib, of(lib), xs), tuple(args), tuple(tangents)
            )
    for dims in itertools.product(axes, repeat=len(args)) if batch else ():
        if any(d is not None for d in dims):
            stacked = [
                a if d is None else batched_values(a, d, 3, i) for i, (a, d) in enumerate(zip(args, dims, strict=True))
            ]
            checks[f"vmap {dims}"] = lambda lib, dims=dims, stacked=stacked: lib.vmap(of(lib), in_axes=dims)(*stacked)
    # all of them in one program: compiling is most of what the comparison costs
    expected = jax.jit(lambda: {what: leaves(check(jax)) for what, check in checks.items()})()
    for what, check in checks.items():
        assert_same(check(velax), expected[what], rtol, atol, what)
    if jit:
        assert_same(velax.jit(of(velax))(*args), expected["value"], rtol, atol, "jit")
        check_jaxpr(velax.make_jaxpr(of(velax))(*args))


def vjp(lib, f, args):
    """Cotangents of the differentiable arguments for fixed random cotangents of the results."""
    out, pull = lib.vjp(f, *args)
    flat, tree = lib.tree_util.tree_flatten(out)
    shaped = [np.zeros(x.shape, x.dtype) for x in flat]
    cts = [random_like(x, 20 + i) for i, x in enumerate(shaped)]
    return [
        ct
        for a, ct in zip(args, pull(lib.tree_util.tree_unflatten(tree, cts)), strict=True)
        if is_differentiable(np.zeros((), a.dtype))
    ]


def batched_values(a, axis, size, seed):
    """``size`` different arrays like ``a``, stacked: shuffled along the leading axis, which keeps indices in range."""
    rng = np.random.default_rng(seed)
    flat = [rng.permutation(a.reshape(-1)).reshape(a.shape) for _ in range(size)]
    return np.stack(flat, axis if axis >= 0 else a.ndim)


def both_raise(f, kind, phrase):
    """``f`` raises ``kind`` with ``phrase`` in the message in both libraries."""
    for lib in (velax, jax):
        try:
            lib.make_jaxpr(lambda lib=lib: f(lib))()
        except kind as e:
            assert phrase in str(e), f"{lib.__name__}: {e}"
        else:
            raise AssertionError(f"{lib.__name__} raised nothing")
