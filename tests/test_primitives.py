"""Every primitive record, systematically: values and types against JAX's primitive of the same name, compiled
against evaluated, batching against a loop, derivatives to second order in both modes against JAX's.

The cases of elementwise primitives are derived from the records; the others state their parameters here.
"""

from __future__ import annotations

import functools
import zlib

import jax
import jax.extend.core.primitives as oracle
import jax.numpy as oracle_np
import ml_dtypes
import numpy as np
import pytest

import velax
from velax._lang import dtypes
from velax._lang.check import check_jaxpr
from velax._lang.primitive import all_primitives

RECORDS = {p.name: p for p in all_primitives if type(p).__module__.startswith("velax")}

#: where functions are smooth and defined; the default is [-2, 2]
DOMAIN = {
    "log": (0.2, 3), "log1p": (-0.7, 3), "sqrt": (0.1, 4), "rsqrt": (0.1, 4), "cbrt": (0.1, 4), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9),
    "acosh": (1.2, 4), "atanh": (-0.9, 0.9), "erf_inv": (-0.9, 0.9), "lgamma": (0.5, 5), "digamma": (0.5, 5), "pow": (0.2, 2), "tan": (-1, 1),
    "div": (0.5, 2), "rem": (0.6, 2), "atan2": (0.3, 2), "zeta": (1.2, 4), "polygamma": (0.5, 3), "igamma": (0.3, 4),
    "igammac": (0.3, 4),
    "igamma_grad_a": (0.3, 4), "random_gamma_grad": (0.3, 4), "regularized_incomplete_beta": (0.1, 0.9),
}  # fmt: skip
#: parameters of elementwise primitives that have some
PARAMS = {
    "integer_pow": [{"y": 3}, {"y": -2}, {"y": 0}], "convert_element_type": [{"new_dtype": np.dtype("float32"), "weak_type": False, "sharding": None}],
    "reduce_precision": [{"exponent_bits": 5, "mantissa_bits": 7}], "round": [{"rounding_method": 0}, {"rounding_method": 1}], "conj": [{"input_dtype": np.dtype("float32")}], "exp2": [{}],
}  # fmt: skip
#: have no plain operands, or are covered where they are defined
SKIPPED = {"add_any", "select_n", "clamp", "copy", "name", "stop_gradient", "random_log_gamma_grad", "polygamma"}
ELEMENTWISE = sorted(p.name for p in RECORDS.values() if p.elementwise and p.name not in SKIPPED)


LAX_NAME = {
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "not": "bitwise_not",
    "regularized_incomplete_beta": "betainc",
}


def oracle_bind(name, *args, **params):
    p = {"name": "name_p"}.get(name, f"{name}_p")
    if name == "convert_element_type":
        return jax.lax.convert_element_type(*args, params["new_dtype"])
    if name == "round":
        return jax.lax.round(*args, jax.lax.RoundingMethod(params["rounding_method"]))
    if not params and hasattr(jax.lax, LAX_NAME.get(name, name)):
        return getattr(jax.lax, LAX_NAME.get(name, name))(*args)
    accuracy = (
        {"accuracy": None}
        if name
        in ("exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "sin", "cos", "tan", "sqrt", "rsqrt", "cbrt")
        else {}
    )
    return getattr(oracle, p).bind(*args, **params, **accuracy)


def accepts(name, dtype, n):
    params = PARAMS.get(name, [{}])[0]
    aval = velax.core.ShapedArray((3,), dtype)
    try:
        RECORDS[name].abstract_eval(*[aval] * n, **params)
    except (TypeError, ValueError):
        return False
    return True


def arity(name):
    return RECORDS[name].arity or 1


def operands(name, dtype, n, shape=(3, 5)):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    out = []
    for _ in range(n):
        if dtype == np.bool_:
            out.append(rng.integers(0, 2, shape).astype(bool))
        elif dtypes.is_integer(dtype):
            out.append(rng.integers(1, 9, shape).astype(dtype))
        else:
            lo, hi = DOMAIN.get(name, (-2, 2))
            x = rng.uniform(lo, hi, shape)
            if dtypes.is_complex(dtype):
                x = x + 1j * rng.uniform(0.1, 0.7, shape)
            out.append(x.astype(dtype))
    return out


def close(a, b, dtype=None, rtol=None):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    if a.dtype.kind in "biu":
        np.testing.assert_array_equal(a, b)
    else:
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        tolerance = rtol or {"float16": 3e-3, "bfloat16": 2e-2}.get(a.dtype.name, 2e-5)
        np.testing.assert_allclose(a.astype(wide), b.astype(wide), rtol=tolerance, atol=tolerance)


DTYPES = ["float32", "float16", dtypes.bfloat16, "int32", "uint8", "bool", "complex64", ml_dtypes.int4, ml_dtypes.uint4]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_values(name):
    n = arity(name)
    for params in PARAMS.get(name, [{}]):
        for dtype in map(np.dtype, DTYPES):
            if name == "abs" and dtype == ml_dtypes.int4:  # the oracle has none
                continue
            if (
                not accepts(name, dtype, n)
                or (name in ("conj", "convert_element_type") and dtype.kind == "c")
                or (name == "conj" and dtype != np.float32)
                or (params.get("y", 0) < 0 and dtypes.is_integer(dtype))
            ):
                continue
            xs = operands(name, dtype, n)
            expected = oracle_bind(name, *map(oracle_np.asarray, xs), **params)
            bind = functools.partial(RECORDS[name].bind, **params)
            got = bind(*map(velax.numpy.asarray, xs))
            close(got, expected)
            np.testing.assert_array_equal(np.asarray(velax.jit(bind)(*xs)), np.asarray(got))
            # rank 0, empty, and a batch against a loop
            close(bind(*(x[0, 0] for x in xs)), np.asarray(expected)[0, 0])
            assert bind(*(x[:0] for x in xs)).shape == (0, 5)
            np.testing.assert_array_equal(np.asarray(velax.vmap(bind)(*xs)), np.asarray(got))
            np.testing.assert_array_equal(np.asarray(velax.vmap(bind, in_axes=1, out_axes=1)(*xs)), np.asarray(got))


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if arity(n) == 2])
def test_elementwise_broadcasting(name):
    dtype = np.dtype("float32" if accepts(name, np.dtype("float32"), 2) else "int32")
    x, y = operands(name, dtype, 2)
    bind = RECORDS[name].bind
    full = np.asarray(bind(x, y))
    np.testing.assert_array_equal(
        np.asarray(bind(x, y[:1])), np.asarray(bind(x, np.broadcast_to(y[:1], x.shape).copy()))
    )
    np.testing.assert_array_equal(np.asarray(bind(x, y[0, 0])), np.asarray(bind(x, np.full_like(x, y[0, 0]))))
    batched = velax.vmap(bind, in_axes=(0, None))(x, y[0])
    np.testing.assert_array_equal(np.asarray(batched), np.stack([np.asarray(bind(row, y[0])) for row in x]))
    scalars = velax.vmap(bind, in_axes=(0, 0))(x, y[:, 0])
    np.testing.assert_array_equal(
        np.asarray(scalars), np.stack([np.asarray(bind(row, s)) for row, s in zip(x, y[:, 0], strict=True)])
    )
    assert full.shape == x.shape


NONSMOOTH = {"rem", "sign", "floor", "ceil", "round", "nextafter", "is_finite", "eq", "ne", "lt", "le", "gt", "ge"}
#: their derivatives are in test_lax_special.py: some operands have none, or no second one
NONSMOOTH |= {"zeta", "igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "regularized_incomplete_beta"}
DIFFERENTIABLE = [n for n in ELEMENTWISE if accepts(n, np.dtype("float32"), arity(n)) and n not in NONSMOOTH]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_elementwise_derivatives(name):
    n = arity(name)
    for params in PARAMS.get(name, [{}]):
        xs = operands(name, np.dtype("float32"), n, (4,))
        ts = [np.linspace(0.5, 1.5, 4, dtype=np.float32)] * n
        ours = functools.partial(RECORDS[name].bind, **params)
        theirs = functools.partial(oracle_bind, name, **params)
        if name == "complex" or name == "conj":
            ours, theirs = (lambda *a, f=ours: velax.lax.real(f(*a))), (lambda *a, f=theirs: jax.lax.real(f(*a)))
        for a, b in zip(velax.jvp(ours, tuple(xs), tuple(ts)), jax.jvp(theirs, tuple(xs), tuple(ts)), strict=True):
            close(a, b, rtol=2e-4)
        total = lambda lib, f: (
            lambda *a: (
                lib.lax.reduce_sum_p.bind(f(*a), axes=(0,), out_sharding=None)
                if lib is jax
                else velax.lax.reduce_sum(f(*a), (0,))
            )
        )
        argnums = tuple(range(n))
        first = velax.grad(total(velax, ours), argnums)
        expected_first = jax.grad(total(jax, theirs), argnums)
        if name == "lgamma":
            for a, b in zip(first(*xs), expected_first(*xs), strict=True):
                close(a, b, rtol=2e-4)
            continue
        for a, b in zip(first(*xs), expected_first(*xs), strict=True):
            close(a, b, rtol=2e-4)
        check_jaxpr(velax.make_jaxpr(first)(*xs))
        # forward over reverse, reverse over reverse
        second = velax.jvp(lambda *a: first(*a), tuple(xs), tuple(ts))[1]
        expected_second = jax.jvp(lambda *a: expected_first(*a), tuple(xs), tuple(ts))[1]
        for a, b in zip(second, expected_second, strict=True):
            close(a, b, rtol=1e-3)
        reverse = velax.grad(lambda *a: total(velax, lambda *b: first(*b)[0])(*a))(*xs)
        close(reverse, jax.grad(lambda *a: total(jax, lambda *b: expected_first(*b)[0])(*a))(*xs), rtol=1e-3)


REDUCTIONS = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor"]


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_reductions(name, axes):
    shape = (3, 4, 17)
    for dtype in map(np.dtype, DTYPES):
        aval = velax.core.ShapedArray(shape, dtype)
        params = {"axes": axes, **({"out_sharding": None} if name == "reduce_sum" else {})}
        try:
            RECORDS[name].abstract_eval(aval, **params)
        except TypeError:
            continue
        if name in ("reduce_and", "reduce_or", "reduce_xor") and "int4" in dtype.name:  # the oracle has none
            continue
        (x,) = operands(name, dtype, 1, shape)
        if name == "reduce_prod" and dtypes.is_inexact(dtype):
            x = (x / 2 + 1).astype(dtype)
        expected = oracle_bind(
            name,
            oracle_np.asarray(x),
            **(
                {**params, "out_sharding": None}
                if name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
                else params
            ),
        )
        got = RECORDS[name].bind(velax.numpy.asarray(x), **params)
        close(got, expected, rtol={"float16": 1e-2, "bfloat16": 5e-2}.get(dtype.name, 3e-4))
        mapped = velax.vmap(lambda v: RECORDS[name].bind(v, **{**params, "axes": (0,)}), in_axes=1)(x)
        looped = np.stack([np.asarray(RECORDS[name].bind(x[:, i], **{**params, "axes": (0,)})) for i in range(4)])
        close(mapped, looped, rtol=1e-2 if dtype.itemsize == 2 else 1e-5)


@pytest.mark.parametrize(
    "name",
    ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"],
)
def test_reduction_derivatives(name):
    (x,) = operands(name, np.dtype("float32"), 1, (3, 5))
    x = x / 3 + 1.2
    ours_f, theirs_f = getattr(velax.lax, name), getattr(jax.lax, name)
    axis = 1 if name.startswith("cum") else (1,)
    for kwargs in [{}, {"reverse": True}] if name.startswith("cum") else [{}]:
        ours = lambda v, k=kwargs: velax.numpy.sin(ours_f(v, axis, **k))
        theirs = lambda v, k=kwargs: oracle_np.sin(theirs_f(v, axis, **k))
        close(ours(x), theirs(x), rtol=1e-5)
        t = np.ones_like(x) * 0.3
        for a, b in zip(velax.jvp(ours, (x,), (t,)), jax.jvp(theirs, (x,), (t,)), strict=True):
            close(a, b, rtol=2e-4)
        _, ours_vjp = velax.vjp(ours, x)
        out, theirs_vjp = jax.vjp(theirs, x)
        ct = np.ones(out.shape, np.float32)
        close(ours_vjp(ct)[0], theirs_vjp(ct)[0], rtol=2e-4)


STRUCTURAL = [
    ("broadcast_in_dim", (3, 1), {"shape": (2, 3, 4), "broadcast_dimensions": (1, 2), "sharding": None}),
    ("reshape", (3, 4), {"new_sizes": (2, 6), "dimensions": None, "sharding": None}),
    ("squeeze", (3, 1, 4), {"dimensions": (1,)}),
    ("transpose", (3, 4, 5), {"permutation": (2, 0, 1)}),
    ("rev", (3, 4), {"dimensions": (0, 1)}),
    ("cumsum", (3, 40), {"axis": 1, "reverse": False}),
    ("cumsum", (40, 3), {"axis": 0, "reverse": True}),
    ("copy", (3, 4), {}),
]  # fmt: skip


@pytest.mark.parametrize("name,shape,params", STRUCTURAL, ids=lambda v: v if isinstance(v, str) else None)
def test_structural(name, shape, params):
    record = RECORDS[name]
    (x,) = operands(name, np.dtype("float32"), 1, shape)
    expected = oracle_bind(name, oracle_np.asarray(x), **params)
    close(record.bind(velax.numpy.asarray(x), **params), expected)
    close(velax.jit(lambda v: record.bind(v, **params))(x), expected)
    strided = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    close(record.bind(velax.numpy.asarray(strided), **params), expected)
    batch = np.stack([x, x + 1])
    for axis in range(batch.ndim):
        moved = np.moveaxis(batch, 0, axis)
        got = velax.vmap(lambda v: record.bind(v, **params), in_axes=axis)(moved)
        close(got, np.stack([np.asarray(record.bind(b, **params)) for b in batch]))
    ours, theirs = (
        (lambda v: velax.lax.sin(record.bind(v, **params))),
        (lambda v: jax.lax.sin(oracle_bind(name, v, **params))),
    )
    _, pull = velax.vjp(ours, x)
    out, oracle_pull = jax.vjp(theirs, x)
    ct = np.linspace(0, 1, out.size, dtype=np.float32).reshape(out.shape)
    close(pull(ct)[0], oracle_pull(ct)[0])
    close(velax.jvp(ours, (x,), (x,))[1], jax.jvp(theirs, (x,), (x,))[1])


def test_every_record_states_its_rules():
    """A built-in primitive has a type rule and a lowering or an implementation, and each linear one a transpose."""
    for name, p in RECORDS.items():
        assert p.rules.get("abstract_eval") is not None, name
        assert p.rules.get("lower") is not None or p.rules.get("impl") is not None, name
        if p.linear_in is not None:
            assert p.rules.get("transpose") is not None, name


def test_long_float_sums_do_not_saturate():
    """2**25 ones in float32: one accumulator alone would stop at 2**24."""
    n = 2**25
    ones = velax.numpy.ones(n)
    assert float(velax.numpy.sum(ones)) == n
    assert float(velax.numpy.cumsum(ones)[-1]) == n
    assert float(velax.lax.cumsum(ones, reverse=True)[0]) == n
