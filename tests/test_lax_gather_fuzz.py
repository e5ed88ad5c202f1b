"""gather and scatter with any dimension numbers against plain loops."""

import itertools

import numpy as np
from hypothesis import given, settings, strategies as st

import velax
from velax import lax


@st.composite
def problems(draw):
    """An operand, indices partly out of bounds, dimension numbers, and window sizes."""
    rank = draw(st.integers(1, 3))
    kinds = draw(st.lists(st.sampled_from(["window", "collapsed", "batch"]), min_size=rank, max_size=rank))
    n_batch = kinds.count("batch")
    positions = draw(st.lists(st.integers(1, 3), min_size=n_batch, max_size=n_batch + 2))
    indices_batching = tuple(draw(st.permutations(range(len(positions))))[:n_batch])
    batching = tuple(d for d, kind in enumerate(kinds) if kind == "batch")
    shape = [draw(st.integers(1, 4)) for _ in range(rank)]
    for d, p in zip(batching, indices_batching, strict=True):
        shape[d] = positions[p]
    sizes = tuple(draw(st.integers(1, n)) if kind == "window" else 1 for n, kind in zip(shape, kinds, strict=True))
    addressable = [d for d in range(rank) if kinds[d] != "batch"]
    index_map = tuple(draw(st.permutations(addressable))[: draw(st.integers(0, len(addressable)))])
    count = int(np.prod(positions, dtype=int)) * len(index_map)
    indices = np.array(draw(st.lists(st.integers(-2, 5), min_size=count, max_size=count)), np.int32).reshape(
        *positions, len(index_map)
    )
    n_windows = kinds.count("window")
    offsets = tuple(sorted(draw(st.permutations(range(len(positions) + n_windows)))[:n_windows]))
    collapsed = tuple(d for d, kind in enumerate(kinds) if kind == "collapsed")
    operand = (
        np.random.default_rng(draw(st.integers(0, 99)))
        .permutation(int(np.prod(shape)))
        .reshape(shape)
        .astype(np.float32)
    )
    return operand, indices, (offsets, collapsed, index_map, batching, indices_batching), sizes


def places(shape, indices, numbers, sizes, mode):
    """Pairs (index in the result, index in the operand, or None where the window is out of bounds)."""
    offsets, collapsed, index_map, batching, indices_batching = numbers
    kept = [d for d in range(len(shape)) if d not in collapsed and d not in batching]
    rank = indices.ndim - 1 + len(offsets)
    for position in np.ndindex(indices.shape[:-1]):
        start = [0] * len(shape)
        for component, d in zip(indices[position], index_map, strict=True):
            start[d] = int(component)
        inside = all(0 <= s <= n - size for s, n, size in zip(start, shape, sizes, strict=True))
        start = [min(max(s, 0), n - size) for s, n, size in zip(start, shape, sizes, strict=True)]
        for d, p in zip(batching, indices_batching, strict=True):
            start[d] = position[p]
        for window in itertools.product(*(range(sizes[d]) for d in kept)):
            source = list(start)
            for d, w in zip(kept, window, strict=True):
                source[d] += w
            in_window, in_positions = iter(window), iter(position)
            out = tuple(next(in_window) if i in offsets else next(in_positions) for i in range(rank))
            yield out, (tuple(source) if inside or mode == "clip" else None)


def result_shape(indices, numbers, sizes):
    offsets, collapsed, _, batching, _ = numbers
    window = iter(size for d, size in enumerate(sizes) if d not in collapsed and d not in batching)
    positions = iter(indices.shape[:-1])
    return tuple(next(window) if i in offsets else next(positions) for i in range(indices.ndim - 1 + len(offsets)))


@given(problems(), st.sampled_from(["clip", "fill"]))
@settings(max_examples=40, deadline=None)
def test_gather(problem, mode):
    operand, indices, numbers, sizes = problem
    expected = np.full(result_shape(indices, numbers, sizes), np.nan, np.float32)
    for out, source in places(operand.shape, indices, numbers, sizes, mode):
        if source is not None:
            expected[out] = operand[source]
    f = lambda x: lax.gather(x, indices, lax.GatherDimensionNumbers(*numbers), sizes, mode=mode)
    np.testing.assert_array_equal(f(operand), expected)

    ct = np.random.default_rng(0).normal(size=expected.shape).astype(np.float32)
    transposed = np.zeros_like(operand)
    for out, source in places(operand.shape, indices, numbers, sizes, mode):
        if source is not None:
            transposed[source] += ct[out]
    np.testing.assert_allclose(velax.vjp(f, operand)[1](ct)[0], transposed, rtol=1e-5, atol=1e-5)


@given(problems(), st.sampled_from(["clip", "drop"]), st.sampled_from(["set", "add", "mul", "min", "max"]))
@settings(max_examples=40, deadline=None)
def test_scatter(problem, mode, name):
    operand, indices, numbers, sizes = problem
    shape = result_shape(indices, numbers, sizes)
    updates = np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) + 0.5
    combine = {"set": lambda x, u: u, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[name]
    expected = operand.copy()
    for out, target in places(operand.shape, indices, numbers, sizes, mode):
        if target is not None:
            expected[target] = combine(expected[target], updates[out])
    f = {
        "set": lax.scatter,
        "add": lax.scatter_add,
        "mul": lax.scatter_mul,
        "min": lax.scatter_min,
        "max": lax.scatter_max,
    }[name]
    result = f(operand, indices, updates, lax.ScatterDimensionNumbers(*numbers), mode=mode)
    if name == "set":
        candidates = {}  # any of the updates of an element may stay
        for out, target in places(operand.shape, indices, numbers, sizes, mode):
            if target is not None:
                candidates.setdefault(target, set()).add(float(updates[out]))
        for at in np.ndindex(operand.shape):
            assert float(np.asarray(result)[at]) in candidates.get(at, {float(operand[at])})
    else:
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@given(problems(), st.tuples(st.sampled_from([None, 0, -1]), st.sampled_from([None, 0, -1])), st.booleans())
@settings(max_examples=30, deadline=None)
def test_batching(problem, dims, scatter):
    """Batched gather and scatter equal the loop over examples."""
    operand, indices, numbers, sizes = problem
    if dims == (None, None):
        return
    rng = np.random.default_rng(2)
    n = 3
    if scatter:
        updates = rng.normal(size=result_shape(indices, numbers, sizes)).astype(np.float32)
        f = lambda x, i: lax.scatter_add(x, i, updates, lax.ScatterDimensionNumbers(*numbers))
    else:
        f = lambda x, i: lax.gather(x, i, lax.GatherDimensionNumbers(*numbers), sizes, mode="fill", fill_value=-1)
    operands = [
        rng.permutation(operand.reshape(-1)).reshape(operand.shape) if dims[0] is not None else operand
        for _ in range(n)
    ]
    vectors = [
        rng.integers(-2, 6, indices.shape).astype(np.int32) if dims[1] is not None else indices for _ in range(n)
    ]
    stack = lambda xs, d: xs[0] if d is None else np.stack(xs, d)
    batched = velax.vmap(f, in_axes=dims)(stack(operands, dims[0]), stack(vectors, dims[1]))
    np.testing.assert_allclose(
        batched, np.stack([np.asarray(f(x, i)) for x, i in zip(operands, vectors, strict=True)]), rtol=1e-5, atol=1e-5
    )
