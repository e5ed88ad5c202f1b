"""Options and corners of the transformations, as in JAX: weak types, argument numbers, auxiliary values,
rules that meet calls and loops.
"""

import importlib

import numpy as np
import pytest
from both_libraries import Cases, both_raise

import velax
import velax.numpy as jnp
from velax._lang.array import ArrayImpl
from velax._lang.errors import LeakedTracerError
from velax.ad_checkpoint import saved_residuals
from velax.interpreters.partial_eval import dce_jaxpr

V = np.array([0.3, -0.7, 1.1], np.float32)
case = Cases()


# -- weak types ----------------------------------------------------------------------------------


@case
def weak_types_of_derivatives_of_loops(lib):
    sin, scan = lib.numpy.sin, lib.lax.scan
    strong = lambda c: scan(lambda c, x: (sin(c * x), c), c, V)[0]
    weak = lambda c: scan(lambda c, _: (sin(c), c), c, None, length=3)
    const = lambda c: scan(lambda s, _: (sin(s * c), s), 1.0, None, length=3)[0]
    loop = lambda c: lib.lax.fori_loop(0, 3, lambda i, c: sin(c), c)
    functions = (strong, lambda c: weak(c)[0], lambda c: weak(c)[1].sum(), const, loop)
    return [[d(f)(0.5) for d in (lib.grad, lib.jacfwd, lib.jacrev, lib.hessian)] for f in functions], lib.grad(
        lib.grad(strong)
    )(0.5)


@case
def weak_types_of_jacobians(lib):
    functions = (
        lib.numpy.sin,
        lambda x: x * 2,
        lambda x: 3.0,
        lambda x: x * V,
        lib.jit(lambda x: x**3),
        lib.checkpoint(lambda x: x * x),
    )
    tree = lambda p: {"a": p["u"] * V, "b": p["v"]}
    jacobians = [[lib.jacfwd(f)(0.5), lib.jacrev(f)(0.5), lib.jacfwd(f)(np.float32(0.5))] for f in functions]
    return jacobians, lib.jacfwd(tree)({"u": 0.5, "v": 2.0}), lib.jacrev(tree)({"u": 0.5, "v": 2.0})


@case
def weak_types_of_gradients_of_jacobians(lib):
    jacobians = (lib.jacfwd, lib.jacrev, lib.hessian)
    nested = [lib.grad(d(f))(0.5) for d in jacobians for f in (lib.numpy.sin, lambda x: x**3)]
    return nested, [d(lambda p: p["u"] * V * p["v"])({"u": 0.5, "v": np.float32(2)}) for d in jacobians]


@case
def weak_types_of_derivatives_at_complex_numbers(lib):
    jnp, parts = (
        lib.numpy,
        (lib.numpy.real, lib.numpy.imag, lib.numpy.abs, lib.numpy.angle, lambda z: lib.numpy.real(z * z.conj())),
    )
    return (
        [lib.grad(f)(3 + 4j) for f in parts],
        lib.jvp(jnp.abs, (3 + 4j,), (1j,)),
        lib.grad(lambda x: lib.lax.complex(x, x).real)(3.0),
    )


@case
def integer_results_of_custom_rules(lib):
    f = lib.custom_jvp(lambda x: (x * x, lib.numpy.int32(3)))
    f.defjvp(lambda p, t: ((p[0] * p[0], lib.numpy.int32(3)), (3 * t[0], np.zeros((), lib.dtypes.float0))))
    return lib.grad(f, has_aux=True)(2.0), lib.jit(lib.grad(f, has_aux=True))(2.0)


# -- options -------------------------------------------------------------------------------------


@case
def argument_numbers(lib):
    f = lambda x, y: (x * y).sum()
    return lib.grad(f, argnums=np.int64(1))(V, V), lib.jacrev(f, argnums=-1)(V, 2 * V), lib.jacfwd(lambda x: (x, 3))(V)


@case
def jacobian_by_integers(lib):
    return lib.jacrev(lambda i, x: x * i, allow_int=True)(np.arange(3, dtype=np.int8), V)


@case
def integer_linear_transpose(lib):
    return lib.linear_transpose(lambda x: x * 2, 3)(3)


@case
def cotangents_of_integer_results(lib):
    _, vjp_fun = lib.vjp(lambda x: (x * 2, x.astype(int)), lib.numpy.asarray(V))
    return vjp_fun((V, np.zeros(3, int)))


@case
def cond_with_an_operand_that_is_none(lib):
    return lib.lax.cond(True, lambda _: 1, lambda _: 2, operand=None), lib.lax.switch(
        1, [lambda _: 1, lambda _: 2], operand=None
    )


@case
def loop_lengths(lib):
    return lib.lax.scan(lambda c, x: [c + 1, c], 0, None, length=3.0), lib.lax.fori_loop(
        0.0, 3.0, lambda i, c: c + i, 0
    )


@case
def offloading_policies(lib):
    policies = lib.checkpoint_policies
    chosen = [
        policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
        policies.save_and_offload_only_these_names(
            names_which_can_be_saved=["a"],
            names_which_can_be_offloaded=["b"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    ]
    return [lib.grad(lib.checkpoint(lambda x: lib.numpy.sin(lib.numpy.dot(x, x)), policy=p))(V) for p in chosen]


# -- derivative rules that apply other transformations -------------------------------------------


INNER = {
    "jit": lambda lib: lib.jit(lambda x: lib.numpy.sin(x) * x),
    "scan": lambda lib: lambda x: lib.lax.scan(lambda c, _: (lib.numpy.sin(c), c), x, None, length=3)[0],
    "stacked": lambda lib: lambda x: lib.lax.scan(lambda c, _: (lib.numpy.sin(c), c), x, None, length=3)[1].sum(),
    "cond": lambda lib: lambda x: lib.lax.cond(x > 0, lib.numpy.sin, lib.numpy.cos, x),
    "checkpoint": lambda lib: lib.checkpoint(lambda x: lib.numpy.sin(x) * x),
    "vmap": lambda lib: lambda x: lib.vmap(lib.jit(lambda y: lib.numpy.sin(y) * y))(lib.numpy.stack([x, x])).sum(),
    "cumsum": lambda lib: lambda x: lib.numpy.cumsum(lib.numpy.stack([x, -x * x]))[1],
}


def _squared(lib, f):
    """A rule that differentiates ``f`` itself, and uses its value next to its tangent."""
    g = lib.custom_jvp(lambda x: f(x) * f(x))

    @g.defjvp
    def rule(primals, tangents):
        y, t = lib.jvp(f, primals, tangents)
        return y * y, 2 * y * t

    return g


for _name, _inner in INNER.items():

    def _run(lib, inner=_inner):
        f = inner(lib)
        g, both = _squared(lib, f), lambda t: (lambda y, dy: y * dy)(*lib.jvp(f, (0.5,), (t,)))
        return (
            lib.grad(g)(0.5),
            lib.jit(lib.grad(lib.jit(g)))(0.5),
            lib.grad(lib.grad(g))(0.5),
            lib.grad(both)(0.5),
            lib.linear_transpose(both, 0.5)(1.0),
        )

    case.add(f"rule_with_jvp_of_{_name}", _run)


@case
def numbers_in_rules(lib):
    """A rule may return a number as tangent, and gets arrays as cotangents."""
    f = lib.custom_jvp(lambda x: x * 2)
    f.defjvp(lambda p, t: (f(*p), 1.0 * t[0]))
    g = lib.custom_vjp(lambda x: x * 2)
    g.defvjp(lambda x: (g(x), None), lambda _, ct: (ct.astype("float32").reshape(()) * 5,))
    h = lib.custom_vjp(lambda x, i: x * i)
    h.defvjp(lambda x, i: (x * i, i), lambda i, ct: (ct * i, 0))
    return lib.grad(f)(1.0), lib.grad(g)(1.0), lib.jit(lib.grad(g))(1.0), lib.grad(h)(2.0, 3)


# -- batching rules ------------------------------------------------------------------------------


def _batched_sum(lib):
    f = importlib.import_module(f"{lib.__name__}.custom_batching").custom_vmap(lambda x, y: x + y)

    @f.def_vmap
    def rule(axis_size, in_batched, x, y):
        return x * 10 + y, True

    return f


@case
def custom_vmap(lib):
    f, jvp = _batched_sum(lib), lambda f: lambda x, y: lib.jvp(f, (x, y), (x, 2.0 * y))
    W = lib.numpy.asarray(V)
    return (
        f(1.0, 2.0),
        lib.jit(lib.vmap(f))(W, W),
        lib.vmap(f, in_axes=(0, None))(W, 2.0) * 1,
        lib.vmap(jvp(f))(W, W),
        jvp(lib.vmap(f))(W, W),
    )


@case
def sequential_vmap(lib):
    f = importlib.import_module(f"{lib.__name__}.custom_batching").sequential_vmap(lambda x, y: {"a": x * y})
    return lib.vmap(f, in_axes=(0, None))(V, 2.0)


@pytest.mark.parametrize("name", case.names())
def test_as_in_jax(name):
    case.check(name)


@pytest.mark.parametrize("name", case.names())
def test_staged_in_one_program(name):
    case.check_staged(name)


# -- what differs from JAX on purpose, or has no value to compare --------------------------------


def test_results_of_evaluation_are_arrays():
    lax = velax.lax
    results = [
        lax.cond(True, lambda x: (x, V), lambda x: (x, V), 2.0), lax.switch(1, [lambda x: x] * 2, 2.0), lax.scan(lambda c, x: (c, x), 2.0, V),
        lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, c[1]), (0, 2.0)), lax.fori_loop(0, 2, lambda i, c: c, np.float32(1)),
    ]  # fmt: skip
    assert all(isinstance(x, ArrayImpl) for x in velax.tree_util.tree_leaves(results))


def test_any_auxiliary_value():
    f = lambda x: (x * 2, {"label": "text", "x": x, "n": 3})
    (value, aux), gradient = velax.value_and_grad(f, has_aux=True)(1.5)
    assert (float(value), float(gradient), aux["label"], float(aux["x"]), aux["n"]) == (3.0, 2.0, "text", 1.5, 3)


def test_reverse_mode_of_custom_vmap_is_that_of_the_function():
    f = velax.custom_batching.custom_vmap(jnp.sin)
    f.def_vmap(lambda n, batched, x: (jnp.sin(x), True))
    np.testing.assert_allclose(velax.vmap(velax.grad(f))(V), np.cos(V), rtol=1e-6)
    np.testing.assert_allclose(velax.grad(lambda x: velax.vmap(f)(x).sum())(V), np.cos(V), rtol=1e-6)


def test_dtypes_of_cotangents():
    f = velax.custom_vjp(lambda x: x * 2)
    f.defvjp(lambda x: (x * 2, None), lambda _, ct: (ct.astype("float16"),))
    assert velax.grad(f)(np.float32(1)).dtype == np.float32


@pytest.mark.parametrize(
    "rule, text",
    [
        (lambda n, b, x: x, "must return a pair"), (lambda n, b, x: (x, (True, True)), "do not match"),
        (lambda n, b, x: ((x,), (True,)), "but the function returns"), (lambda n, b, x: (x[:2], True), "leading axis of size 3"),
    ],
)  # fmt: skip
def test_mistakes_in_batching_rules(rule, text):
    f = velax.custom_batching.custom_vmap(lambda x: x)
    with pytest.raises(
        AttributeError, match="No batching rule defined for custom_vmap function <lambda> using def_vmap"
    ):
        f(1.0)
    f.def_vmap(rule)
    with pytest.raises(ValueError, match=text):
        velax.vmap(f)(V)


def test_messages_name_the_argument():
    both_raise(
        lambda lib: lib.grad(lambda p: p["n"] * 1.0)({"n": 2}),
        "TypeError",
        "grad requires real- or complex-valued inputs",
        "`p['n']`",
    )
    both_raise(
        lambda lib: lib.grad(lambda s: 1.0)("a"),
        "TypeError",
        "Argument 'a' of type <class 'str'> is not a valid JAX type",
        "`s` of <lambda>",
    )
    both_raise(
        lambda lib: lib.grad(lambda x, y: x * y, argnums=1)(1.0, y=2.0),
        "TypeError",
        "requires at least 2 positional arguments",
        "keyword",
    )
    both_raise(
        lambda lib: lib.jit(lambda n: lib.lax.scan(lambda c, x: (c, x), 0, None, length=n))(3),
        "TypeError",
        "The `length` argument",
        "while_loop",
    )
    both_raise(
        lambda lib: lib.jit(lambda x: x.item())(1.0), "TypeError", "Abstract tracer value encountered", "item() method"
    )
    both_raise(lambda lib: lib.checkpoint(lambda x: x, static_argnums=3)(1.0), "ValueError", "static_argnums")
    with pytest.raises(TypeError, match="one argument, the cotangent in the structure of the output"):
        velax.vjp(lambda x: x, V)[1](V, V)


def test_leaks_of_mapped_values():
    kept = []
    with velax.checking_leaks(), pytest.raises(LeakedTracerError, match="VmapTracer"):
        velax.vmap(lambda x: kept.append(x) or x)(V)


def test_sizes_of_traced_arrays():
    found = []
    velax.jit(lambda x: found.append((x.nbytes, x.itemsize)))(V)
    assert found == [(12, 4)]
    with pytest.raises(TypeError, match="item deletion"):
        velax.jit(lambda x: x.__delitem__(0))(V)


def test_stages_without_static_arguments():
    compiled = velax.jit(lambda x, n: x * n, static_argnums=1, donate_argnums=0).lower(V, 3).compile()
    np.testing.assert_allclose(compiled(jnp.asarray(V)), 3 * V)
    assert compiled.donate_argnums == (0,) and compiled.in_tree.num_leaves == 1
    with pytest.raises(RuntimeError, match="Unknown backend nowhere"):
        velax.jit(lambda x: x, backend="nowhere")


def test_effects_of_a_smaller_jaxpr():
    """Effects on references keep to them when inputs before them go; a read whose value is not used goes."""

    def f(unused, r, s, x):
        s[...] += x
        r[...]
        return x * 2, unused

    closed = velax.make_jaxpr(f)(1.0, velax.new_ref(1.0), velax.new_ref(2.0), 3.0)
    smaller, used = dce_jaxpr(closed.jaxpr, [True, False])
    assert used == [False, False, True, True] and sorted(map(repr, smaller.effects)) == [
        "ReadEffect(0)",
        "WriteEffect(0)",
    ]


def test_locations_outlive_transformations():
    """The equations of a derivative are at the lines of what was differentiated."""
    closed = velax.make_jaxpr(velax.grad(velax.jit(lambda x: jnp.sin(x) * x)))(1.0)
    eqns = [e for eqn in closed.jaxpr.eqns for e in eqn.params["jaxpr"].jaxpr.eqns]
    assert eqns and all(e.source_info.code.co_qualname.endswith("<lambda>") for e in eqns)


def test_saved_residuals():
    f = lambda x: jnp.sin(jnp.sin(x))
    assert [where.split(" from ")[0] for _, where in saved_residuals(f, 1.0)] == ["output of cos"] * 2
    assert [where for _, where in saved_residuals(velax.checkpoint(f), 1.0)] == ["from the argument x"]
