"""Loops and conditionals: values, derivatives, batching, types and messages, against JAX."""

import jax
import numpy as np
import pytest
from lax_differential import assert_same, both_raise, compare

import velax
from velax._lang.check import check_jaxpr
from velax._transforms.evaluate import dce_jaxpr

F = np.float32
X = np.linspace(0.5, 1.5, 3, dtype=F)
M = np.linspace(-1.0, 1.0, 12, dtype=F).reshape(3, 4)
TRUE, FALSE = np.array(True), np.array(False)


# -- programs: f(library, *arrays) ---------------------------------------------------------------


def scan_product(lib, x, y):
    lax = lib.lax
    return lax.scan(lambda c, a: (lax.mul(lax.sin(c), a), lax.mul(a, c)), y, x)


def scan_closure(lib, x, y):
    lax = lib.lax
    return lax.scan(lambda c, a: (lax.mul(c, lax.sin(y)), lax.mul(a, y)), F(1), x)


def scan_reverse(lib, x, y):
    lax = lib.lax
    return lax.scan(lambda c, a: (lax.add(lax.mul(c, y), a), c), lax.mul(y, F(2)), x, reverse=True)


def scan_tree(lib, x, m):
    lax = lib.lax

    def body(c, a):
        total = lax.add(c["u"], a[0])
        return {"u": lax.tanh(lax.add(total, c["v"][0])), "v": (lax.mul(total, F(0.5)), c["v"][1])}, (total, a[1])

    start = {"u": lax.full((3,), F(0)), "v": (x, lax.mul(x, x))}
    return lax.scan(body, start, (lax.transpose(m, (1, 0)), lax.transpose(m, (1, 0))))


def scan_counter(lib, x, y):
    lax = lib.lax

    def body(c, a):
        i, s = c
        return (lax.add(i, np.int32(1)), lax.add(s, lax.mul(a, lax.convert_element_type(i, F)))), lax.mul(s, y)

    return lax.scan(body, (np.int32(0), y), x)


def scan_zero_tangent_carry(lib, x):
    lax = lib.lax
    return lax.scan(lambda c, a: ((lax.add(lax.mul(c[0], c[1]), a), c[1]), c[0]), (F(0), F(0.5)), x)


def scan_swap(lib, x, y):
    lax = lib.lax
    return lax.scan(lambda c, a: ((c[1], lax.mul(c[0], a)), c[0]), (y, lax.exp(y)), x)


def scan_of_length(lib, y):
    lax = lib.lax
    return lax.scan(lambda c, _: (lax.mul(c, lax.sin(y)), None), y, None, length=4)


def scan_unrolled(lib, x):
    lax = lib.lax
    return lax.scan(lambda c, a: (lax.mul(c, a), c), F(1), x, unroll=2)


def scan_written_out(lib, x):
    lax = lib.lax
    forward = lax.scan(lambda c, a: (lax.mul(c, a), lax.add(c, a)), F(1), x, unroll=True)
    return forward, lax.scan(lambda c, a: (lax.sub(c, a), lax.mul(c, a)), F(1), x, reverse=True, unroll=100)


def scan_nothing(lib, x):
    lax = lib.lax
    return lax.scan(lambda c, a: (lax.mul(c, a), lax.add(c, a)), F(2), lax.slice_in_dim(x, 0, 0))


def nested_scan(lib, x, m):
    lax = lib.lax

    def outer(c, row):
        inner, ys = lax.scan(lambda d, a: (lax.add(lax.mul(d, F(0.5)), lax.mul(a, lax.reduce_sum(x, (0,)))), d), c, row)
        return inner, ys

    return lax.scan(outer, F(1), m)


def mapped(lib, m, x):
    lax = lib.lax
    return lax.map(lambda row: lax.mul(row, lax.reduce_sum(lax.sin(x), (0,))), m)


def mapped_in_batches(lib, m):
    return lib.lax.map(lambda row: lib.lax.reduce_sum(lib.lax.sin(row), (0,)), m, batch_size=2)


def fori_static(lib, x, y):
    lax = lib.lax
    return lax.fori_loop(1, 5, lambda i, c: lax.add(lax.mul(c, y), lax.convert_element_type(i, F)), x)


def cond_operands(lib, p, x, y):
    lax = lib.lax
    return lax.cond(p, lambda x, y: lax.mul(x, lax.sin(y)), lambda x, y: x, x, y)


def cond_closures(lib, p, x, y):
    lax = lib.lax
    return lax.cond(p, lambda: (lax.mul(x, y), lax.exp(y)), lambda: (lax.cos(x), lax.mul(x, F(2))))


def cond_one_sided(lib, p, x):
    lax = lib.lax
    return lax.cond(
        p, lambda x: {"a": x, "b": lax.full((3,), F(2))}, lambda x: {"a": lax.full((3,), F(3)), "b": lax.log(x)}, x
    )


def cond_forwards(lib, p, x):
    lax = lib.lax
    return lax.cond(p, lambda x: (x, lax.add(x, F(1))), lambda x: (x, lax.mul(x, x)), x)


def cond_guards(lib, p, x):
    """The square root at a negative number must not spoil the derivative of the examples that do not take it."""
    lax = lib.lax
    return lax.cond(p, lambda x: lax.sqrt(x), lambda x: lax.mul(x, F(2)), x)


def switched(lib, i, x):
    lax = lib.lax
    return lax.switch(i, [lambda x: x, lambda x: lax.mul(lax.sin(x), x), lambda x: lax.exp(x)], x)


def scan_of_cond(lib, x, y):
    lax = lib.lax

    def body(c, a):
        return lax.cond(lax.gt(a, F(1)), lambda c: (lax.mul(c, a), a), lambda c: (lax.add(c, y), c), c)

    return lax.scan(body, y, x)


def cond_of_scan(lib, p, x, y):
    lax = lib.lax
    return lax.cond(p, lambda: lax.scan(lambda c, a: (lax.mul(c, a), c), y, x), lambda: (y, lax.mul(x, y)))


def while_power(lib, x, y):
    lax = lib.lax
    return lax.while_loop(
        lambda c: lax.lt(c[0], F(30)), lambda c: (lax.mul(c[0], F(2)), lax.mul(c[1], y), c[2]), (x, lax.sin(y), y)
    )


def while_with_constants(lib, x, n):
    lax = lib.lax
    return lax.while_loop(
        lambda c: lax.lt(c[0], n), lambda c: (lax.add(c[0], np.int32(1)), lax.mul(c[1], x)), (np.int32(0), lax.exp(x))
    )


def while_swap(lib, x, y):
    lax = lib.lax
    return lax.while_loop(
        lambda c: lax.lt(c[0], np.int32(3)),
        lambda c: (lax.add(c[0], np.int32(1)), c[2], lax.mul(c[1], y)),
        (np.int32(0), x, y),
    )


def while_no_steps(lib, x):
    lax = lib.lax
    return lax.while_loop(lambda c: lax.lt(c, F(-10)), lambda c: lax.mul(c, F(2)), x)


def fori_dynamic(lib, n, x):
    lax = lib.lax
    return lax.fori_loop(np.int32(0), n, lambda i, c: lax.add(lax.mul(c, x), lax.convert_element_type(i, F)), x)


def while_of_scan_of_cond(lib, x, y):
    lax = lib.lax

    def step(c, a):
        return lax.cond(lax.gt(c, a), lambda c: lax.mul(c, F(0.5)), lambda c: lax.add(c, a), c), c

    def body(state):
        i, c = state
        return lax.add(i, np.int32(1)), lax.scan(step, c, x)[0]

    return lax.while_loop(lambda s: lax.lt(s[0], np.int32(3)), body, (np.int32(0), y))


REVERSIBLE = {
    "scan": (scan_product, (X, F(0.7))),
    "scan closure": (scan_closure, (X, F(0.7))),
    "scan reverse": (scan_reverse, (X, F(0.7))),
    "scan tree": (scan_tree, (X, M)),
    "scan counter": (scan_counter, (X, F(0.7))),
    "scan zero tangent carry": (scan_zero_tangent_carry, (X,)),
    "scan swap": (scan_swap, (X, F(0.7))),
    "scan length": (scan_of_length, (F(0.7),)),
    "scan unrolled": (scan_unrolled, (X,)),
    "scan written out": (scan_written_out, (X,)),
    "scan nothing": (scan_nothing, (X,)),
    "scan nested": (nested_scan, (X, M)),
    "map": (mapped, (M, X)),
    "map in batches": (mapped_in_batches, (M,)),
    "fori": (fori_static, (X, F(0.7))),
    "cond true": (cond_operands, (TRUE, X, X)),
    "cond false": (cond_operands, (FALSE, X, X)),
    "cond closures": (cond_closures, (TRUE, X, X)),
    "cond one-sided": (cond_one_sided, (FALSE, X)),
    "cond forwards": (cond_forwards, (TRUE, X)),
    "cond guards": (cond_guards, (FALSE, -X)),
    "switch": (switched, (np.int32(1), X)),
    "switch beyond": (switched, (np.int32(9), X)),
    "scan of cond": (scan_of_cond, (X, F(0.7))),
    "cond of scan": (cond_of_scan, (TRUE, X, F(0.7))),
}
FORWARD = {
    "while": (while_power, (F(0.9), F(0.7))),
    "while constants": (while_with_constants, (X, np.int32(4))),
    "while swap": (while_swap, (F(0.9), F(0.7))),
    "while no steps": (while_no_steps, (F(0.9),)),
    "fori dynamic": (fori_dynamic, (np.int32(4), X)),
    "while of scan of cond": (while_of_scan_of_cond, (X, F(0.7))),
}


@pytest.mark.parametrize("name", REVERSIBLE)
def test_reversible(name):
    f, args = REVERSIBLE[name]
    compare(
        f, *args, axes=(None, 0), second=name in ("scan", "scan closure", "cond closures", "scan of cond"), rtol=2e-5
    )


@pytest.mark.parametrize("name", FORWARD)
def test_forward(name):
    f, args = FORWARD[name]
    compare(f, *args, grad=False, axes=(None, 0))
    tangents = [a if np.asarray(a).dtype.kind == "f" else np.zeros((), jax.dtypes.float0) for a in args]
    derived = lambda lib: lambda *a: lib.jvp(lambda *b: f(lib, *b), a, tuple(tangents))
    assert_same(derived(velax)(*args), derived(jax)(*args), what="jvp")
    floating = lambda lib: (
        lambda *a: [t for t in lib.tree_util.tree_leaves(derived(lib)(*a)) if t.dtype != jax.dtypes.float0]
    )
    assert_same(velax.jit(floating(velax))(*args), floating(jax)(*args), what="jit of jvp")


@pytest.mark.parametrize("name", [*REVERSIBLE, *FORWARD])
def test_derived_jaxprs_are_well_typed(name):
    f, args = {**REVERSIBLE, **FORWARD}[name]
    of = lambda *a: f(velax, *a)
    check_jaxpr(velax.make_jaxpr(of)(*args))
    check_jaxpr(velax.make_jaxpr(lambda *a: velax.jvp(of, a, tuple(map(_tangent, a))))(*args))
    stacked = [np.stack([a, a]) for a in args]
    check_jaxpr(velax.make_jaxpr(velax.vmap(of))(*stacked))
    check_jaxpr(
        velax.make_jaxpr(velax.vmap(velax.vmap(of), in_axes=(0,) + (None,) * (len(args) - 1)))(
            np.stack([stacked[0]] * 2), *stacked[1:]
        )
    )
    if name in REVERSIBLE:
        check_jaxpr(velax.make_jaxpr(lambda *a: velax.linearize(of, *a)[1](*map(_tangent, a)))(*args))


def _tangent(x):
    x = np.asarray(x) if not isinstance(x, velax.core.Tracer) else x
    return x if x.dtype.kind == "f" else np.zeros(x.shape, jax.dtypes.float0)


# -- jaxprs as JAX prints them -------------------------------------------------------------------

PRINTED = {
    "scan": (scan_product, (X, F(0.7))),
    "scan closure": (scan_closure, (X, F(0.7))),
    "scan counter": (scan_counter, (X, F(0.7))),
    "scan reverse": (scan_reverse, (X, F(0.7))),
    "scan swap": (scan_swap, (X, F(0.7))),
    "scan unrolled": (scan_unrolled, (X,)),
    "scan written out": (scan_written_out, (X,)),
    "map": (mapped, (M, X)),
    "fori": (fori_static, (X, F(0.7))),
    "fori dynamic": (fori_dynamic, (np.int32(4), X)),
    "cond": (cond_operands, (TRUE, X, X)),
    "cond closures": (cond_closures, (TRUE, X, X)),
    "cond forwards": (cond_forwards, (TRUE, X)),
    "cond one-sided": (cond_one_sided, (TRUE, X)),
    "switch": (switched, (np.int32(1), X)),
    "while": (while_power, (F(0.9), F(0.7))),
    "while constants": (while_with_constants, (X, np.int32(4))),
    "while swap": (while_swap, (F(0.9), F(0.7))),
}


@pytest.mark.parametrize("name", PRINTED)
def test_jaxpr_text(name):
    f, args = PRINTED[name]
    ours, theirs = (str(lib.make_jaxpr(lambda *a, lib=lib: f(lib, *a))(*args)) for lib in (velax, jax))
    assert ours == theirs


@pytest.mark.parametrize("name", ["scan", "scan closure", "fori", "while", "while swap", "cond", "switch"])
def test_derived_jaxpr_text(name):
    f, args = PRINTED[name]

    def derived(lib):
        return str(lib.make_jaxpr(lambda *a: lib.jvp(lambda *b: f(lib, *b), a, tuple(map(_any_tangent, a))))(*args))

    assert derived(velax) == derived(jax)


def _any_tangent(x):
    return x if x.dtype.kind == "f" else np.zeros(x.shape, jax.dtypes.float0)


def test_gradient_computes_what_does_not_change_once():
    """A value of the body that depends on constants alone is neither recomputed nor stored at each step."""
    f = lambda lib: lib.make_jaxpr(lib.grad(lambda x, y: scan_closure(lib, x, y)[0], argnums=1))(X, F(0.7))
    assert str(f(velax)) == str(f(jax))


# -- types ---------------------------------------------------------------------------------------


def test_weak_start_values_take_the_type_of_the_carry():
    for lib in (velax, jax):
        lax = lib.lax
        out = lax.scan(lambda c, a: (a, a), 1, X)[0]
        assert out.dtype == F and not out.weak_type
        out = lax.while_loop(
            lambda c: lax.lt(c, lax.full((), 3, c.dtype)),
            lambda c: lax.convert_element_type(lax.add(c, lax.full((), 1, c.dtype)), np.int8),
            1,
        )
        assert out.dtype == np.int8 and int(out) == 3
        out = lax.fori_loop(0, 3, lambda i, c: i, 0)
        assert out.dtype == np.int32 and out.weak_type and int(out) == 2
        out = lib.jit(lambda n: lax.fori_loop(n, 10, lambda i, c: lax.add(c, 1), 0))(np.int8(7))
        assert int(out) == 3


def test_counter_types():
    seen = []

    def body(i, c):
        seen.append(i.dtype)
        return c

    velax.jit(lambda n: velax.lax.fori_loop(n, np.uint8(5), body, 0.0))(np.uint8(2))
    velax.lax.fori_loop(np.int8(0), np.int8(5), body, 0.0)
    assert seen == [np.uint8, np.int32]


def test_concrete_bounds_are_static():
    upper = velax.lax.add(np.int32(2), np.int32(3))
    assert (
        float(velax.grad(lambda x: velax.lax.fori_loop(0, upper, lambda i, c: velax.lax.mul(c, x), 1.0))(2.0))
        == 5 * 2.0**4
    )


def test_trip_count_zero():
    assert float(velax.lax.fori_loop(4, 2, lambda i, c: velax.lax.mul(c, 2.0), 3.0)) == 3.0
    assert float(velax.jit(lambda n: velax.lax.fori_loop(4, n, lambda i, c: velax.lax.mul(c, 2.0), 3.0))(2)) == 3.0
    carry, ys = velax.lax.scan(lambda c, a: (c, a), 3.0, np.zeros((0, 2), F))
    assert float(carry) == 3.0 and ys.shape == (0, 2)


def test_switch_clamps_every_integer_type():
    for dtype in (np.int8, np.uint8, np.int32, np.uint32):
        info = np.iinfo(dtype)
        for i, expected in ((0, 0.0), (1, 1.0), (info.max, 2.0), (info.min, 0.0)):
            out = velax.jit(lambda i: velax.lax.switch(i, [lambda: 0.0, lambda: 1.0, lambda: 2.0]))(dtype(i))
            assert float(out) == expected


def test_branches_of_a_large_switch():
    branches = [lambda x, k=k: velax.lax.mul(x, F(k)) for k in range(20)]
    out = velax.vmap(lambda i: velax.lax.switch(i, branches, F(2)))(np.arange(25, dtype=np.int32))
    np.testing.assert_array_equal(out, 2 * np.minimum(np.arange(25), 19))


def test_legacy_forms_of_cond():
    lax = velax.lax
    assert float(lax.cond(True, lambda x: x, lambda x: lax.neg(x), operand=2.0)) == 2.0
    assert float(lax.cond(False, lambda _: 1.0, lambda _: 2.0, None)) == 2.0
    assert float(lax.cond(False, lambda _: 1.0, lambda _: 2.0, operand=None)) == 2.0
    assert float(lax.cond(False, 3.0, lambda x: x, 4.0, lambda x: lax.neg(x))) == -4.0
    assert float(lax.switch(1, [lambda x: x, lambda x: lax.neg(x)], operand=2.0)) == -2.0


def test_platform_dependent():
    assert float(velax.lax.platform_dependent(2.0, cpu=lambda x: velax.lax.neg(x), default=lambda x: x)) == -2.0
    assert float(velax.lax.platform_dependent(2.0, tpu=lambda x: velax.lax.neg(x), default=lambda x: x)) == 2.0
    with pytest.raises(NotImplementedError, match="platform cpu"):
        velax.lax.platform_dependent(2.0, tpu=lambda x: x)


def test_batched_predicates_stop_finished_examples():
    lax = velax.lax
    f = lambda x: lax.while_loop(
        lambda c: lax.lt(c[0], F(100)), lambda c: (lax.mul(c[0], F(2)), lax.add(c[1], np.int32(1))), (x, np.int32(0))
    )
    x = np.array([1.0, 60.0, 200.0], F)
    out, steps = velax.vmap(f)(x)
    np.testing.assert_array_equal(out, [128, 120, 200])
    np.testing.assert_array_equal(steps, [7, 1, 0])
    out, steps = velax.vmap(velax.vmap(f))(np.stack([x, x[::-1]]))
    np.testing.assert_array_equal(steps, [[7, 1, 0], [0, 1, 7]])


def test_outer_batch_over_inner_predicates():
    """The inner predicate is mapped by the inner vmap alone, the carry by both."""
    f = lambda lib: (
        lambda n, y: lib.lax.while_loop(
            lambda c: lib.lax.lt(c[0], n), lambda c: (lib.lax.add(c[0], F(1)), lib.lax.mul(c[1], y)), (F(0), F(1))
        )
    )
    n, y = np.array([1, 2, 3, 4], F), np.array([2, 3], F)
    ours, theirs = (lib.vmap(lib.vmap(f(lib), (0, None)), (None, 0))(n, y) for lib in (velax, jax))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_captured_arrays_and_tracers():
    weights = velax.lax.iota(F, 3)

    def f(x):
        return velax.lax.scan(
            lambda c, a: (velax.lax.add(c, velax.lax.mul(velax.lax.mul(weights, x), a)), None), weights, X
        )[0]

    np.testing.assert_allclose(velax.jit(f)(F(2)), np.arange(3) + np.arange(3) * 2 * X.sum(), rtol=1e-6)
    gradient = velax.grad(lambda x: velax.lax.reduce_sum(f(x), (0,)))(F(2))
    np.testing.assert_allclose(gradient, 3 * X.sum(), rtol=1e-6)


def test_functions_are_traced_once():
    calls = []

    def body(c, a):
        calls.append(1)
        return velax.lax.add(c, a), c

    f = velax.jit(lambda x: (velax.lax.scan(body, F(0), x), velax.lax.scan(body, F(1), x)))
    f(X)
    assert len(calls) == 1


def test_unused_results_cost_nothing():
    f = lambda x: velax.lax.scan(lambda c, a: ((velax.lax.mul(c[0], a), velax.lax.exp(c[1])), c[1]), (F(1), F(1)), x)[
        0
    ][0]
    jaxpr = velax.make_jaxpr(f)(X)
    smaller, _ = dce_jaxpr(jaxpr.jaxpr, [True])
    (eqn,) = smaller.eqns
    assert eqn.params["num_carry"] == 1 and "exp" not in str(eqn.params["jaxpr"])
    check_jaxpr(smaller)

    def loop(x):
        lax = velax.lax
        return lax.while_loop(
            lambda c: lax.lt(c[0], 3), lambda c: (lax.add(c[0], 1), lax.mul(c[1], x), lax.exp(c[2])), (0, x, x)
        )[1]

    smaller, _ = dce_jaxpr(velax.make_jaxpr(loop)(F(1)).jaxpr, [True])
    assert "exp" not in str(smaller)
    check_jaxpr(smaller)
    both = lambda p, x: velax.lax.cond(p, lambda: (x, velax.lax.exp(x)), lambda: (velax.lax.neg(x), x))[0]
    smaller, _ = dce_jaxpr(velax.make_jaxpr(both)(True, F(1)).jaxpr, [True])
    assert "exp" not in str(smaller)
    check_jaxpr(smaller)


def test_in_python_with_jit_disabled():
    lax = velax.lax
    with velax.disable_jit():
        assert lax.fori_loop(0, 3, lambda i, c: c + i, 0) == 3
        assert lax.while_loop(lambda c: c < 10, lambda c: c * 2, 3) == 12
        assert lax.cond(True, lambda c: c + 1, lambda c: 1 / 0, 1) == 2
        assert lax.switch(7, [lambda: 1 / 0, lambda: 5]) == 5
        carry, ys = lax.scan(lambda c, a: (lax.add(c, a), c), F(0), X, reverse=True)
    np.testing.assert_allclose(carry, X.sum(), rtol=1e-6)
    np.testing.assert_allclose(ys, [X[1] + X[2], X[2], 0], rtol=1e-6)


# -- messages ------------------------------------------------------------------------------------

BODIES = {
    "scan dtype": (lambda lib: lib.lax.scan(lambda c, a: (lib.lax.convert_element_type(c, np.int32), a), F(1), X), "so the dtypes do not match"),
    "scan path": (lambda lib: lib.lax.scan(lambda c, a: ({"u": X}, a), {"u": F(1)}, X), "The input carry component c['u'] has type float32[]"),
    "scan two": (
        lambda lib: lib.lax.scan(lambda s, a: ((X, lib.lax.convert_element_type(s[1], np.int32)), a), (F(1), F(2)), X),
        "  * the input carry component s[0] has type float32[] but the corresponding output carry component has "
        "type float32[3], "
        "so the shapes do not match;\n  * the input",
    ),
    "scan structure": (lambda lib: lib.lax.scan(lambda c, a: ((c, c), a), F(1), X), "so their Python types differ"),
    "scan pair": (lambda lib: lib.lax.scan(lambda c, a: c, F(1), X), "scan body output must be a pair, got float32[]."),
    "scan sizes": (lambda lib: lib.lax.scan(lambda c, a: (c, a), 1.0, (X, np.ones(4, F))), "scan got values with different leading axis sizes: 3, 4."),
    "scan length": (lambda lib: lib.lax.scan(lambda c, a: (c, a), 1.0, X, length=4), "scan got `length` argument of 4 which disagrees with"),
    "scan no length": (lambda lib: lib.lax.scan(lambda c, a: (c, a), 1.0), "scan got no values to scan over and `length` not provided."),
    "scan callable": (lambda lib: lib.lax.scan(3, 1.0, X), "lax.scan: f argument should be a callable."),
    "scan value": (lambda lib: lib.lax.scan(lambda c, a: (c, "b"), 1.0, X), "at output component [1], which is not a valid JAX type"),
    "while pred": (lambda lib: lib.lax.while_loop(lambda c: c, lambda c: c, F(1)), "cond_fun must return a boolean scalar, but got output type(s) [ShapedArray(float32[])]."),
    "while pred tree": (lambda lib: lib.lax.while_loop(lambda c: (c, c), lambda c: c, F(1)), "cond_fun must return a boolean scalar, but got pytree PyTreeDef((*, *))."),
    "while dtype": (
        lambda lib: lib.lax.while_loop(lambda c: True, lambda c: lib.lax.convert_element_type(c, np.int32), F(1)),
        "while_loop body function carry input and carry output must have equal types, but they differ:\n\nThe "
        "input carry c has type float32[]",
    ),
    "fori dtype": (
        lambda lib: lib.lax.fori_loop(0, 3, lambda i, c: lib.lax.convert_element_type(c, np.int32), F(1)),
        "The input carry component loop_carry[1] has type float32[]",
    ),
    "fori bounds": (lambda lib: lib.lax.fori_loop(np.int8(0), np.int16(3), lambda i, c: c, 0), "must have equal types, got int8 and int16"),
    "cond pred": (lambda lib: lib.lax.cond(X, lambda: 1, lambda: 2), "Pred must be a scalar, got"),
    "cond pred type": (lambda lib: lib.lax.cond("a", lambda: 1, lambda: 2), "Pred must be a scalar, got a of type <class 'str'>"),
    "cond complex": (lambda lib: lib.lax.cond(1j, lambda: 1, lambda: 2), "Pred type must be either boolean or number, got complex64."),
    "cond callable": (lambda lib: lib.lax.cond(True, 3, 4, X), "lax.cond: true_fun and false_fun arguments should be callable."),
    "cond dtype": (lambda lib: lib.lax.cond(True, lambda: 1.0, lambda: 2), "The output of true_fun has type float32[] but the corresponding output of false_fun has type int32[]"),
    "cond structure": (lambda lib: lib.lax.cond(True, lambda: 1.0, lambda: (2.0,)), "true_fun output is a pytree leaf but false_fun output is a <class 'tuple'>"),
    "cond operand": (lambda lib: lib.lax.cond(True, lambda x: x, lambda x: x, "a"), "Argument 'a' of type <class 'str'> is not a valid JAX type"),
    "switch index": (lambda lib: lib.lax.switch(1.5, [lambda: 1, lambda: 2]), "Index type must be an integer, got 1.5 as float32"),
    "switch dtype": (lambda lib: lib.lax.switch(1, [lambda: 1, lambda: 2, lambda: 3.0]), "Revise branch 0 and/or branch2 so that all output types match."),
}  # fmt: skip
VALUE_ERRORS = {"scan sizes", "scan length", "scan no length"}


@pytest.mark.parametrize("name", BODIES)
def test_messages(name):
    f, phrase = BODIES[name]
    both_raise(f, ValueError if name in VALUE_ERRORS else TypeError, phrase)


def rules_with_arrays(lib):
    """Functions whose rules capture arrays."""
    table = lib.numpy.arange(1, 4, dtype=F)
    forward, backward = lib.custom_jvp(lambda x: x * 2), lib.custom_vjp(lambda x: x * 2)
    forward.defjvp(lambda primals, tangents: (forward(*primals), tangents[0] * table))
    backward.defvjp(lambda x: (backward(x), table), lambda table, ct: (ct * table,))
    batched = lib.custom_batching.custom_vmap(lambda x: forward(x) * 2)
    batched.def_vmap(lambda size, flags, x: (forward(x) * table, True))
    solved = lambda x: lib.lax.custom_linear_solve(lambda v: v * 2, x, lambda _, b: batched(b), lambda _, b: b / 2)
    return forward, backward, batched, solved


IN_BODIES = {
    "scan": lambda lib, f, x: lib.lax.scan(lambda c, a: (f(c) * a, f(c)), x, X)[0],
    "nested scan": lambda lib, f, x: lib.lax.fori_loop(0, 2, lambda _, c: lib.lax.fori_loop(0, 2, lambda _, c: f(c), c), x),
    "while": lambda lib, f, x: lib.lax.while_loop(lambda c: f(c)[0] < 40, lambda c: f(c) + 1, x),
    "cond": lambda lib, f, x: lib.lax.cond(x[0] > 0, f, lambda x: f(x) + 1, x),
    "one branch": lambda lib, f, x: lib.lax.cond(x[0] < 0, f, lambda x: x * 3, x),
    "checkpoint": lambda lib, f, x: lib.checkpoint(f)(x),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_BODIES)
def test_rules_that_capture_arrays(name):
    """The arrays become operands of the loop or conditional in which the rule is traced."""

    def results(lib):
        forward, backward, batched, solved = (lambda x, f=f: IN_BODIES[name](lib, f, x) for f in rules_with_arrays(lib))
        stacked = np.stack([X, X * 2])
        yield lib.jvp(forward, (X,), (X,))
        yield lib.vmap(batched)(stacked)
        yield lib.vmap(solved)(stacked)
        yield lib.jvp(batched, (X,), (X,))
        if name != "while":
            yield lib.grad(lambda x: forward(x).sum())(X)
            yield lib.jit(lib.vmap(lib.grad(lambda x: backward(x).sum())))(stacked)

    assert_same(list(results(velax)), list(results(jax)))


def test_more_messages():
    both_raise(lambda lib: lib.lax.switch(1, []), ValueError, "Empty branch sequence")
    both_raise(
        lambda lib: lib.grad(
            lambda x: lib.lax.while_loop(lambda c: lib.lax.lt(c, F(3)), lambda c: lib.lax.mul(c, F(2)), x)
        )(F(1)),
        ValueError,
        "Reverse-mode differentiation does not work for lax.while_loop or lax.fori_loop with dynamic start/stop "
        "values.",
    )
    with pytest.raises(
        ValueError, match="Can only use `unroll` in `fori_loop` if the loop bounds are statically known"
    ):
        velax.jit(lambda n: velax.lax.fori_loop(0, n, lambda i, c: c, 0, unroll=2))(3)
    with (
        velax.disable_jit(),
        pytest.raises(ValueError, match=r"zero-length scan is not supported in disable_jit\(\) mode"),
    ):
        velax.lax.scan(lambda c, a: (c, a), 1, length=0)
