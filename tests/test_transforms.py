"""The public transformations one by one: every option, on the same functions as JAX."""

import functools
import importlib

import numpy as np
import pytest
from both_libraries import Cases, compare

case = Cases()

X = np.linspace(0.1, 1.2, 6, dtype=np.float32).reshape(2, 3)
V = VECTOR = np.array([0.3, -0.7, 1.1], np.float32)


def loss(lib):
    jnp = lib.numpy
    return lambda w, x: jnp.sum(jnp.tanh(x @ w["w"] + w["b"]) ** 2)


def parameters(lib):
    return {"w": lib.numpy.asarray(V), "b": 0.5}


# -- jit -----------------------------------------------------------------------------------------


@case
def jit_square_of_integers(lib):
    return lib.jit(lambda x: x**2)(lib.numpy.array([1, 2, 3, 4]))


@case
def jit_keyword_arguments(lib):
    f = lib.jit(lambda x, *, scale, shift=1.0: x * scale + shift)
    return f(V, scale=2.0), f(V, scale=2.0, shift=V), f(x=V, scale=3)


@case
def jit_pytrees_with_none(lib):
    return lib.jit(lambda t: {"a": (t[0], None), "b": [t[1]["x"] * 2, None]})((1.0, {"x": V, "y": None}))


@case
def jit_static_arguments(lib):
    f = lib.jit(lambda n, x, mode: x * n if mode == "mul" else x + n, static_argnums=(0,), static_argnames="mode")
    return f(3, V, mode="mul"), f(3, x=V, mode="add")


@case
def jit_decorator_with_options(lib):
    @lib.jit(static_argnums=1)
    def f(x, n):
        return x.reshape(n)

    return f(X, (3, 2))


@case
def jit_method(lib):
    class Model:
        def __init__(self, w):
            self.w = w

        @lib.jit
        def bound(this, x):
            return x

    class Other:
        @functools.partial(lib.jit, static_argnums=0)
        def apply(self, x):
            return x * 2

    return Other().apply(V)


@case
def jit_nested_and_closures(lib):
    scale = lib.numpy.asarray(V)
    inner = lib.jit(lambda x: x * scale)
    return lib.jit(lambda x: inner(x) + inner(x + 1.0))(V)


@case
def jit_weak_types(lib):
    f = lib.jit(lambda x: (x, x + 1, x * V[0], x > 0, 1, 2.0, True, 1j))
    return f(1), f(2.0), f(lib.numpy.int32(1)), f(np.float32(3)), f(np.int64(3))


@case
def jit_inline_and_keep_unused(lib):
    f = lib.jit(lambda x, y: x + 1, inline=True, keep_unused=True)
    return f(V, X), lib.jit(lambda x: f(x, x))(V)


@case
def jit_constant_results(lib):
    return lib.jit(lambda: (1, lib.numpy.arange(3), np.float32(2)))()


@case
def jit_of_numpy_inputs(lib):
    return lib.jit(lambda x, y: x + y)(np.arange(3), np.arange(3.0))


@case
def jit_donation(lib):
    return lib.jit(lambda x, y: (x + y, y * 2), donate_argnums=0)(lib.numpy.asarray(V), V)


# -- grad ----------------------------------------------------------------------------------------


@case
def grad_of_polynomial(lib):
    f = lambda x: x**2 + 2 * x + 1
    return lib.grad(f)(3.0), lib.grad(lib.grad(f))(3.0)


@case
def grad_trees(lib):
    return lib.grad(loss(lib))(parameters(lib), X)


@case
def grad_argnums(lib):
    f = loss(lib)
    p = parameters(lib)
    return lib.grad(f, argnums=1)(p, X), lib.grad(f, argnums=(1, 0))(p, X), lib.grad(f, argnums=(-1,))(p, X)


@case
def grad_has_aux(lib):
    f = lambda x, y: (lib.numpy.sum(x * y), {"y": y, "x2": x * 2, "n": 3})
    return lib.grad(f, has_aux=True)(V, 2.0), lib.value_and_grad(f, argnums=(0, 1), has_aux=True)(V, 2.0)


@case
def grad_keywords_are_constants(lib):
    return lib.grad(lambda x, scale: x * scale)(2.0, scale=3.0)


@case
def grad_of_unused_and_integer(lib):
    f = lambda x, y, n: x * x + n
    return lib.grad(f, argnums=(0, 1))(2.0, V, 3)


@case
def grad_holomorphic(lib):
    return lib.grad(lambda z: z**3, holomorphic=True)(1.0 + 2.0j)


@case
def grad_of_complex_to_real(lib):
    return lib.grad(lambda x: lib.numpy.real((x + 1j) ** 2))(2.0), lib.vjp(
        lambda z: lib.numpy.abs(z), np.complex64(3 + 4j)
    )[1](np.float32(1))


@case
def grad_stop_gradient(lib):
    sg = lib.lax.stop_gradient
    return lib.grad(lambda x: x * sg(x))(3.0), lib.grad(lambda x: sg({"a": x})["a"])(3.0), lib.jvp(sg, (2.0,), (1.0,))


@case
def grad_tanh_to_fourth_order(lib):
    f, results = lib.numpy.tanh, []
    for _ in range(4):
        f = lib.grad(f)
        results.append(f(0.7))
    return results


@case
def jvp_tanh_to_fourth_order(lib):
    f, results = lib.numpy.tanh, []
    for _ in range(4):
        f = lambda x, f=f: lib.jvp(f, (x,), (1.0,))[1]
        results.append(f(0.7))
    return results


@case
def grad_through_none_and_tuples(lib):
    return lib.grad(lambda t: t[0] * t[2][0])((2.0, None, [3.0]))


@case
def grad_bfloat16_and_float16(lib):
    f = lambda x: (x * x).sum()
    return [lib.grad(f)(lib.numpy.asarray(V, d)) for d in ("bfloat16", "float16")]


# -- jvp, vjp, linearize -------------------------------------------------------------------------


@case
def jvp_trees_and_aux(lib):
    f = lambda t, s: ({"y": t["a"] * s, "z": 1.0}, t["a"])
    return lib.jvp(f, ({"a": V}, 2.0), ({"a": V}, 1.0), has_aux=True), lib.jvp(
        lambda x, y: x * y, [2.0, 3.0], [1.0, 0.0]
    )


@case
def jvp_constant_output(lib):
    return lib.jvp(lambda x: (3.0, x), (1.0,), (1.0,))


@case
def vjp_trees_and_aux(lib):
    f = lambda t, s: ({"y": t["a"] * s}, t["a"] + 1)
    out, pull, aux = lib.vjp(f, {"a": V}, 2.0, has_aux=True)
    return out, aux, pull({"y": V})


@case
def vjp_multiple_outputs(lib):
    out, pull = lib.vjp(lambda x, y: (x * y, lib.numpy.sin(x), y), 2.0, 3.0)
    return out, pull((1.0, 2.0, 3.0)), pull((0.0, 0.0, 1.0))


@case
def vjp_under_jit(lib):
    def f(x, ct):
        out, pull = lib.vjp(lambda x: lib.numpy.sin(x) * x, x)
        return out, pull(ct)

    return lib.jit(f)(V, V)


@case
def vjp_function_passes_through_jit(lib):
    out, pull = lib.jit(lambda x: lib.vjp(lib.numpy.sin, x))(V)
    return out, lib.jit(lambda p, ct: p(ct))(pull, V)


@case
def linearize_reuses_residuals(lib):
    out, f_jvp = lib.linearize(lambda x, y: (lib.numpy.sin(x) * y, y), V, 2.0)
    return out, f_jvp(V, 1.0), f_jvp(V * 2, 0.0), lib.vmap(lambda t: f_jvp(t, 1.0))(np.stack([V, V * 3]))


@case
def linearize_has_aux(lib):
    out, f_jvp, aux = lib.linearize(lambda x: (x * x, {"k": x + 1}), V, has_aux=True)
    return out, f_jvp(V), aux


@case
def linearize_then_transpose(lib):
    _, f_jvp = lib.linearize(lambda x: lib.numpy.sin(x).sum(), V)
    return lib.linear_transpose(f_jvp, V)(np.float32(1.0)), lib.grad(f_jvp)(V)


@case
def linear_transpose_functions(lib):
    f = lambda x, y: (3.0 * x + y, -y)
    return lib.linear_transpose(f, V, V)((V, V)), lib.linear_transpose(
        lambda x: X @ x, lib.ShapeDtypeStruct((3,), np.float32)
    )(np.ones(2, np.float32))


@case
def jacobians(lib):
    f = lambda x, y: {"a": lib.numpy.sin(x) * y, "b": x.sum()}
    return (
        lib.jacfwd(f)(V, 2.0), lib.jacrev(f)(V, 2.0), lib.jacfwd(f, argnums=(0, 1))(V, 2.0), lib.jacrev(f, argnums=(0, 1))(V, 2.0),
    )  # fmt: skip


@case
def jacobians_with_aux(lib):
    f = lambda x: (lib.numpy.sin(x), {"c": x.sum()})
    return lib.jacfwd(f, has_aux=True)(V), lib.jacrev(f, has_aux=True)(V)


@case
def jacobians_of_and_by_integers(lib):
    f = lambda x: ((x * 2).astype("int32"), x * x)
    return (
        lib.jacfwd(f)(V),
        lib.jacfwd(f)(np.float32(1.0)),
        lib.jacrev(lambda n: n * 2.0, allow_int=True)(np.arange(3)),
        lib.grad(lambda p: p["x"] * p["n"], allow_int=True)({"x": 2.0, "n": 3}),
    )


@case
def nested_derivatives_are_not_confused(lib):
    return (
        lib.grad(lambda x: x * lib.grad(lambda y: x + y)(1.0))(1.0), lib.grad(lambda x: lib.grad(lambda y: x * y**3)(x))(2.0),
        lib.jvp(lambda x: lib.jvp(lambda y: x * y, (x,), (1.0,))[1] * x, (3.0,), (1.0,)),
    )  # fmt: skip


@case
def jacobian_holomorphic(lib):
    z = lib.numpy.asarray([1 + 2j, 3 - 1j], "complex64")
    f = lambda z: z**2
    return lib.jacfwd(f, holomorphic=True)(z), lib.jacrev(f, holomorphic=True)(z)


@case
def hessians(lib):
    f = lambda x: lib.numpy.sum(lib.numpy.sin(x) * x[0])
    g = lambda p: (p["x"] ** 2).sum() * p["y"]
    return (
        lib.hessian(f)(V),
        lib.hessian(g)({"x": V, "y": 2.0}),
        lib.jacrev(lib.jacrev(f))(V),
        lib.jacfwd(lib.jacfwd(f))(V),
        lib.jacrev(lib.jacfwd(f))(V),
    )


@case
def forward_and_backward_split(lib):
    fwd, bwd = (
        lib.fwd_and_bwd(lambda x, y: (x * y).sum(), argnums=(0, 1)) if hasattr(lib, "fwd_and_bwd") else (None, None)
    )
    out, pull = fwd(V, V + 1)
    return out, bwd(pull, np.float32(2.0))


# -- vmap ----------------------------------------------------------------------------------------


@case
def vmap_axes(lib):
    f = lambda x, y: x * y + 1
    B = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return (
        lib.vmap(f)(X, X), lib.vmap(f, in_axes=(0, None))(X, 2.0), lib.vmap(f, in_axes=(1, 0))(X, X.T), lib.vmap(f, in_axes=(-1, None), out_axes=-1)(B, V[:2, None]),
        lib.vmap(f, (None, 0), 1)(V, X),
    )  # fmt: skip


@case
def vmap_axis_trees(lib):
    f = lambda p, x: {"out": p["w"] * x + p["b"], "b": p["b"]}
    p = {"w": X, "b": 1.0}
    return (
        lib.vmap(f, in_axes=({"w": 0, "b": None}, 0), out_axes={"out": 1, "b": None})(p, X),
        lib.vmap(lambda t: t[0] + t[1][0], in_axes=((0, [None]),))((X, [V])),
        lib.vmap(lambda x, *, k: x + k)(X, k=X),
    )


@case
def vmap_of_none(lib):
    return lib.vmap(lambda t: (t[0] * 2, None))((X, None))


@case
def vmap_axis_size_and_unmapped_results(lib):
    return (
        lib.vmap(lambda: 3.0, axis_size=4)(),
        lib.vmap(lambda x: (x, 1.0, V), out_axes=(0, None, 1))(X),
        lib.vmap(lambda x: 2, axis_size=2)(X),
    )


@case
def vmap_collectives(lib):
    lax = lib.lax
    f = lambda x: (
        x - lax.pmean(x, "i"),
        lax.psum(1, "i"),
        lax.psum(x, "i"),
        lax.axis_index("i"),
        lax.pmax(x, "i"),
        lax.pmin(x, "i"),
    )
    return lib.vmap(f, axis_name="i")(X)


@case
def vmap_nested_axis_names(lib):
    lax = lib.lax
    f = lambda x: (
        lax.psum(x, "i"),
        lax.psum(x, ("i", "j")),
        lax.axis_index("j") + 10 * lax.axis_index("i"),
        lax.axis_size("j"),
    )
    return lib.vmap(lib.vmap(f, axis_name="j"), axis_name="i")(X)


@case
def vmap_gather_collectives(lib):
    lax = lib.lax
    f = lambda x: (
        lax.all_gather(x, "i"),
        lax.ppermute(x, "i", [(0, 1), (1, 0)]),
        lax.all_gather(x, "i", axis=1, tiled=False),
    )
    return lib.vmap(f, axis_name="i")(np.stack([X, X * 2]))


@case
def vmap_collective_gradient(lib):
    f = lambda x: lib.vmap(lambda v: lib.lax.psum(v, "i") * v, axis_name="i")(x).sum()
    return lib.grad(f)(V), lib.jvp(f, (V,), (V,))


@case
def vmap_of_jit_with_collective(lib):
    f = lib.jit(lambda x: x / lib.lax.psum(x, "i"))
    return lib.vmap(f, axis_name="i")(V), lib.jit(lib.vmap(f, axis_name="i"))(V)


@case
def vmap_of_grad_and_jacobian(lib):
    f = lambda x: lib.numpy.sin(x).prod()
    return lib.vmap(lib.grad(f))(X), lib.vmap(lib.jacfwd(lib.numpy.sin))(X), lib.vmap(lib.hessian(f))(X)


@case
def vmap_of_conversions_and_scalars(lib):
    return lib.vmap(lambda x: (x.astype("int32"), x.dtype == "float32", lib.numpy.float16(x)))(V)


# -- custom_jvp ----------------------------------------------------------------------------------


def doubled_sine(lib):
    @lib.custom_jvp
    def f(x):
        return lib.numpy.sin(x)

    @f.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), 2.0 * lib.numpy.cos(x) * t

    return f


@case
def custom_jvp_everywhere(lib):
    V = lib.numpy.asarray(VECTOR)
    f = doubled_sine(lib)
    g = lambda x: f(x).sum()
    return (
        f(1.0), lib.grad(f)(1.0), lib.jvp(f, (1.0,), (1.0,)), lib.grad(lib.grad(f))(1.0), lib.vmap(f)(V), lib.vmap(lib.grad(f))(V),
        lib.grad(lambda x: lib.vmap(f)(x).sum())(V), lib.jit(lib.grad(g))(V), lib.grad(lib.jit(g))(V), lib.hessian(g)(V),
    )  # fmt: skip


@case
def custom_jvp_nondiff_argnums(lib):
    V = lib.numpy.asarray(VECTOR)

    @functools.partial(lib.custom_jvp, nondiff_argnums=(0, 2))
    def apply(fn, x, n):
        return fn(x) * n

    @apply.defjvp
    def rule(fn, n, primals, tangents):
        (x,), (t,) = primals, tangents
        return apply(fn, x, n), t * n * 10.0

    g = lambda x: apply(lib.numpy.sin, x, 3)
    return g(1.0), lib.grad(g)(1.0), lib.jit(lib.grad(g))(1.0), lib.vmap(lib.grad(g))(V)


@case
def custom_jvp_defjvps(lib):
    @lib.custom_jvp
    def f(x, y):
        return x * y

    f.defjvps(lambda t, out, x, y: t * y * 2, lambda t, out, x, y: t * out)
    g = lib.custom_jvp(lambda x, y: x + y)
    g.defjvps(None, lambda t, out, x, y: 5.0 * t)
    return lib.grad(f, (0, 1))(2.0, 3.0), lib.jvp(f, (2.0, 3.0), (1.0, 1.0)), lib.grad(g, (0, 1))(2.0, 3.0)


@case
def custom_jvp_symbolic_zeros(lib):
    seen = []
    f = lib.custom_jvp(lambda x, y: x * y)

    def rule(primals, tangents):
        x, y = primals
        zero = [type(t) is lib.custom_derivatives.SymbolicZero for t in tangents]
        seen.append(zero)
        tangent = 0.0 if zero[0] else tangents[0] * y * 3
        if not zero[1]:
            tangent = tangent + tangents[1] * x * 5
        return f(x, y), tangent

    f.defjvp(rule, symbolic_zeros=True)
    results = (
        lib.grad(f, 0)(2.0, 3.0),
        lib.grad(f, 1)(2.0, 3.0),
        lib.grad(f, (0, 1))(2.0, 3.0),
        lib.jit(lib.grad(f, 0))(2.0, 3.0),
    )
    return results, np.array(seen)


@case
def custom_jvp_trees_defaults_and_keywords(lib):
    @lib.custom_jvp
    def f(p, scale=2.0):
        return {"y": p["x"] * scale}

    @f.defjvp
    def rule(primals, tangents):
        p, scale = primals
        return f(p, scale), {"y": tangents[0]["x"] * scale * 7}

    g = lambda p: f(p)["y"].sum()
    return lib.grad(g)({"x": V}), lib.grad(lambda p: f(p, scale=3.0)["y"].sum())({"x": V}), f({"x": V})


@case
def custom_jvp_closing_over_a_tracer(lib):
    def outer(x):
        f = lib.custom_jvp(lambda y: y * x)
        f.defjvp(lambda p, t: (f(*p), t[0] * x * 2))
        return f(x + 1)

    return outer(2.0), lib.jit(outer)(2.0), lib.vmap(outer)(V)


@case
def custom_jvp_in_scan(lib):
    f = doubled_sine(lib)
    g = lambda x: lib.lax.scan(lambda c, _: (f(c), c), x, None, length=3)[0]
    return g(0.5), lib.grad(g)(0.5), lib.vmap(lib.grad(g))(V), lib.jvp(g, (0.5,), (1.0,))


# -- custom_vjp ----------------------------------------------------------------------------------


def scaled_gradient(lib):
    @lib.custom_vjp
    def f(x, y):
        return lib.numpy.sin(x) * y

    f.defvjp(lambda x, y: (f(x, y), (x, y)), lambda res, g: (g * 10.0 * res[1], g * lib.numpy.cos(res[0])))
    return f


@case
def custom_vjp_everywhere(lib):
    V = lib.numpy.asarray(VECTOR)
    f = scaled_gradient(lib)
    g = lambda x: f(x, x + 1).sum()
    return (
        f(1.0, 2.0), lib.grad(f, (0, 1))(1.0, 2.0), lib.vjp(f, 1.0, 2.0)[1](1.0), lib.vmap(f)(V, V), lib.vmap(lib.grad(f), (0, None))(V, 2.0),
        lib.grad(lambda x: lib.vmap(f)(x, x).sum())(V), lib.jit(lib.grad(g))(V), lib.grad(lib.jit(g))(V), lib.grad(lambda x: lib.grad(g)(x).sum())(V),
    )  # fmt: skip


@case
def custom_vjp_unmapped_argument(lib):
    V = lib.numpy.asarray(VECTOR)
    f = scaled_gradient(lib)
    return lib.grad(lambda y: lib.vmap(f, (0, None))(V, y).sum())(2.0), lib.grad(
        lambda y: lib.vmap(lambda x: f(x, y))(V).sum()
    )(2.0)


@case
def custom_vjp_nondiff_argnums(lib):
    @functools.partial(lib.custom_vjp, nondiff_argnums=(0,))
    def apply(fn, x):
        return fn(x)

    apply.defvjp(lambda fn, x: (fn(x), x), lambda fn, x, g: (fn(g) * x,))
    g = lambda x: apply(lib.numpy.sin, x)
    return g(1.0), lib.grad(g)(1.0), lib.jit(lib.grad(g))(1.0), lib.vmap(lib.grad(g))(V)


@case
def custom_vjp_nondiff_argnames(lib):
    @functools.partial(lib.custom_vjp, nondiff_argnames=("fn",))
    def apply(x, fn):
        return fn(x)

    apply.defvjp(lambda x, fn: (fn(x), x), lambda fn, x, g: (g * x * 3,))
    return lib.grad(lambda x: apply(x, lib.numpy.sin))(2.0)


@case
def custom_vjp_none_cotangents(lib):
    f = lib.custom_vjp(lambda p, n, x: p["a"] * x + n)
    f.defvjp(lambda p, n, x: (f(p, n, x), x), lambda x, g: (None, None, 2 * g))
    g = lib.custom_vjp(lambda p: p["a"] * p["b"])
    g.defvjp(lambda p: (g(p), p["b"]), lambda b, ct: ({"a": ct * b * 4, "b": None},))
    return lib.grad(f, (0, 2))({"a": 2.0}, 3, 4.0), lib.grad(g)({"a": 2.0, "b": 3.0})


@case
def custom_vjp_symbolic_zeros(lib):
    seen = []
    f = lib.custom_vjp(lambda x, y: (x * y, x + y))

    def fwd(x, y):
        seen.append([x.perturbed, y.perturbed])
        return (x.value * y.value, x.value + y.value), (x.value, y.value)

    def bwd(res, cts):
        zero = [type(ct) is lib.custom_derivatives.SymbolicZero for ct in cts]
        seen.append(zero)
        return cts[0] * res[1], cts[0] * res[0] * 3

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    g = lambda x, y: f(x, y)[0]
    results = lib.grad(g, 0)(2.0, 3.0), lib.grad(g, 1)(2.0, 3.0), lib.grad(g, (0, 1))(2.0, 3.0)
    return results, np.array(seen)


@case
def custom_vjp_pytrees_and_integers(lib):
    f = lib.custom_vjp(lambda p, i: {"out": p[0][i] * p[1]})
    f.defvjp(
        lambda p, i: (f(p, i), (p, i)), lambda res, g: ((lib.numpy.ones(3, "float32") * g["out"], g["out"] * 2), None)
    )
    g = lambda p, i: f(p, i)["out"]
    return (
        lib.grad(g)((V, 2.0), 1),
        lib.jit(lib.grad(g))((V, 2.0), 1),
        lib.vmap(lib.grad(g), (None, 0))((V, 2.0), lib.numpy.arange(3)),
    )


@case
def custom_vjp_closing_over_a_tracer(lib):
    def outer(x):
        f = lib.custom_vjp(lambda y: y * x)
        f.defvjp(lambda y: (f(y), None), lambda _, g: (g * 7.0,))
        return f(lib.numpy.float32(3.0))

    return lib.jit(outer)(2.0), lib.vmap(outer)(V)


@case
def custom_vjp_in_scan_and_cond(lib):
    f = scaled_gradient(lib)
    g = lambda x: lib.lax.scan(lambda c, _: (f(c, c), c), x, None, length=3)[0]
    h = lambda x: lib.lax.cond(x > 0, lambda x: f(x, x), lambda x: x, x)
    return g(0.5), lib.grad(g)(0.5), lib.vmap(lib.grad(g))(V), lib.grad(h)(0.5), lib.vmap(lib.grad(h))(V)


@case
def custom_vjp_defaults(lib):
    @lib.custom_vjp
    def f(x, scale=3.0):
        return x * scale

    f.defvjp(lambda x, scale=3.0: (f(x, scale), scale), lambda scale, g: (g * scale * 2, None))
    return lib.grad(f)(1.0), lib.grad(lambda x: f(x, scale=5.0))(1.0)


# -- built on custom rules -----------------------------------------------------------------------


@case
def custom_gradients(lib):
    f = lib.custom_gradient(lambda x: (x**2, lambda g: (g * x,)))
    g = lib.custom_gradient(lambda x, y: (x * y, lambda ct: (ct * y * 2, ct * x * 3)))
    return f(3.0), lib.grad(f)(3.0), lib.grad(g, (0, 1))(2.0, 3.0), lib.jit(lib.grad(f))(3.0), lib.vmap(lib.grad(f))(V)


@case
def closure_conversion(lib):
    def outer(x):
        converted, consts = lib.closure_convert(lambda y: lib.numpy.sin(x) * y * V[0], 1.0)
        return converted(2.0, *consts) * len(consts)

    return outer(1.0), lib.grad(outer)(1.0), lib.jit(outer)(1.0)


@case
def linear_calls(lib):
    linear_call = lib.custom_derivatives.linear_call

    def f(r, x):
        return linear_call(lambda r, x: x / r, lambda r, ct: ct / r * 3.0, r, x)

    return (
        f(2.0, 3.0),
        lib.jvp(lambda x: f(2.0, x), (3.0,), (1.0,)),
        lib.grad(lambda x: f(2.0, x))(3.0),
        lib.jit(lib.grad(lambda x: f(2.0, x)))(3.0),
    )


# -- checkpoint ----------------------------------------------------------------------------------


def deep(lib):
    return lambda x: lib.numpy.sin(lib.numpy.exp(lib.numpy.sin(x)) * x).sum()


@case
def checkpoint_values_and_derivatives(lib):
    f = deep(lib)
    c = lib.checkpoint(f)
    return (
        c(V), lib.grad(c)(V), lib.jvp(c, (V,), (V,)), lib.hessian(c)(V), lib.jit(lib.grad(c))(V), lib.vmap(lib.grad(c))(X), lib.linearize(c, V)[1](V),
    )  # fmt: skip


@case
def checkpoint_options(lib):
    f = lambda x, n, flag=True: lib.numpy.sin(x) ** n if flag else x
    c = lib.checkpoint(f, static_argnums=(1, 2), prevent_cse=False)
    return lib.grad(lambda x: c(x, 3, True).sum())(V), lib.remat(lambda t, k=2: {"a": t["a"] * k})({"a": V}, k=3)


@case
def checkpoint_policies(lib):
    P, name = lib.checkpoint_policies, importlib.import_module(f"{lib.__name__}.ad_checkpoint").checkpoint_name

    def f(w, x):
        h = name(lib.numpy.tanh(x @ w), "hidden")
        return (lib.numpy.sin(h) @ w[:2]).sum()

    w = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
    policies = [
        None, P.everything_saveable, P.nothing_saveable, P.dots_saveable, P.dots_with_no_batch_dims_saveable, P.save_only_these_names("hidden"),
        P.save_any_names_but_these("hidden"), P.save_anything_except_these_names("hidden"), P.save_from_both_policies(P.dots_saveable, P.save_only_these_names("hidden")),
    ]  # fmt: skip
    return [lib.grad(lib.checkpoint(f, policy=p))(w, X) for p in policies]


@case
def checkpoint_of_scan_and_scan_of_checkpoint(lib):
    body = lambda c, x: (lib.numpy.sin(c * x), c)
    inner = lambda c: lib.lax.scan(lib.checkpoint(body), c, V)[0]
    outer = lib.checkpoint(lambda c: lib.lax.scan(body, c, V)[0])
    return lib.grad(inner)(0.5), lib.grad(outer)(0.5), lib.grad(lib.grad(inner))(0.5), lib.vmap(lib.grad(outer))(V)


@case
def checkpoint_closing_over_a_tracer(lib):
    f = lambda x: lib.checkpoint(lambda y: lib.numpy.sin(y) * x)(x * 2)
    return lib.grad(f)(0.5), lib.jit(lib.grad(f))(0.5), lib.grad(lib.grad(f))(0.5)


# -- while tracing -------------------------------------------------------------------------------


@case
def compile_time_evaluation(lib):
    def f(x):
        with lib.ensure_compile_time_eval():
            n = int(lib.numpy.arange(4).sum())
        return x * n

    return lib.jit(f)(2.0), lib.grad(f)(2.0), lib.vmap(f)(V)


@case
def named_scopes(lib):
    def f(x):
        with lib.named_scope("layer"):
            return lib.numpy.sin(x)

    return lib.jit(f)(V), lib.grad(f)(1.0), lib.named_call(f, name="g")(V)


@pytest.mark.parametrize("name", case.names())
def test_as_in_jax(name):
    case.check(name)


@pytest.mark.parametrize("name", case.names())
def test_staged_in_one_program(name):
    case.check_staged(name)


def test_grad_of_python_control_flow():
    def f(x):
        while x < 10:
            x = x * 2
        return x if x > 12 else -x

    compare(lambda lib: (lib.grad(f)(1.5), lib.grad(f)(1.3), lib.value_and_grad(f)(11.0), lib.jvp(f, (1.5,), (1.0,))))
