"""Random whole programs (`program_fuzz`): compiled, eager, donated, differentiated and batched, against JAX."""

import jax
import numpy as np
import pytest
from both_libraries import host
from program_fuzz import PRECISION, Program

import velax
import velax.nn
import velax.numpy

TRANSFORMS = ("jvp", "grad", "vmap", "vmap of grad", "jvp of grad", "grad of vmap")


def is_float(x):
    return x.dtype.name in PRECISION


def assert_close(ours, theirs, tolerances, what):
    """Equal types, and values within a fraction of the array's largest."""
    ours, theirs = velax.tree_util.tree_leaves(ours), jax.tree_util.tree_leaves(theirs)
    assert len(ours) == len(theirs), what
    for k, (x, y) in enumerate(zip(ours, theirs)):
        tolerance = tolerances[k] if isinstance(tolerances, list) else tolerances
        types = f"{x.dtype}{x.shape} against {y.dtype}{y.shape}"
        assert (x.shape, x.dtype) == (y.shape, y.dtype), f"{what}, result {k}: {types}"
        if y.dtype == jax.dtypes.float0:
            continue
        x, y = host(x), host(y)
        finite = np.abs(y[np.isfinite(y)]) if y.dtype.kind in "fc" else np.zeros(0)
        scale = max(1.0, finite.max(initial=0.0)) * tolerance
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=scale, equal_nan=True, err_msg=f"{what}, result {k}")


def transformed(lib, f, name, arguments):
    """``f`` under a transformation, as a function of the same arguments (batched ones have a new leading axis)."""
    jnp = lib.numpy
    floats = tuple(k for k, a in enumerate(arguments) if is_float(a))
    dtypes = [a.dtype for a in arguments]
    bind = lambda *a: f(lib, *a)
    tangent = lambda x: jnp.cos(jnp.abs(x)).astype(x.dtype) if is_float(x) else np.zeros(x.shape, jax.dtypes.float0)

    def loss(outs):
        total = 0.0
        for x in lib.tree_util.tree_leaves(outs):
            if is_float(x):
                x = x / (1 + jnp.abs(x))  # one large result must not hide the others
                total = total + jnp.sum(jnp.real(x).astype("float32"))
                total = total + jnp.sum(jnp.imag(x)) if x.dtype.kind == "c" else total
        return total

    batched = lambda g: lib.vmap(g, in_axes=tuple(0 if k % 3 != 2 else None for k in range(len(dtypes))))
    if name == "jvp":
        return lambda *a: lib.jvp(bind, a, tuple(map(tangent, a)))
    if name == "vmap":
        return batched(bind)
    gradient = lib.grad(lambda *a: loss(bind(*a)), floats)
    if name == "grad":
        return gradient
    if name == "vmap of grad":
        return batched(gradient)
    if name == "jvp of grad":
        return lambda *a: lib.jvp(gradient, a, tuple(map(tangent, a)))
    return lib.grad(lambda *a: loss(batched(bind)(*a)), floats)


def check(program, transforms):
    """The program, and some transformations of it, in every way of running it."""
    f, arguments = program.function(), program.arguments
    of = lambda lib: lambda *a: f(lib, *a)
    what = f"seed {program.seed}:\n{program.text}"
    expected = jax.jit(of(jax))(*arguments)
    assert_close(velax.jit(of(velax))(*arguments), expected, program.tolerances, f"compiled, {what}")
    assert_close(of(velax)(*map(velax.numpy.asarray, arguments)), expected, program.tolerances, f"eager, {what}")
    donated = velax.jit(of(velax), donate_argnums=tuple(range(len(arguments))))
    assert_close(donated(*map(velax.numpy.array, arguments)), expected, program.tolerances, f"donated, {what}")
    for name in transforms:
        if "grad" in name and (program.irreversible or not any(map(is_float, arguments))):
            continue
        if name in ("jvp", "jvp of grad") and "pure_callback" in program.text:
            continue
        if "vmap" in name and "new_ref" in program.text:  # JAX refuses some
            continue
        inputs = arguments
        if "vmap" in name:
            batch = lambda a: np.stack([a, a[::-1] if a.ndim else a + a, a])
            inputs = [batch(a) if k % 3 != 2 else a for k, a in enumerate(arguments)]
        theirs = jax.jit(transformed(jax, f, name, arguments))(*inputs)
        ours = velax.jit(transformed(velax, f, name, arguments))(*inputs)
        assert_close(ours, theirs, program.tolerance * 3, f"{name}, {what}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(s, marks=pytest.mark.slow) for s in range(6, 400))])
def test_random_program(seed):
    transforms = (TRANSFORMS[seed % len(TRANSFORMS)],) if seed < 6 else TRANSFORMS[seed % 2 :: 2]
    check(Program(seed), transforms)
