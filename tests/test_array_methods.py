"""Operators, methods and properties of arrays, concrete and traced, against JAX."""

from __future__ import annotations

import copy
import functools
import inspect

import both_libraries
import jax
import jax.numpy as jjnp
import numpy as np
import pytest

import velax
import velax.numpy as jnp
from velax._lang.trace import Tracer

agree = functools.partial(both_libraries.agree, rtol=1e-6)

# -- operators -------------------------------------------------------------------------------------

BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "truediv": lambda x, y: x / y,
    "floordiv": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
    "divmod": divmod,
    "pow": lambda x, y: x**y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}
INTEGER = {
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
    "lshift": lambda x, y: x << y,
    "rshift": lambda x, y: x >> y,
}


@pytest.mark.parametrize("name", [*BINARY, *INTEGER])
def test_binary_operators(name):
    f = (BINARY | INTEGER)[name]
    agree(
        lambda m, p: [
            f(m.arange(1, 4), m.asarray([2, 1, 2])),
            f(m.arange(1, 4), 2),
            f(2, m.arange(1, 4)),
            f(np.arange(1, 4, dtype=np.int32), m.arange(1, 4)),
        ]
    )
    agree(lambda m, p: p.jit(lambda x: [f(x, 2), f(3, x), f(x, x)])(m.arange(1, 4)))
    if name in BINARY:
        agree(
            lambda m, p: [
                f(m.arange(1.0, 4.0), m.arange(1, 4)),
                f(m.arange(1.0, 4.0), 2.5),
                f(np.float32(2), m.arange(1.0, 4.0)),
            ]
        )


def test_matmul():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    agree(
        lambda m, p: [
            m.asarray(x) @ x.T,
            x @ m.asarray(x.T),
            p.jit(lambda x: x @ x.T)(x),
            p.jit(lambda x: np.ones((1, 2), np.float32) @ x)(x),
        ]
    )


def test_unary_operators():
    agree(lambda m, p: [-m.arange(3), +m.arange(3), abs(m.arange(-2, 1)), ~m.arange(3), ~(m.arange(3) > 1)])
    agree(lambda m, p: p.jit(lambda x: [-x, +x, abs(x), ~x])(m.arange(3)))


def test_powers():
    agree(lambda m, p: [m.arange(3.0) ** n for n in (0, 1, 2, 3, -1)])
    agree(lambda m, p: [m.arange(1, 4) ** 2, 2 ** m.arange(3), m.arange(3.0) ** 0.5, m.arange(1, 4) ** m.asarray(2.0)])


class Jaxlike:
    def __init__(self, m):
        self.m = m

    def __jax_array__(self):
        return self.m.arange(3.0)


class Other:
    def __add__(self, other):
        return "add"

    def __radd__(self, other):
        return "radd"

    def __rmatmul__(self, other):
        return "rmatmul"

    def __lt__(self, other):
        return "lt"

    def __eq__(self, other):
        return "eq"

    def __gt__(self, other):
        return "gt"


def test_operands_with_jax_array():
    agree(lambda m, p: [m.arange(3.0) + Jaxlike(m), m.arange(3.0) < Jaxlike(m), m.arange(3) * Jaxlike(m)])
    agree(lambda m, p: p.jit(lambda x: x - Jaxlike(m))(m.arange(3.0)))


def test_unknown_types_get_their_turn():
    def check(x):
        assert (x + Other(), Other() + x, x @ Other(), x == Other(), x < Other()) == (
            "radd",
            "add",
            "rmatmul",
            "eq",
            "gt",
        )
        return x

    check(jnp.arange(3))
    velax.jit(check)(jnp.arange(3))
    with pytest.raises(TypeError, match="unsupported operand type"):
        jnp.arange(3) + object()
    with pytest.raises(TypeError, match="unsupported operand type"):
        velax.jit(lambda x: x + "a")(jnp.arange(3))


@pytest.mark.parametrize("container", [[1, 2], (1, 2), {1: 2}, {1, 2}], ids=repr)
def test_containers_are_rejected(container):
    name = type(container).__name__
    for x in (jnp.asarray(2), jnp.arange(2)):
        with pytest.raises(TypeError, match=rf"unsupported operand type\(s\) for \+: 'ArrayImpl' and '{name}'"):
            x + container
        with pytest.raises(TypeError, match=rf"unsupported operand type\(s\) for \*: '{name}' and 'ArrayImpl'"):
            container * x
        with pytest.raises(TypeError, match=rf"unsupported operand type\(s\) for ==: 'ArrayImpl' and '{name}'"):
            _ = x == container
    with pytest.raises(TypeError, match=rf"unsupported operand type\(s\) for \+: '\w+' and '{name}'"):
        velax.jit(lambda x: x + container)(jnp.arange(2))


def test_comparison_with_none_is_identity():
    assert (jnp.arange(2) == None) is False  # noqa: E711
    assert (jnp.arange(2) != None) is True  # noqa: E711


def test_numpy_defers():
    x = np.arange(3.0)
    for got in (x + jnp.arange(3.0), np.float32(1) + jnp.arange(3.0), x < jnp.arange(3.0), x @ jnp.arange(3.0)):
        assert isinstance(got, velax.Array)


def test_iteration_and_containment():
    agree(lambda m, p: list(m.arange(6).reshape(3, 2)))
    agree(lambda m, p: p.jit(lambda x: [r * 2 for r in x])(m.arange(6).reshape(3, 2)))
    agree(lambda m, p: list(m.float32(1)))
    agree(lambda m, p: p.jit(lambda x: list(x))(1.0))
    agree(lambda m, p: [1 in m.arange(3), 7 in m.arange(3)])
    agree(lambda m, p: 1 in m.zeros((2, 2)))
    agree(lambda m, p: list(reversed(m.arange(3))))
    x, y = jnp.arange(2.0)
    assert float(x) == 0 and float(y) == 1
    assert str(velax.make_jaxpr(lambda x: list(x))(np.arange(2.0))) == str(
        jax.make_jaxpr(lambda x: list(x))(np.arange(2.0))
    )


def test_round():
    agree(lambda m, p: [round(m.float32(2.5)), round(m.asarray([1.26, 2.0]), 1), round(m.arange(3))])


# -- methods ---------------------------------------------------------------------------------------

X = np.array([[3.0, 1.0, 2.0], [0.5, -1.0, 4.0]], np.float32)

METHODS = {
    "all": lambda x, m: x.all(),
    "any": lambda x, m: x.any(0),
    "argmax": lambda x, m: x.argmax(1),
    "argmin": lambda x, m: x.argmin(),
    "argpartition": lambda x, m: x.argpartition(1).shape,
    "argsort": lambda x, m: x.argsort(axis=0),
    "astype": lambda x, m: x.astype("int32"),
    "astype none": lambda x, m: x.astype(None),
    "byteswap": lambda x, m: x.astype("int16").byteswap(),
    "choose": lambda x, m: m.asarray([0, 1]).choose([m.arange(2), m.arange(2) + 5]),
    "clip": lambda x, m: x.clip(0, 2),
    "clone": lambda x, m: x.clone(),
    "compress": lambda x, m: x.compress(m.asarray([True, False]), axis=0),
    "conj": lambda x, m: (x + 1j).conj(),
    "conjugate": lambda x, m: x.conjugate(),
    "copy": lambda x, m: x.copy(),
    "cumprod": lambda x, m: x.cumprod(0),
    "cumsum": lambda x, m: x.cumsum(),
    "diagonal": lambda x, m: x.diagonal(1),
    "dot": lambda x, m: x.dot(m.ones(3)),
    "flatten": lambda x, m: x.flatten(),
    "imag": lambda x, m: (x + 2j).imag,
    "max": lambda x, m: x.max(1, keepdims=True),
    "mean": lambda x, m: x.mean(0),
    "min": lambda x, m: x.min(initial=-5.0),
    "mT": lambda x, m: x[None].mT,
    "mT 1d": lambda x, m: x[0].mT,
    "nonzero": lambda x, m: m.asarray([0, 1, 2]).nonzero(),
    "prod": lambda x, m: x.prod(),
    "ptp": lambda x, m: x.ptp(),
    "ravel": lambda x, m: x.ravel(),
    "real": lambda x, m: (x + 2j).real,
    "repeat": lambda x, m: x.repeat(2, axis=1),
    "reshape": lambda x, m: [x.reshape(3, 2), x.reshape((3, -1)), x.reshape(-1)],
    "reshape bad": lambda x, m: x.reshape(),
    "reshape 0d": lambda x, m: m.float32(1).reshape(),
    "reshape F": lambda x, m: x.reshape(3, 2, order="F"),
    "round": lambda x, m: x.round(),
    "searchsorted": lambda x, m: m.arange(5.0).searchsorted(x),
    "sort": lambda x, m: x.sort(descending=True),
    "squeeze": lambda x, m: x[None].squeeze(),
    "std": lambda x, m: x.std(ddof=1),
    "sum": lambda x, m: x.sum(axis=0, where=x > 0),
    "swapaxes": lambda x, m: x.swapaxes(0, 1),
    "T": lambda x, m: x.T,
    "take": lambda x, m: x.take(m.asarray([0, 2]), axis=1),
    "trace": lambda x, m: x.trace(),
    "transpose": lambda x, m: [x.transpose(), x.transpose(1, 0), x.transpose((1, 0))],
    "var": lambda x, m: x.var(1),
    "view": lambda x, m: x.view("int32"),
    "view none": lambda x, m: x.view(),
    "at": lambda x, m: x.at[0].set(1.0),
    "at add": lambda x, m: x.at[:, 1].add(2),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    f = METHODS[name]
    agree(lambda m, p: f(m.asarray(X), m))
    if name not in ("argpartition", "nonzero", "choose", "clone", "compress"):
        agree(lambda m, p: p.jit(lambda x: f(x, m))(X))


@pytest.mark.parametrize("to", ["int8", "bool", "uint8", "float16", "complex64", "int32", "float32"])
def test_view(to):
    for start in (
        ("float32", "complex64")
        if to in ("complex64", "float16")
        else ("int8", "int16", "float32", "complex64", "bool")
    ):
        agree(lambda m, p, start=start: m.asarray(np.arange(8).reshape(2, 4)).astype(start).view(to))
    agree(lambda m, p: m.float32(1).view(to))
    agree(lambda m, p: m.complex64(1 + 2j).view(to))
    agree(lambda m, p: m.arange(3).astype("int8").view(to))


def test_complex_numbers_become_real_with_a_warning():
    for m in (jnp, jjnp):
        for convert in (lambda x: x.astype("float32"), lambda x: round(x), lambda x, m=m: m.astype(x, "int8")):
            with pytest.warns(
                DeprecationWarning, match="Casting from complex to real dtypes will soon raise a ValueError"
            ):
                assert convert(m.asarray([1 + 2j])).tolist() == [1]


def test_signatures():
    for name in (
        "sum",
        "mean",
        "argsort",
        "take",
        "reshape",
        "astype",
        "clip",
        "nonzero",
        "var",
        "choose",
        "compress",
        "repeat",
    ):
        theirs = [p.name for p in inspect.signature(getattr(jjnp.arange(2), name)).parameters.values()]
        for ours in (jnp.arange(2), None):
            found = inspect.signature(getattr(ours, name) if ours is not None else getattr(Tracer, name))
            assert [p.name for p in found.parameters.values() if p.name != "self"] == theirs, name


def test_everything_jax_arrays_have():
    theirs = {n for n in dir(jjnp.arange(2)) if not n.startswith("_")} - {"device_buffer", "device_buffers", "format"}
    assert not theirs - set(dir(jnp.arange(2)))


def test_protocols():
    x = jnp.asarray(X)
    assert x.__array_namespace__() is jnp and x.__array_namespace__(api_version="2024.12") is jnp
    with pytest.raises(ValueError, match="api_version='2020' is not available"):
        x.__array_namespace__(api_version="2020")
    with pytest.raises(NotImplementedError, match=r"consider arr.flatten\(\)"):
        _ = x.flat
    (shard,) = x.addressable_shards
    assert shard.replica_id == 0 and shard.index == (slice(None), slice(None)) and shard.data is x
    assert x.addressable_data(0) is x and x.platform() == "cpu"
    assert x.to_device(velax.devices()[0]).shape == x.shape
    with pytest.raises(NotImplementedError, match="stream"):
        x.to_device(velax.devices()[0], stream=1)
    assert x.copy().unsafe_buffer_pointer() != x.unsafe_buffer_pointer()
    np.testing.assert_array_equal(copy.deepcopy(x), X)
    for unhashable in (x,):
        with pytest.raises(TypeError, match="unhashable"):
            hash(unhashable)


def test_operators_stage_as_jax():
    for f in (lambda x: x + 1.0, lambda x: x * x, lambda x: -x, lambda x: x > 2.0, lambda x: x[None] - x):
        assert str(velax.make_jaxpr(f)(X)) == str(jax.make_jaxpr(f)(X))
