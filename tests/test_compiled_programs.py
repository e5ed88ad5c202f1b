"""Whole programs that were compiled wrongly once, against JAX or NumPy."""

import jax
import jax.numpy
import ml_dtypes
import numpy as np
import pytest
from lax_differential import assert_same

import velax
import velax.numpy as jnp
from velax import lax

EMPTY = np.zeros((0, 3), np.float32)


def both(f, *args, **tolerance):
    ours, theirs = (lib.jit(lambda *a, lib=lib: f(lib, *a))(*args) for lib in (velax, jax))
    assert_same(ours, theirs, **tolerance)
    return ours


@pytest.mark.parametrize("fn", ["while", "fori", "scan", "cond"])
def test_empty_arrays_in_loops_of_one_kernel(fn):
    def f(lib, x, n):
        lax, step = lib.lax, lambda x: lax.cumsum(x, 0) * 2 + lib.numpy.concatenate([x, x])[: x.shape[0]]
        if fn == "while":
            return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, step(s[1])), (0, x))
        if fn == "fori":
            return lax.fori_loop(0, 2, lambda i, s: (s[1], step(s[0])), (x, x + 1))
        if fn == "scan":
            return lax.scan(lambda c, y: (step(c), y), x, lib.numpy.arange(3))
        return lax.cond(n > 1, step, lambda x: x, x), n + 1

    both(f, EMPTY, np.int32(2))


def test_tangents_of_integers_are_results():
    zero = np.zeros(3, jax.dtypes.float0)
    value, tangent = velax.jit(lambda i: velax.jvp(lambda i: i * 2, (i,), (zero,)))(np.arange(3))
    np.testing.assert_array_equal(value, [0, 2, 4])
    assert tangent.dtype == jax.dtypes.float0 and tangent.shape == (3,)


def test_iota_of_narrow_integers_wraps():
    """The range of an iota that wraps is that of its dtype: comparisons are not decided, indexes are clamped."""
    wrapped = np.arange(300).astype(np.int8)
    x = np.arange(40, dtype=np.float32)
    iota = lambda: lax.iota(np.int8, 300)
    nonnegative, taken = velax.jit(lambda x: (iota() >= 0, x.at[iota()].get(mode="clip")))(x)
    np.testing.assert_array_equal(nonnegative, wrapped >= 0)
    # indexes below zero count from the end
    np.testing.assert_array_equal(taken, x[np.clip(np.where(wrapped < 0, wrapped.astype(int) + 40, wrapped), 0, 39)])


@pytest.mark.parametrize("fn", ["max", "min", "argmax", "argmin"])
def test_extrema_of_a_format_without_infinities(fn):
    x = np.random.default_rng(0).integers(-3, 4, (3, 21)).astype(ml_dtypes.float8_e4m3fn)
    both(lambda lib, x: [getattr(lib.numpy, fn)(x, axis) for axis in (0, 1, None)], x)
    if fn in ("max", "min"):
        both(lambda lib, x: (getattr(lib.lax, f"cum{fn}")(x, 1), getattr(lib.lax, f"reduce_{fn}")(x[:0], (0,))), x)


def test_start_beyond_the_signed_integers():
    with velax.enable_x64(True):
        got = velax.jit(lambda x, i: lax.dynamic_slice(x, (i,), (2,)))(np.arange(5.0), np.uint64(2**63 + 1))
    np.testing.assert_array_equal(got, [3, 4])


def test_donated_input_without_a_result_in_its_place():
    """A loop's carry could lie over a donated input, but only outputs may take its memory over."""
    x = np.linspace(0, 1, 40_000, dtype=np.float32)

    def f(lib, x, n):
        carry = lib.lax.fori_loop(0, n, lambda i, c: (lib.numpy.sin(c[0]) + c[1], c[1][::-1]), (x, x + 1))
        return x[::-1] + 1, lib.numpy.sum(carry[0]), n

    donated = velax.jit(lambda x, n: f(velax, x, n), donate_argnums=(0, 1))(jnp.array(x), jnp.int32(3))
    assert_same(donated, jax.jit(lambda x, n: f(jax, x, n))(x, np.int32(3)), rtol=1e-5)


UPDATES = {
    "element": lambda lib, c, i: c.at[i].set(c[i] * 2 + 1),
    "neighbour": lambda lib, c, i: c.at[i].set(c[i + 1] + c[i]),
    "window": lambda lib, c, i: lib.lax.dynamic_update_slice(c, lib.lax.dynamic_slice(c, (i,), (7,)) * 2, (i,)),
    "shifted window": lambda lib, c, i: lib.lax.dynamic_update_slice(c, lib.lax.dynamic_slice(c, (i + 2,), (7,)), (i,)),
    "mirrored": lambda lib, c, i: lib.lax.dynamic_update_slice(c, c[::-1][:9], (i,)),
    "position": lambda lib, c, i: lib.lax.dynamic_update_slice(c, c[3:6] + 5, (lib.numpy.argmin(c).astype("int32"),)),
    "many": lambda lib, c, i: c.at[lib.numpy.arange(8) * 3].add(c[:8] + i),
}


@pytest.mark.parametrize("name", UPDATES)
def test_update_computed_from_its_operand(name):
    """In place (in loops, and over a donated input), and never seeing what it has just written."""
    x = np.sin(np.arange(50, dtype=np.float32) * 7)
    update = UPDATES[name]
    loop = lambda lib, x: lib.lax.fori_loop(0, 5, lambda i, c: update(lib, c, i * 3), x)
    both(loop, x, rtol=1e-5)
    x = np.sin(np.arange(40_000, dtype=np.float32) * 7)  # no program of one kernel, which would hold it on the stack
    want = jax.jit(lambda x: update(jax, x, 4))(x)
    donating = velax.jit(lambda x, i: update(velax, x, i), donate_argnums=0)
    argument = jnp.array(x)
    where = argument.unsafe_buffer_pointer()
    result = donating(argument, np.int32(4))
    assert_same(result, want, rtol=1e-5)
    assert result.unsafe_buffer_pointer() == where, "the update copied its operand"
