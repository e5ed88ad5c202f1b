"""Contractions that leave a scan's body: the same results as step by step, and no contraction in
the steps."""

import numpy as np
import pytest

import velax as vx
import velax.numpy as jnp
from velax._compiler import control, scan_motion  # noqa: F401 - control registers what a scan becomes
from velax._compiler.build_graph import build_graph
from velax._compiler.fuse import topological_order
from velax._compiler.simplify import simplify
from velax._ir.graph_check import check_graph

STEPS, BATCH, WIDTH = 12, 3, 16


def arrays(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind in "iu":
        return [rng.integers(-9, 9, shape).astype(dtype) for shape in shapes]
    return [(rng.normal(size=shape) / 2).astype(dtype) for shape in shapes]


def loop_dots(f, *args):
    """Contractions in the bodies of the loops of ``f``, and outside of them."""
    graph = simplify(build_graph(vx.make_jaxpr(f)(*args))[0])
    check_graph(graph)
    inside = outside = 0
    for node in topological_order((*graph.outputs, *graph.effects)):
        outside += node.op == "dot"
        if node.op == "loop":
            inside += sum(x.op == "dot" for x in topological_order(node.attrs["body"].outputs))
    return inside, outside


def step_by_step(step, init, xs, reverse=False):
    """What `scan` means, as a Python loop over eager operations."""
    length = len(vx.tree.leaves(xs)[0])
    carry, ys = init, [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        carry, ys[t] = step(carry, vx.tree.map(lambda x: x[t], xs))
    return carry, vx.tree.map(lambda *y: jnp.stack(y), *ys)


def check(step, init, xs, inside, outside, reverse=False, rtol=2e-5):
    scanned = lambda init, xs: vx.lax.scan(step, init, xs, reverse=reverse)
    assert loop_dots(scanned, init, xs) == (inside, outside)
    got, want = vx.jit(scanned)(init, xs), step_by_step(step, init, xs, reverse)
    for g, w in zip(vx.tree.leaves(got), vx.tree.leaves(want), strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        np.testing.assert_allclose(np.asarray(g, np.float64), np.asarray(w, np.float64), rtol=rtol, atol=rtol * 10)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_products_of_slices_are_made_before(reverse, dtype):
    with vx.enable_x64(True):
        w, xs, h = arrays((WIDTH, 20), (STEPS, BATCH, WIDTH), (BATCH, 20), dtype=dtype)

        def step(h, x):
            h = h // 3 + x @ w if dtype == np.int32 else jnp.tanh(h + x @ w)
            return h, h * 2

        check(step, h, xs, 0, 1, reverse)


def test_products_from_the_left_and_of_functions_of_slices():
    w, xs, h = arrays((32, WIDTH), (STEPS, WIDTH, BATCH), (32, BATCH))
    check(lambda h, x: (jnp.sin(h + w @ x), x), h, xs, 0, 1)
    w, xs, h = arrays((64, 64), (STEPS, BATCH, 64), (BATCH, 64))
    check(lambda h, x: (jnp.sin(h + (x * 2 - x[:, :1]) @ w), None), h, xs, 0, 1)


def test_products_with_larger_results_than_weights_stay():
    w, xs, h = arrays((4, 5), (STEPS, 40, 4), (40, 5))
    check(lambda h, x: (jnp.tanh(h + x @ w), None), h, xs, 1, 0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_sums_of_products_are_made_behind(reverse, transposed):
    total, xs, ys, h = arrays((20, 30), (STEPS, BATCH, 20), (STEPS, BATCH, 30), (BATCH, 20))

    def step(carry, xy):
        total, h = carry
        h = jnp.cos(h + xy[0])
        added = (xy[1].T @ h).T if transposed else h.T @ xy[1]
        return (total + added, h), None

    check(step, (total, h), (xs, ys), 0, 1, reverse)


def test_sums_with_batch_axes_and_several_contracted_axes():
    total, xs, ys, h = arrays((5, 20, 30), (STEPS, 5, 2, 2, 20), (STEPS, 5, 2, 2, 30), (5, 2, 2, 20))

    def step(carry, xy):
        total, h = carry
        h = jnp.cos(h + xy[0])
        return (total + jnp.einsum("bijm,bijn->bmn", h, xy[1]), h), h

    check(step, (total, h), (xs, ys), 0, 1)


def test_sums_that_are_seen_stay():
    """A carry that a step uses, or stacks, has every partial sum as a value."""
    total, xs, ys = arrays((20, 30), (STEPS, BATCH, 20), (STEPS, BATCH, 30))
    check(lambda c, xy: (c + jnp.sin(xy[0]).T @ xy[1], c[0]), total, (xs, ys), 1, 0)

    def stacked(c, xy):
        c = c + jnp.sin(xy[0]).T @ xy[1]
        return c, c

    check(stacked, total, (xs, ys), 1, 0)
    check(lambda c, xy: (c * 0.5 + jnp.sin(xy[0]).T @ xy[1], None), total, (xs, ys), 1, 0)


def test_sums_over_long_batches_stay():
    total, xs, h = arrays((4, 5), (STEPS, 50, 5), (50, 4))

    def step(carry, x):
        total, h = carry
        h = jnp.cos(h)
        return (total + h.T @ jnp.sin(x), h), None

    check(step, (total, h), xs, 1, 0)


def test_stacked_products_are_made_behind():
    w, xs, h = arrays((WIDTH, 40), (STEPS, BATCH, WIDTH), (BATCH, WIDTH))

    def step(h, x):
        h = jnp.tanh(h + x)
        return h, (h @ w, x @ w, h)

    check(step, h, xs, 0, 2)


@pytest.mark.parametrize("elementwise", [False, True])
def test_products_of_constants_are_made_once(elementwise):
    """So are other functions of constants that a contraction reads."""
    w, v, xs, h = arrays((WIDTH, 8), (8, WIDTH), (STEPS, BATCH, WIDTH), (BATCH, WIDTH))

    def run(w, v, h, xs, scan):
        weights = lambda: jnp.exp(w) * v.T if elementwise else w @ v
        return scan(lambda h, x: (jnp.tanh((h @ weights())[:, :8].repeat(2, 1) + x), None), h, xs)[0]

    scanned = lambda *args: run(*args, vx.lax.scan)
    assert loop_dots(scanned, w, v, h, xs) == (1, 0 if elementwise else 1)
    np.testing.assert_allclose(vx.jit(scanned)(w, v, h, xs), run(w, v, h, xs, step_by_step), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_transposed_weights(batch):
    w, heads, xs, h = arrays((WIDTH, WIDTH), (2, 8, 8), (STEPS, batch, WIDTH), (batch, WIDTH))
    check(lambda h, x: (jnp.tanh(h @ w.T + x), None), h, xs, 1, 0)

    def step(h, x):
        parts = jnp.einsum("bhi,hji->bhj", h.reshape(batch, 2, 8), heads)
        return jnp.tanh(parts.reshape(batch, WIDTH) + x), None

    check(step, h, xs, 1, 0)


def test_nothing_moves_from_short_scans_or_beyond_the_memory_allowed(monkeypatch):
    w, xs, h = arrays((WIDTH, 20), (STEPS, BATCH, WIDTH), (BATCH, 20))
    step = lambda h, x: (jnp.tanh(h + x @ w), None)
    check(step, h, xs[:3], 1, 0)
    monkeypatch.setattr(scan_motion, "MOST_BYTES", STEPS * BATCH * 20 * 4 - 1)
    check(step, h, xs, 1, 0)


def test_printing_scans_keep_their_steps(capfd):
    w, xs, h = arrays((WIDTH, 20), (STEPS, BATCH, WIDTH), (BATCH, 20))

    def step(h, x):
        vx.debug.print("step")
        return jnp.tanh(h + x @ w), None

    got, _ = vx.jit(lambda h, xs: vx.lax.scan(step, h, xs))(h, xs)
    vx.effects_barrier()
    assert capfd.readouterr().out.count("step") == STEPS
    np.testing.assert_allclose(got, step_by_step(lambda h, x: (jnp.tanh(h + x @ w), None), h, xs)[0], rtol=2e-5)


def recurrent(w, xs, scan):
    """A gated cell with two products of the input and two of the state."""

    def step(state, x):
        h, c = state
        z = x @ w["x"] + h @ w["h"] + w["b"]
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = vx.nn.sigmoid(f) * c + vx.nn.sigmoid(i) * jnp.tanh(g)
        h = vx.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros(xs.shape[1:])
    return (scan(step, (zeros, zeros), xs)[1] ** 2).sum()


@pytest.mark.parametrize("vmapped", [False, True])
def test_derivatives_of_a_recurrent_cell(vmapped):
    parts = arrays((WIDTH, 4 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH,), (STEPS, BATCH, WIDTH))
    w, xs = dict(zip("xhb", parts)), parts[-1]
    both = [
        lambda w, xs, scan=scan: vx.value_and_grad(recurrent, (0, 1))(w, xs, scan)
        for scan in (vx.lax.scan, step_by_step)
    ]
    if vmapped:
        both = [vx.vmap(f, (None, 0)) for f in both]
        xs = np.stack([xs, xs[::-1]])
    else:
        # of the two loops, only the products of the state with its weights remain
        assert loop_dots(both[0], w, xs) == (2, 4)
    for got, want in zip(*(vx.tree.leaves(vx.jit(f)(w, xs)) for f in both), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_scans_in_scans():
    w, xs, h = arrays((WIDTH, 20), (STEPS, STEPS, BATCH, WIDTH), (BATCH, 20))

    def outer(h, rows):
        return vx.lax.scan(lambda h, x: (jnp.tanh(h + x @ w), h), h, rows)

    def plain(h, rows):
        return step_by_step(lambda h, x: (jnp.tanh(h + x @ w), h), h, rows)

    got = vx.jit(lambda h, xs: vx.lax.scan(outer, h, xs))(h, xs)
    for g, want in zip(vx.tree.leaves(got), vx.tree.leaves(step_by_step(plain, h, xs)), strict=True):
        np.testing.assert_allclose(g, want, rtol=2e-5, atol=1e-5)
