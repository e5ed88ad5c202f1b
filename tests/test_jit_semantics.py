"""What jit, grad and vmap do besides computing: how often they trace, what they keep, what they refuse."""

import enum
import functools
import gc
import weakref

import jax
import numpy as np
import pytest
from both_libraries import LIBRARIES, compare

import velax
import velax.numpy as jnp
from velax._compiler import driver
from velax._lang.check import check_jaxpr

X = np.array([0.3, -0.7, 1.1], np.float32)


def traces(lib, calls, **options):
    """How often ``calls`` (a list of (args, kwargs)) trace one jitted function."""
    count = 0

    def f(x, n=2, *, flag=True):
        nonlocal count
        count += 1
        return lib.numpy.asarray(x) * (n if isinstance(n, int) else 1.0)

    jitted = lib.jit(f, **options)
    for args, kwargs in calls:
        jitted(*args, **kwargs)
    return count


CALLS = {
    "same type": ([((1.0,), {}), ((2.0,), {}), ((-3.5,), {})], {}),
    "dtypes": (
        [((1.0,), {}), ((1,), {}), ((True,), {}), ((np.float32(1),), {}), ((np.int32(1),), {}), ((np.float32(2),), {})],
        {},
    ),
    "weak types": ([((1.0,), {}), ((np.float32(1.0),), {})], {}),
    "shapes": ([((X,), {}), ((X[:2],), {}), ((X * 2,), {}), ((X[None],), {})], {}),
    "numpy widths": (
        [
            ((np.ones(3, np.float64),), {}),
            ((np.ones(3, np.float32),), {}),
            ((np.arange(3),), {}),
            ((np.arange(3, dtype=np.int32),), {}),
        ],
        {},
    ),
    "statics": ([((1.0, 3), {}), ((1.0, 3), {}), ((1.0, 4), {}), ((2.0, 3), {})], {"static_argnums": 1}),
    "static by either name": ([((1.0, 3), {}), ((1.0,), {"n": 3}), ((), {"x": 1.0, "n": 3})], {"static_argnames": "n"}),
    "static bool and int": (
        [((1.0,), {"flag": True}), ((1.0,), {"flag": 1}), ((1.0,), {"flag": False})],
        {"static_argnames": "flag"},
    ),
    "keyword order": ([((), {"x": 1.0, "n": 2}), ((), {"n": 2, "x": 1.0})], {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_number_of_traces(name):
    calls, options = CALLS[name]
    ours, theirs = (traces(lib, calls, **options) for lib in LIBRARIES)
    assert ours == theirs


def test_configuration_is_part_of_the_key():
    for lib in LIBRARIES:
        seen = []

        @lib.jit
        def f(x, seen=seen):
            seen.append(None)
            return x * 2

        f(X)
        with lib.enable_x64(True):
            assert f(np.float64(1.5)).dtype == np.float64
            f(X)
        f(X)
        assert len(seen) == 3, lib.__name__


def test_a_nested_function_is_traced_once_for_each_signature():
    for lib in LIBRARIES:
        count = 0

        def inner(x):
            nonlocal count
            count += 1
            return lib.numpy.sin(x) * x

        g = lib.jit(inner)
        lib.jit(lambda x: g(x) + g(x * 2) + g(g(x)))(X)
        assert count == 1, lib.__name__
        lib.jit(lib.grad(lambda x: (g(x) + g(x * 3)).sum()))(X)
        assert count == 1, lib.__name__


def test_derived_jaxprs_share_one_object():
    g = velax.jit(lambda x: jnp.sin(x) * x)
    jaxpr = velax.make_jaxpr(lambda x: velax.jvp(lambda x: g(x) + g(x * 2.0), (x,), (x,)))(X)
    calls = [e.params["jaxpr"] for e in jaxpr.eqns if e.primitive.name == "jit"]
    assert len(calls) == 2 and calls[0] is calls[1]


def test_clear_cache():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return x

    jitted = velax.jit(f)
    jitted(1.0)
    jitted.clear_cache()
    jitted(1.0)
    velax.clear_caches()
    jitted(1.0)
    assert count == 3


# -- disable_jit, make_jaxpr, eval_shape ---------------------------------------------------------


def test_disable_jit_runs_python_on_values():
    for lib in LIBRARIES:
        seen = []

        @lib.jit
        def f(x, seen=seen):
            seen.append(float(x))
            return x + 1

        with lib.disable_jit():
            assert float(f(1.0)) == 2.0 and float(f(1.0)) == 2.0
            with lib.disable_jit(False), pytest.raises(lib.errors.ConcretizationTypeError):
                f(1.0)
        assert seen == [1.0, 1.0]


def test_disable_jit_of_control_flow():
    def run(lib):
        with lib.disable_jit():
            a = lib.lax.scan(lambda c, x: (c + x, c * x), np.float32(1), X)
            b = lib.lax.cond(True, lambda x: x * 2, lambda x: x, np.float32(3))
            return a, b, lib.grad(lambda x: lib.jit(lambda y: y * y)(x))(3.0)

    compare(run, weak=False)


def test_make_jaxpr_options():
    def run(lib):
        closed, shape = lib.make_jaxpr(lambda x, n: {"y": x * n, "z": None}, static_argnums=1, return_shape=True)(X, 3)
        assert (shape["y"].shape, shape["y"].dtype, shape["z"]) == ((3,), np.float32, None)
        named = lib.make_jaxpr(lambda x: lib.lax.psum(x, "i"), axis_env=[("i", 4)])(X)
        assert named.eqns[0].primitive.name.startswith("psum")
        kept = lib.make_jaxpr(lib.jit(lambda x: lib.numpy.sin(x)))(1.0)
        return [v.aval.shape for v in closed.jaxpr.outvars], kept.eqns[0].primitive.name

    assert run(velax) == run(jax)


def test_eval_shape():
    def run(lib):
        s = lib.ShapeDtypeStruct((2, 3), np.float32)
        out = lib.eval_shape(lambda a, b, *, k: {"m": a @ b, "k": k + 1, "n": None}, s, X, k=1)
        jitted = lib.eval_shape(lib.jit(lambda a: a.astype("bfloat16").sum(0)), s)
        return [(x.shape, str(x.dtype), x.weak_type) for x in lib.tree_util.tree_leaves((out, jitted))]

    assert run(velax) == run(jax)


def test_stages():
    f = velax.jit(lambda x, y: {"z": x * y}, donate_argnums=1)
    traced = f.trace(X, velax.ShapeDtypeStruct((3,), np.float32))
    check_jaxpr(traced.jaxpr)
    assert traced.fun_name == "<lambda>" and traced.out_info["z"].shape == (3,)
    lowered = traced.lower()
    assert "mul" in lowered.as_text()
    compiled = lowered.compile()
    np.testing.assert_allclose(compiled(X, X)["z"], X * X)
    assert lowered.in_tree == compiled.in_tree and [
        a.donated for a in velax.tree_util.tree_leaves(lowered.args_info, is_leaf=lambda a: hasattr(a, "donated"))
    ] == [False, True]
    with pytest.raises(TypeError, match="compiled with float32"):
        compiled(X[:2], X[:2])
    with pytest.raises(TypeError, match="compiled with input pytree"):
        compiled(X)


def test_the_texts_of_stages_are_what_is_compiled():
    """The graph is shown without a compilation; references are gone from it; the program knows what is donated."""

    def f(x):
        ref = velax.new_ref(x)
        ref[1] = 5.0
        return ref[...]

    made = []
    driver.on_compile.append(made.append)
    try:
        lowered = velax.jit(f, donate_argnums=0).lower(X)
        assert "dynamic_update_slice" in lowered.as_text() and not made
        compiled = lowered.compile()
        assert made
    finally:
        driver.on_compile.remove(made.append)
    assert "alias input0" in compiled.as_text()
    assert "alias" not in velax.jit(f).lower(X).compile().as_text()


# -- values that outlive what made them ----------------------------------------------------------

TRANSFORMS = {
    "jit": lambda lib, f: lib.jit(f)(X),
    "grad": lambda lib, f: lib.grad(lambda x: f(x).sum())(X),
    "jvp": lambda lib, f: lib.jvp(f, (X,), (X,)),
    "linearize": lambda lib, f: lib.linearize(f, X),
    "vmap": lambda lib, f: lib.vmap(f)(X),
    "scan": lambda lib, f: lib.lax.scan(lambda c, x: (f(c), x), X, X),
    "cond": lambda lib, f: lib.lax.cond(lib.numpy.asarray(X)[0] > 0, f, lambda x: x, X),
    "checkpoint": lambda lib, f: lib.checkpoint(f)(X),
    "make_jaxpr": lambda lib, f: lib.make_jaxpr(f)(X),
}
USES = {
    "operator": lambda lib, x: x + 1,
    "function": lambda lib, x: lib.numpy.sin(x),
    "jit": lambda lib, x: lib.jit(lambda y: y + 1)(x),
    "closure of jit": lambda lib, x: lib.jit(lambda y: y + x)(1.0),
    "returned by jit": lambda lib, x: lib.jit(lambda: x)(),
    "index": lambda lib, x: lib.numpy.ones(3)[x.astype("int32")] if x.ndim == 0 else x[0],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_leaked_tracer(transform, use):
    def leak(lib):
        saved = []

        def f(x):
            saved.append(x * 2.0)
            return lib.numpy.sin(x)

        TRANSFORMS[transform](lib, f)
        return saved[0]

    try:
        USES[use](jax, leak(jax))
        allowed = True
    except jax.errors.UnexpectedTracerError:
        allowed = False
    if allowed:  # JAX evaluates on the primal that the tracer carries; Velax may as well
        return
    with pytest.raises(velax.errors.UnexpectedTracerError, match="Encountered an unexpected tracer"):
        USES[use](velax, leak(velax))


def test_checking_leaks():
    saved = []
    with velax.checking_leaks():
        with pytest.raises(
            velax._lang.errors.LeakedTracerError,
            match=r"(?s)the function .*test_jit_semantics.py.*JitTracer\(float32\[3\]\), made at .*test_jit_semantics.py",
        ):
            velax.jit(lambda x: saved.append(x * 2) or x)(X)
        velax.jit(velax.grad(lambda x: velax.lax.scan(lambda c, s: (c * s, s), x[0], x)[0]))(X)
        velax.vmap(velax.jit(lambda x: velax.checkpoint(jnp.sin)(x)))(X)


def test_tracers_print_as_in_jax():
    def run(lib):
        seen = []
        show = lambda x: seen.append(repr(x)) or x
        lib.jit(lambda x: show(x) + show(x * 2))(X)
        lib.grad(show)(1.0)
        lib.vmap(show)(X)
        lib.jvp(show, (1.0,), (2.0,))
        return seen

    assert run(velax) == run(jax)


def test_traces_and_arguments_are_released():
    class Marker:
        pass

    def use():
        marker = Marker()
        f = lambda x, marker=marker: x * 2
        velax.jit(f)(X)
        velax.grad(lambda x: f(x).sum())(X)
        velax.vmap(f)(X)
        return weakref.ref(marker)

    alive = use()
    gc.collect()
    assert alive() is None


def test_the_current_trace_is_restored_after_an_error():
    def fails(x):
        raise RuntimeError("stop")

    for call in (
        velax.jit(fails),
        velax.grad(fails),
        velax.vmap(fails),
        velax.make_jaxpr(fails),
        lambda x: velax.lax.scan(lambda c, y: fails(c), x, x),
    ):
        with pytest.raises(RuntimeError, match="stop"):
            call(X)
        assert velax._native.get_trace() is None
    np.testing.assert_allclose(velax.jit(lambda x: x + 1)(X), X + 1)


# -- values of subclasses ------------------------------------------------------------------------


class Color(enum.IntEnum):
    RED = 3


class Int(int):
    pass


class Real(float):
    pass


SUBCLASSES = {
    "IntEnum": Color.RED,
    "int": Int(5),
    "float": Real(2.5),
    "memmap": np.ones(3, np.float32).view(np.memmap),
    "matrix": np.array([[1, 2, 3]], np.int32).view(np.matrix),
    "masked": np.ma.array([1.0, 2.0], mask=[False, True]),
    "int too large": Int(2**40),
}
SUBCLASS_USES = {
    "jit": lambda lib, v: lib.jit(lambda x: x)(v),
    "nested": lambda lib, v: lib.jit(lambda x: x["a"] + 1)({"a": v}),
    "jnp": lambda lib, v: lib.numpy.add(1, v),
    "asarray": lambda lib, v: lib.numpy.asarray(v),
    "operator": lambda lib, v: lib.numpy.ones(3) + v,
    "in a trace": lambda lib, v: lib.jit(
        lambda x: lib.numpy.sin(x) + lib.lax.full_like(x, 1) * 2 + lib.numpy.where(x > 0, v, 1)
    )(1.0),
    "returned": lambda lib, v: lib.jit(lambda x: v)(1.0),
    "grad": lambda lib, v: lib.grad(lambda x: lib.numpy.sum(x * v))(2.0),
}


@pytest.mark.parametrize("use", SUBCLASS_USES)
@pytest.mark.parametrize("name", SUBCLASSES)
def test_values_of_subclasses(name, use):
    results = []
    for lib in LIBRARIES:
        try:
            out = SUBCLASS_USES[use](lib, SUBCLASSES[name])
            results.append((out.dtype, out.weak_type, np.asarray(out).tolist()))
        except (OverflowError, TypeError, ValueError) as error:
            results.append(type(error))
    assert results[0] == results[1]


# -- donation ------------------------------------------------------------------------------------


def test_donated_arguments_are_deleted():
    f = velax.jit(lambda x, y: x * 2 + y, donate_argnums=(0,))
    x, y = jnp.asarray(X) + 0, jnp.asarray(X) + 0
    np.testing.assert_allclose(f(x, y), X * 3, rtol=1e-6)
    assert x.is_deleted() and not y.is_deleted()
    with pytest.raises(RuntimeError, match="deleted"):
        x + 1
    by_name = velax.jit(lambda state: {"a": state["a"] + 1}, donate_argnames="state")
    state = {"a": jnp.zeros(3) + 1}
    by_name(state=state)
    assert state["a"].is_deleted()


DONATIONS = {
    "reused": lambda lib, x: lib.jit(lambda a: a + 1, donate_argnums=0)(x),
    "read later": lambda lib, x: lib.jit(lambda a: (a + 1, a + 2), donate_argnums=0)(x),
    "reversed": lambda lib, x: lib.jit(lambda a: a[::-1], donate_argnums=0)(x),
    "shared": lambda lib, x: (lib.jit(lambda a: a)(x), lib.jit(lambda a: a + 1, donate_argnums=0)(x)),
    "returned": lambda lib, x: lib.jit(lambda a: a, donate_argnums=0)(x),
    "of another shape": lambda lib, x: lib.jit(lambda a: a.sum(), donate_argnums=0)(x),
    "reshaped and read later": lambda lib, x: lib.jit(lambda a: (a[None], a.sum()), donate_argnums=0)(x),
    "of another dtype": lambda lib, x: lib.jit(lambda a: a[::-1].astype("int32"), donate_argnums=0)(x),
    "narrower": lambda lib, x: lib.jit(lambda a: a.astype("float16"), donate_argnums=0)(x),
    "unread": lambda lib, x: lib.jit(lambda a: lib.numpy.zeros(3), donate_argnums=0)(x),
}


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.parametrize("name", DONATIONS)
def test_which_donated_arrays_are_deleted(name):
    deleted = []
    for lib in LIBRARIES:
        x = lib.numpy.array(X)
        DONATIONS[name](lib, x)
        deleted.append(x.is_deleted())
    assert deleted[0] == deleted[1]


def test_deleted_arguments_that_are_not_read():
    for lib in LIBRARIES:
        x = lib.numpy.array(X)
        x.delete()
        assert lib.jit(lambda x, y: y + 1)(x, 2.0) == 3
        with pytest.raises(RuntimeError, match="deleted"):
            lib.jit(lambda x, y: x + y)(x, 2.0)


def test_donated_numpy_arrays_are_left_alone():
    x = X.copy()
    np.testing.assert_allclose(velax.jit(lambda x: x * 2, donate_argnums=0)(x), X * 2)
    np.testing.assert_array_equal(x, X)


# -- functions of all kinds ----------------------------------------------------------------------


def test_kinds_of_callables():
    class Callable:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            return x * self.k

        def method(self, x):
            return x + self.k

        @classmethod
        def of_class(cls, x):
            return x - 1

        @staticmethod
        def static(x):
            return x / 2

    def run(lib):
        c = Callable(3.0)
        functions = [
            c,
            c.method,
            Callable.of_class,
            Callable.static,
            functools.partial(lambda k, x: x**k, 2),
            lib.numpy.sin,
            lib.jit(c),
        ]
        return [(lib.jit(f)(2.0), lib.grad(f)(2.0), lib.vmap(f)(X), lib.checkpoint(f)(2.0)) for f in functions]

    compare(run)


def test_metadata():
    def f(x, *, k=1):
        """The text."""

    for lib in LIBRARIES:
        for transformed in (lib.jit(f), lib.vmap(f), lib.checkpoint(f), lib.custom_jvp(f), lib.custom_vjp(f)):
            assert transformed.__name__ == "f" and "The text." in transformed.__doc__, (lib.__name__, transformed)
        assert lib.jit(f).__wrapped__ is f


def test_jitted_methods_bind():
    def run(lib):
        class Model:
            scale = 3.0

            @functools.partial(lib.jit, static_argnums=0)
            def __call__(self, x):
                return x * self.scale

            @functools.partial(lib.jit, static_argnames=("self", "n"))
            def power(self, x, n):
                return x**n

        m = Model()
        return m(2.0), m.power(2.0, 3), m.power(x=2.0, n=2)

    compare(run)


def test_traces_belong_to_the_function_and_not_to_its_wrapper():
    def run(lib):
        count = 0

        def f(x):
            nonlocal count
            count += 1
            return x * 2

        results = [
            lib.jit(f)(X),
            lib.jit(f, donate_argnames="x")(X * 1),
            lib.make_jaxpr(f)(X).jaxpr.outvars[0].aval.shape,
        ]
        lib.eval_shape(f, X)
        lib.jit(f).clear_cache()
        results.append(lib.jit(f)(X))

        @functools.wraps(g := lib.jit(f))  # which copies its attributes
        def around(x):
            return g(x) + 1

        rule = lib.custom_jvp(g)
        rule.defjvp(lambda p, t: (p[0], 7.0 * t[0]))
        return [
            *results,
            lib.jit(around)(X),
            lib.grad(lambda x: lib.jit(around)(x).sum())(X),
            lib.grad(lib.jit(rule))(1.0),
            count,
        ]

    compare(run)


def test_what_a_trace_captures_lives_as_long_as_the_function():
    captured = jnp.ones(10)
    f = (lambda x: lambda: x)(captured)
    g = velax.jit(f)
    seen = weakref.ref(captured)
    del captured
    gc.disable()
    try:
        g()
        g()
        del f
        assert seen() is not None
        g()
        del g
        assert seen() is None
    finally:
        gc.enable()


def test_sizes_of_named_axes_are_part_of_the_key():
    def run(lib):
        f = lib.jit(lambda x: x * lib.lax.psum(1, "i"))
        step = lambda c, x: (c + lib.lax.psum(1, "i"), x)
        g = lambda x: lib.lax.scan(step, 0, lib.numpy.arange(2))[0] + x
        return [lib.vmap(h, axis_name="i")(np.ones(n, np.float32)) for h in (f, g) for n in (3, 4)]

    compare(run)


def test_donation_by_name_is_of_that_argument():
    def run(lib):
        f = lib.jit(lambda x, y: x + y, donate_argnames="y")
        return [f.lower(1.0, y=2.0).donate_argnums, f.lower(1.0, 2.0).donate_argnums]

    assert run(velax) == run(jax)


def test_debug_info():
    def run(lib):
        def f(x, y, *more, k, **named):
            return {"r": x, "s": [y]}

        traced = lib.jit(f, static_argnames="n").trace(1, {"a": 2}, 3, k=4, z=5, n=6)
        infos = [traced.jaxpr.jaxpr.debug_info]
        infos.append(
            lib.make_jaxpr(lambda x: lib.lax.scan(lambda c, y: (c + y, {"o": c * 2}), 0.0, x))(X)
            .eqns[-1]
            .params["jaxpr"]
            .jaxpr.debug_info
        )
        rule = lib.custom_jvp(lambda x: x * 2)
        rule.defjvp(lambda p, t: (p[0], t[0]))
        infos.append(lib.make_jaxpr(rule)(1.0).eqns[0].params["call_jaxpr"].jaxpr.debug_info)
        keep = [(i.traced_for, i.func_name, i.func_filename, i.func_lineno, i.arg_names) for i in infos]
        return [*keep, [tuple(i.result_paths) for i in infos[:2]]]

    assert run(velax) == run(jax)


def test_a_backward_rule_may_write_to_a_reference():
    def run(lib):
        @lib.custom_vjp
        def stash(ref, x):
            return x

        def bwd(ref, g):
            ref[...] = g
            return None, g

        stash.defvjp(lambda ref, x: (x, ref), bwd)
        refs = [lib.new_ref(lib.numpy.float32(0.0)) for _ in range(2)]
        loss = lambda x, ref: stash(ref, x) ** 2
        return [lib.grad(loss)(3.0, refs[0]), lib.jit(lib.grad(loss))(4.0, refs[1]), *(ref[...] for ref in refs)]

    compare(run)


def test_placement():
    def run(lib):
        device = lib.devices()[0]
        where = lib.sharding.SingleDeviceSharding(device)
        put = lib.device_put({"a": [X, 1], "b": 2.0}, {"a": device, "b": None})
        made = [
            lib.make_array_from_single_device_arrays((3,), where, [lib.numpy.asarray(X)]),
            lib.make_array_from_callback((3,), where, lambda index: X[index]),
            lib.make_array_from_process_local_data(where, X),
        ]
        leaves = [*lib.tree.leaves(put), *made]
        make = lib.make_array_from_process_local_data
        made += lib.tree.leaves(make({"a": where, "b": where}, {"a": X, "b": X[:2]}, {"a": (3,), "b": None}))
        for error, call in (
            (ValueError, lambda: lib.device_put([1, 2], [device])),
            (ValueError, lambda: lib.device_put(1, "cpu")),
            (ValueError, lambda: make(where, X, ())),
            (TypeError, lambda: lib.make_array_from_callback((3,), device, lambda index: X[index])),
            (TypeError, lambda: lib.make_array_from_single_device_arrays((3,), where, [X])),
        ):
            with pytest.raises(error):
                call()
        return [leaves, made, [x.committed for x in (*leaves, *made)], (leaves[0] + 1).committed]

    compare(run)
