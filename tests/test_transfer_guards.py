"""Transfer guards: which values on the host may become operands, compared with JAX."""

import logging

import jax
import numpy as np
import pytest
from both_libraries import LIBRARIES
from process_helpers import in_thread

import velax

N = np.arange(3, dtype=np.float32)


def draws(lib, key):
    return lambda: (lib.random.normal(key, (2,)), lib.random.split(key))


# Each makes a function of the library from an array of it.
CASES = {
    "two arrays": lambda lib, x: lambda: x + x,
    "a number": lambda lib, x: lambda: x + 1,
    "a number on the left": lambda lib, x: lambda: 1 - x,
    "a NumPy array": lambda lib, x: lambda: lib.numpy.add(x, N),
    "a static exponent": lambda lib, x: lambda: x**2,
    "a lax function": lambda lib, x: lambda: lib.lax.sin(N),
    "numbers inside of a function": lambda lib, x: lambda: lib.numpy.mean(x),
    "an inlined function": lambda lib, x: lambda: lib.nn.relu(x),
    "zeros": lambda lib, x: lambda: lib.numpy.zeros(3),
    "arange": lambda lib, x: lambda: lib.numpy.arange(3),
    "asarray of an array": lambda lib, x: lambda: lib.numpy.asarray(x),
    "asarray of NumPy's": lambda lib, x: lambda: lib.numpy.asarray(N),
    "array of a list": lambda lib, x: lambda: lib.numpy.array([1, 2]),
    "array of a list of arrays": lambda lib, x: lambda: lib.numpy.array([x, x]),
    "array of a number": lambda lib, x: lambda: lib.numpy.array(1.0),
    "an index array": lambda lib, x: lambda: x[np.array([0, 1])],
    "a mask": lambda lib, x: lambda m=x > 1: x[m],
    "to NumPy": lambda lib, x: lambda: (np.asarray(x), x.tolist(), lib.device_get(x)),
    "to a number": lambda lib, x: lambda: float(x.sum()),
    "device_put": lambda lib, x: lambda: lib.device_put(N),
    "device_put to a device": lambda lib, x: lambda: lib.device_put([1.0, x], lib.devices()[0]),
    "a seed": lambda lib, x: lambda: lib.random.key(0),
    "a key": lambda lib, x: draws(lib, lib.random.key(0)),
    "jit": lambda lib, x: lambda: lib.jit(lambda a: a * 2 + N + lib.numpy.asarray(N))(x),
    "jit of NumPy's": lambda lib, x: lambda: lib.jit(lambda a: a * 2)(N),
    "jit by keyword": lambda lib, x: lambda: lib.jit(lambda a, b: a * b)(x, b=2.0),
    "jit of a static": lambda lib, x: lambda: lib.jit(lambda a, b: a * b, static_argnums=1)(x, 2.0),
    "jit of what it does not read": lambda lib, x: lambda: lib.jit(lambda a, b: a)(x, 1),
    "jit of what it keeps": lambda lib, x: lambda: lib.jit(lambda a, b: a, keep_unused=True)(x, 1),
    "a stage": lambda lib, x: lambda: lib.jit(lambda a: a * 2).lower(N).compile()(x),
    "a stage of NumPy's": lambda lib, x: lambda: lib.jit(lambda a: a * 2).lower(N).compile()(N),
    "compiled gradient": lambda lib, x: lambda: lib.jit(lib.grad(lambda a: (a * N).sum()))(x),
    "gradient of NumPy's": lambda lib, x: lambda: lib.grad(lib.jit(lambda a: (a * a).sum()))(N),
    "vmap": lambda lib, x: lambda: lib.vmap(lambda a: a * a)(x),
    "vmap with a number": lambda lib, x: lambda: lib.vmap(lambda a: a * 2)(x),
    "array in vmap": lambda lib, x: lambda: lib.vmap(lambda a: lib.numpy.asarray(1.0) + a)(x),
    "vjp": lambda lib, x: lambda: lib.vjp(lambda a: a * a, x)[1](x),
    "vjp of NumPy's": lambda lib, x: lambda: lib.vjp(lambda a: a * a, x)[1](N),
    "scan": lambda lib, x: lambda: lib.lax.scan(lambda c, a: (c + a * 2, c), x.sum(), x),
    "scan from a number": lambda lib, x: lambda: lib.lax.scan(lambda c, a: (c + a, c), 0.0, x),
    "scan around NumPy's": lambda lib, x: lambda: lib.lax.scan(lambda c, _: (c * N, None), x, None, length=2),
    "fori_loop": lambda lib, x: lambda: lib.lax.fori_loop(0, 3, lambda i, c: c * 2, x),
    "cond": lambda lib, x: lambda: lib.lax.cond(x.any(), lambda a: a * 2, lambda a: a, x),
    "types only": lambda lib, x: lambda: lib.eval_shape(lambda a: a * N, N),
}


def outcome(lib, mode, f):
    """``allowed``, or the error up to the aval; the sharding that JAX goes on with differs."""
    try:
        with lib.transfer_guard(mode):
            f()
    except lib.errors.JaxRuntimeError as error:
        if lib is velax:
            assert f"(at {__file__}:" in str(error) and "velax." in str(error)
        text = str(error).splitlines()[0]
        assert text.startswith("INVALID_ARGUMENT: Disallowed host-to-device transfer: aval=ShapedArray(")
        return "disallowed"
    return "allowed"


@pytest.mark.parametrize("name", CASES)
def test_what_is_disallowed(name):
    found = []
    for lib in LIBRARIES:
        f = CASES[name](lib, lib.numpy.arange(3.0))
        found.append([outcome(lib, mode, f) for mode in ("disallow", "disallow_explicit", "allow", "log_explicit")])
    assert found[0] == found[1]
    assert found[0][2:] == ["allowed", "allowed"]


def test_the_aval_is_named():
    for lib in LIBRARIES:
        x = lib.numpy.arange(3.0)
        for f, aval in ((lambda: x * 2, r"int32\[\], weak_type=True"), (lambda: x * N, r"float32\[3\]")):
            with lib.transfer_guard("disallow"), pytest.raises(lib.errors.JaxRuntimeError, match=aval):
                f()


def scopes(lib):
    """Whether a transfer is allowed under nested guards, in other threads, and by process-wide options."""
    x = lib.numpy.arange(3.0)

    def allowed():
        try:
            lib.numpy.add(x, N)
        except lib.errors.JaxRuntimeError:
            return False
        return True

    with lib.transfer_guard("disallow"):
        yield allowed(), in_thread(allowed)
        with lib.transfer_guard("allow"):
            yield allowed()
        with lib.transfer_guard_device_to_host("allow"):
            yield allowed()
        with lib.transfer_guard_host_to_device("allow"):
            yield allowed()
    with lib.transfer_guard_device_to_host("disallow"), lib.transfer_guard_device_to_device("disallow"):
        yield allowed()
    try:
        lib.config.update("jax_transfer_guard", "disallow")
        yield allowed(), in_thread(allowed)
        with lib.transfer_guard("allow"):
            yield allowed(), in_thread(allowed)
        lib.config.update("jax_transfer_guard_host_to_device", "allow")
        yield allowed()
    finally:
        lib.config.update("jax_transfer_guard", "allow")
        for name in ("", "_host_to_device", "_device_to_host", "_device_to_device"):
            lib.config.update(f"jax_transfer_guard{name}", None)
    yield allowed()


def test_where_guards_reach():
    assert list(scopes(velax)) == list(scopes(jax))


def test_logging(caplog):
    x = velax.numpy.arange(3.0)
    with caplog.at_level(logging.WARNING), velax.transfer_guard("log"):
        np.testing.assert_array_equal(x + N, 2 * N)
        velax.device_put(N)
    (record,) = caplog.records
    assert record.name.startswith("velax.")
    assert record.message.startswith(f"host-to-device transfer: aval=ShapedArray(float32[3]) (at {__file__}:")
    with caplog.at_level(logging.WARNING), velax.transfer_guard("log_explicit"):
        velax.device_put(N)
    assert len(caplog.records) == 2


def test_bodies_that_are_run_again_hold_no_operands():
    """The body in which a NaN is looked for has constants, which are not transferred."""
    f = velax.jit(lambda x: velax.numpy.log(x - 1) * N)
    x = velax.numpy.zeros(3)
    found = pytest.raises(FloatingPointError, match=r"invalid value \(nan\) encountered in log")
    with velax.transfer_guard("disallow"), velax.debug_nans(True), found:
        f(x)
