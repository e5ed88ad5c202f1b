"""int4 and uint4 in programs: every kind of operation against JAX, on all values and beyond the range; what is stored;
what is refused.
"""

from __future__ import annotations

import functools

import jax
import ml_dtypes
import numpy as np
import pytest

import velax
import velax.numpy as jnp
from velax._compiler.build_graph import build_graph
from velax._ir.graph_check import check_graph

DTYPES = [np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)]
FLOATS = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
NUMBERS = [0.5, -0.5, 1.9, -1.9, 7.9, 8, 9, 100, -8, -8.9, -9, -100, 300, -300, np.inf, -np.inf, np.nan]
I = lambda *xs: np.array(xs, np.int32)

# name -> function of jax, an array of all 16 values, and the same in another order
PROGRAMS = {
    # conversions
    **{
        f"to {d}": lambda j, x, y, d=d: x.astype(d)
        for d in [*FLOATS, "bool", "int8", "uint8", "int32", "uint16", "complex64", "int4", "uint4"]
    },
    **{
        f"from {d}": lambda j, x, y, d=d: j.numpy.asarray(np.float32(NUMBERS)).astype(d).astype(x.dtype) for d in FLOATS
    },
    **{
        f"from {d}": lambda j, x, y, d=d: j.numpy.arange(-40, 40, 3).astype(d).astype(x.dtype)
        for d in ["bool", "int8", "uint8", "int32", "uint16"]
    },
    "bits": lambda j, x, y: [
        j.lax.bitcast_convert_type(a, d)
        for a, d in ((x, "int4"), (x, "uint4"), (x.reshape(8, 2), "int8"), (x.reshape(4, 4), "uint16"))
    ],
    "of bits": lambda j, x, y: [
        j.lax.bitcast_convert_type(a, x.dtype)
        for a in (x.astype("int8") * 37, x.astype("int32") * 0x1234567, x.astype("float32") * 0.3)
    ],
    # shapes and positions
    "moves": lambda j, x, y: [
        j.numpy.flip(x),
        x.reshape(2, 8).T,
        j.numpy.pad(x, 1, constant_values=-1),
        j.numpy.concatenate([x, y]),
        j.numpy.roll(x, 3),
        j.numpy.repeat(x, 2),
        j.numpy.broadcast_to(x, (2, 16)),
        j.numpy.split(x, 2),
        x[3:14:2],
        x[::-1],
    ],
    "choices": lambda j, x, y: [
        j.numpy.where(x > y, x, y),
        j.lax.clamp(y[0], x, y[7]),
        j.numpy.clip(x, 1, 5),
        j.lax.select_n(x > 3, x, y),
    ],
    "gathers": lambda j, x, y: [
        x[I(3, -1, 40)],
        x.at[I(3, 40)].get(mode="fill"),
        x.at[I(40)].get(mode="fill", fill_value=5),
        j.lax.dynamic_slice(x, (9,), (4,)),
    ],
    "scatters": lambda j, x, y: [
        getattr(x.at[I(1, 1, 9, 40)], fn)(y[:4]) for fn in ("set", "add", "multiply", "min", "max")
    ],
    "update": lambda j, x, y: j.lax.dynamic_update_slice(x, y[:4], (7,)),
    # reductions
    "sums": lambda j, x, y: [
        j.lax.reduce_sum(y[:11], (0,)),
        j.lax.reduce_prod(y[:3], (0,)),
        j.lax.cumsum(y),
        j.lax.cumprod(y[:3]),
        j.lax.cumsum(y, reverse=True),
    ],
    "extrema": lambda j, x, y: [
        j.lax.reduce_max(y[:5], (0,)),
        j.lax.reduce_min(y[:5], (0,)),
        j.lax.cummax(y),
        j.lax.cummin(y),
    ],
    "extrema of nothing": lambda j, x, y: [j.lax.reduce_max(y[:0], (0,)), j.lax.reduce_min(y[:0], (0,))],
    "positions": lambda j, x, y: [j.numpy.argmax(y), j.numpy.argmin(y), j.lax.argmax(y, 0, np.dtype(np.int32))],
    "reduce": lambda j, x, y: j.lax.reduce(y, x[3], lambda a, b: a + b, (0,)),
    "sorts": lambda j, x, y: [
        j.numpy.sort(y),
        j.numpy.argsort(y),
        j.numpy.sort(y, descending=True),
        j.lax.sort((y.reshape(2, 8), x.reshape(2, 8)), num_keys=1),
    ],
    "iota": lambda j, x, y: j.lax.iota(x.dtype, 20),
    "full": lambda j, x, y: j.numpy.full((3,), 9, x.dtype),
    # Python numbers, functions of velax.numpy
    "scalars": lambda j, x, y: [x + 1, x - 3, 2 * x, x // 3, x % 3, x**2, x / 2, -x, ~x, x & 6, x | 1, x ^ 5, x << 1],
    "mean": lambda j, x, y: [j.numpy.median(x), j.numpy.mean(x), j.numpy.any(x), j.numpy.all(x)],
    # control flow, batching
    "scan": lambda j, x, y: j.lax.scan(lambda c, v: (c + v, c * v), x[1], y),
    "while": lambda j, x, y: j.lax.while_loop(lambda c: c < 5, lambda c: c + x[1], x[0]),
    "fori": lambda j, x, y: j.lax.fori_loop(0, 5, lambda i, c: c + y, x),
    "cond": lambda j, x, y: [j.lax.cond(p, lambda a: a + a, lambda a: a, x) for p in (True, False)],
    "vmap": lambda j, x, y: [j.vmap(lambda a, b: a * b - b)(x, y), j.vmap(j.numpy.cumsum)(y.reshape(4, 4))],
    "jvp": lambda j, x, y: j.grad(lambda w: (w * x.astype("float32")).sum())(2.0),
    "dot": lambda j, x, y: [
        j.lax.dot(x.reshape(4, 4), y.reshape(4, 4).astype("int8"), preferred_element_type=np.dtype(np.int32)),
        j.lax.dot(x.reshape(4, 4), y.reshape(4, 4).astype("bfloat16")),
    ],
}


def values(dtype, order=1):
    """All 16 values; as ml_dtypes stores them, upper bits clear."""
    return (np.arange(16) * order % 16).astype(np.uint8).view(dtype)


@functools.cache
def expected(dtype):
    """All programs by JAX, compiled at once."""
    run = jax.jit(lambda x, y: {name: f(jax, x, y) for name, f in PROGRAMS.items()})
    return run(values(dtype), values(dtype, 5))


def agree(got, want):
    for a, b in zip(velax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes() or np.array_equal(a.astype(complex), b.astype(complex), equal_nan=True), (
            a,
            b,
        )


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    for dtype in DTYPES:
        f = functools.partial(PROGRAMS[name], velax)
        x, y = values(dtype), values(dtype, 5)
        want = expected(dtype)[name]
        agree(f(jnp.asarray(x), jnp.asarray(y)), want)
        agree(velax.jit(f)(x, y), want)
        graph, _ = build_graph(velax.make_jaxpr(f)(x, y))
        check_graph(graph)


BINARY = ["add", "sub", "mul", "div", "rem", "max", "min", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left",
          "shift_right_logical", "shift_right_arithmetic", "eq", "ne", "lt", "le", "gt", "ge"]  # fmt: skip
UNARY = ["neg", "sign", "bitwise_not", "clz", "square"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_functions_of_all_values(dtype):
    x = np.repeat(values(dtype), 16)
    y = np.tile(values(dtype), 16)
    run = lambda lax, x, y: [
        *(getattr(lax, f)(x, y) for f in BINARY),
        *(getattr(lax, f)(x) for f in UNARY),
        lax.integer_pow(x, 3),
    ]
    want = jax.jit(functools.partial(run, jax.lax))(x, y)
    agree(velax.jit(functools.partial(run, velax.lax))(x, y), want)
    agree(run(velax.lax, jnp.asarray(x), jnp.asarray(y)), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_the_oracle_gets_wrong_or_refuses(dtype):
    """The bits counted are its own; an unsigned one shifts in zeros; products are summed without loss."""
    x, y = jnp.asarray(values(dtype)), jnp.asarray(values(dtype, 5))
    wide_x, wide_y = np.asarray(x).astype(int), np.asarray(y).astype(int)
    assert velax.lax.population_count(x).tolist() == [
        v if v < 8 or dtype == "uint4" else v - 16 for v in map(int.bit_count, range(16))
    ]
    assert (x >> 1).tolist() == [v >> 1 for v in wide_x.tolist()]
    assert int(velax.lax.dot(x, y, preferred_element_type=np.int32)) == int(wide_x @ wide_y)
    assert float(velax.lax.dot(x, y, preferred_element_type=np.float32)) == float(wide_x @ wide_y)
    assert int(velax.lax.dot(x, y)) == int((wide_x @ wide_y).astype(np.int8).astype(dtype))
    assert int(jnp.sum(x)) == wide_x.sum() and jnp.sum(x).dtype == {"int4": np.int32, "uint4": np.uint32}[dtype.name]
    if dtype == "int4":
        assert velax.lax.abs(x).tolist() == [*range(8), -8, *range(7, 0, -1)]
        assert jnp.arange(20)[x].tolist() == [*range(8), *range(12, 20)]  # negative positions count from the end
        assert velax.lax.dynamic_slice(jnp.arange(20), (x[-3],), (2,)).tolist() == [17, 18]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_upper_bits_mean_nothing(dtype):
    """Bytes that NumPy reads as these elements may have any upper bits; results have none."""
    raw = np.array([0x1F, 0xF2, 0xA8, 0x08], np.uint8).view(dtype)
    plain = raw.astype(np.int32).astype(dtype)
    f = lambda x: (x + x, x > 1, x.astype("int32"), jnp.sort(x), jnp.max(x), velax.lax.clz(x), x // 2, jnp.argmax(x))
    agree(velax.jit(f)(raw), f(jnp.asarray(plain)))
    assert np.all(np.asarray(-jnp.asarray(plain)).view(np.uint8) < 16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_creation_and_the_host(dtype):
    for make in (
        lambda j: j.array(20, dtype),
        lambda j: j.array([[20, -9], [1, 2]], dtype),
        lambda j: j.array([1.5, 2.5], dtype),
        lambda j: j.arange(5, dtype=dtype),
        lambda j: j.asarray(np.array([20, -9]), dtype),
        lambda j: j.eye(2, dtype=dtype),
        lambda j: j.linspace(0, 5, 6, dtype=dtype),
    ):
        agree(make(jnp), make(jax.numpy))
    x = jnp.asarray(values(dtype))
    assert repr(x) == repr(jax.numpy.asarray(values(dtype))) and x.tolist() == values(dtype).astype(int).tolist()
    seen = []

    def host(a):
        seen.append(a.dtype)
        return np.asarray(a)

    agree(velax.jit(lambda x: velax.pure_callback(host, x, x + 1))(x), x + 1)
    assert seen == [dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_is_moved_not_computed(dtype):
    """No arithmetic on a stack of weights that a loop reads, none on a cache that is updated."""
    x = values(dtype).reshape(4, 4)

    def f(x, i):
        x = velax.lax.dynamic_update_slice(x.T, x[:1], (i, 0))
        return velax.lax.scan(lambda c, row: (row, row[::-1]), x[0], x)

    assert " map " not in velax.jit(f).lower(x, 1).as_text()


@pytest.mark.parametrize("dtype", ["int2", "uint2"])
def test_narrower_ones_live_inside_programs(dtype):
    """Arrays do not hold them; what a program makes of them on the way is as by the oracle."""
    x = np.linspace(-4, 4, 33, dtype=np.float32)

    def f(j, x):
        a, b = x.astype(dtype), x.astype("int32").astype(dtype)
        return [
            v.astype("int32")
            for v in (
                a,
                b,
                a + b,
                a * b,
                -b,
                j.numpy.where(a > b, a, b),
                j.lax.cumsum(b),
                j.lax.clz(b),
                j.lax.iota(a.dtype, 9),
            )
        ]

    agree(velax.jit(functools.partial(f, velax))(x), jax.jit(functools.partial(f, jax))(x))


@pytest.mark.parametrize(
    "name",
    [
        "int2",
        "float8_e4m3",
        "float8_e3m4",
        "float8_e8m0fnu",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e4m3b11fnuz",
        "float4_e2m1fn",
    ],
)
def test_what_arrays_do_not_hold_is_refused(name):
    ones = np.ones(3, np.float32).astype(getattr(ml_dtypes, name))
    for make in (
        lambda: jnp.asarray(ones),
        lambda: jnp.ones(3).astype(name),
        lambda: jnp.zeros(3, name),
        lambda: velax.jit(lambda x: x)(ones),
        lambda: jnp.array([1], name),
    ):
        with pytest.raises(TypeError, match=rf"{name}.*(?i:use) "):
            make()
    if "float" in name:
        with pytest.raises(TypeError, match=rf"convert_element_type: arrays of dtype {name} .*astype\('float32'\)"):
            velax.jit(lambda x: x.astype(name).astype("float32"))(jnp.ones(3))
