"""Primitives and traces that libraries define outside of the package, through the public tables alone."""

import importlib

import jax
import jax.extend.core
import numpy as np
import pytest
from both_libraries import assert_same

import velax
import velax.extend.core


def module(lib, name):
    return importlib.import_module(f"{lib.__name__}.{name}")


def make_scaled_sine(lib):
    """``scaled_sine(x, s) = s * sin(x)``: linear in s, with all rules stated as a library states them."""
    jnp = lib.numpy
    ad, batching, mlir = (module(lib, f"interpreters.{n}") for n in ("ad", "batching", "mlir"))
    p = module(lib, "extend.core").Primitive("scaled_sine")

    def scaled_sine(x, s, power=1):
        return p.bind(jnp.asarray(x), jnp.asarray(s), power=power)

    def implementation(x, s, *, power):
        return s * jnp.sin(x) ** power

    p.def_impl(implementation)
    p.def_abstract_eval(lambda x, s, *, power: lib.core.ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(p, mlir.lower_fun(implementation, multiple_results=False))

    def jvp(primals, tangents, *, power):
        (x, s), (dx, ds) = primals, tangents
        out = scaled_sine(x, s, power)
        terms = []
        if type(dx) is not ad.Zero:
            terms.append(dx * s * power * jnp.sin(x) ** (power - 1) * jnp.cos(x))
        if type(ds) is not ad.Zero:
            terms.append(p.bind(x, ds, power=power))
        return out, sum(terms[1:], terms[0]) if terms else ad.Zero.from_primal_value(out)

    ad.primitive_jvps[p] = jvp
    ad.primitive_transposes[p] = lambda ct, x, s, *, power: [None, ct * jnp.sin(x) ** power]

    def batch(args, dims, *, power):
        size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
        x, s = (batching.bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True))
        return p.bind(x, s, power=power), 0

    batching.primitive_batchers[p] = batch
    return p, scaled_sine


def make_two_results(lib):
    """A primitive with a list of results and rules made by the helpers of the tables."""
    ad, batching, mlir = (module(lib, f"interpreters.{n}") for n in ("ad", "batching", "mlir"))
    sum_difference = module(lib, "extend.core").Primitive("sum_difference")
    sum_difference.multiple_results = True
    run = lambda x, y: [x + y, x - y]
    sum_difference.def_impl(run)
    sum_difference.def_abstract_eval(lambda x, y: [x, y])
    mlir.register_lowering(sum_difference, mlir.lower_fun(run, multiple_results=True))

    def transpose(cts, *_):
        a, b = map(ad.instantiate_zeros, cts)
        return [a + b, a - b]

    ad.deflinear2(sum_difference, transpose)
    batching.defbroadcasting(sum_difference)

    cube = module(lib, "extend.core").Primitive("cube")
    cube.def_impl(lambda x: x * x * x)
    cube.def_abstract_eval(lambda x: x)
    mlir.register_lowering(cube, mlir.lower_fun(lambda x: x * x * x, multiple_results=False))
    ad.defjvp(cube, lambda t, x: 3 * x * x * t)
    batching.defvectorized(cube)
    return lambda x, y: sum_difference.bind(x, y), lambda x: cube.bind(x)


X = np.array([0.3, -0.7, 1.1], np.float32)


def uses(lib):
    """What a user does with the primitives."""
    jnp = lib.numpy
    _, f = make_scaled_sine(lib)
    both, cube = make_two_results(lib)
    x = jnp.asarray(X)
    g = lambda x: f(x, x * 2.0, power=3).sum()
    h = lambda x: both(cube(x), x)[0].sum() * both(x, x)[1].max() + both(x, cube(x))[1].sum()
    scanned = lambda x: lib.lax.scan(lambda c, s: (f(c, s, power=2), cube(s)), x, jnp.stack([x, x * 0.5]))
    return {
        "eager": (f(x, 2.0 * x), both(x, x + 1), cube(x)),
        "jit": lib.jit(lambda x: (f(x, x), both(x, x), cube(x)))(x),
        "grad": (lib.grad(g)(x), lib.grad(h)(x)),
        "jit of grad": lib.jit(lib.grad(g))(x),
        "grad of jit": lib.grad(lib.jit(g))(x),
        "jvp": (lib.jvp(g, (x,), (x,)), lib.jvp(h, (x,), (x,))),
        "hessian": lib.hessian(g)(x),
        "vmap": (lib.vmap(f, (0, None))(x, jnp.float32(2.0)), lib.vmap(cube)(x), lib.vmap(lambda a: both(a, a * 2))(x)),
        "vmap of grad": lib.vmap(lib.grad(lambda a: f(a, a)))(x),
        "scan": scanned(x),
        "grad of scan": lib.grad(lambda x: scanned(x)[0].sum())(x),
        "vmap of scan": lib.vmap(scanned)(jnp.stack([x, x + 1])),
        "checkpoint": lib.grad(lib.checkpoint(g))(x),
        "cond": lib.grad(lambda x: lib.lax.cond(x[0] > 0, g, h, x))(x),
        "linear transpose": lib.linear_transpose(lambda s: f(x, s), x)(x),
    }


@pytest.fixture(scope="module")
def results():
    return uses(velax), jax.jit(lambda: uses(jax))()


@pytest.mark.parametrize(
    "use", ["eager", "jit", "grad", "jit of grad", "grad of jit", "jvp", "hessian", "vmap", "vmap of grad", "scan", "grad of scan", "vmap of scan", "checkpoint", "cond", "linear transpose"]
)  # fmt: skip
def test_primitive_under(use, results):
    ours, theirs = results
    assert_same(ours[use], theirs[use], weak=False, what=use)


def test_it_stages_as_itself():
    p, f = make_scaled_sine(velax)
    jaxpr = velax.make_jaxpr(lambda x: f(x, x, power=2))(X)
    assert jaxpr.eqns[-1].primitive is p and jaxpr.eqns[-1].params == {"power": 2}
    velax.extend.core.check_jaxpr(jaxpr.jaxpr)
    assert "scaled_sine[power=2]" in str(jaxpr)


def test_missing_rules_say_which_and_how():
    p = velax.extend.core.Primitive("bare")
    with pytest.raises(NotImplementedError, match="Abstract evaluation for 'bare' not implemented"):
        velax.make_jaxpr(lambda x: p.bind(x))(1.0)
    p.def_abstract_eval(lambda x: x)
    with pytest.raises(
        NotImplementedError, match=r"primitive 'bare' not found.*has no lowering.*\n?.*register_lowering"
    ):
        velax.jit(lambda x: p.bind(x))(1.0)
    with pytest.raises(NotImplementedError, match="Differentiation rule for 'bare' not implemented"):
        velax.grad(lambda x: p.bind(x))(1.0)
    with pytest.raises(NotImplementedError, match=r"Batching rule for 'bare' not implemented"):
        velax.vmap(lambda x: p.bind(x))(X)
    velax.interpreters.ad.primitive_jvps[p] = lambda primals, tangents: (p.bind(*primals), p.bind(*tangents))
    with pytest.raises(
        NotImplementedError, match=r"Transpose rule \(for reverse-mode differentiation\) for 'bare' not implemented"
    ):
        velax.jit(velax.grad(lambda x: p.bind(x)))(1.0)


def test_tables_are_views_of_the_records():
    ad, batching = velax.interpreters.ad, velax.interpreters.batching
    sin_p = velax.extend.core.primitives.sin_p
    assert sin_p in ad.primitive_jvps and sin_p not in ad.primitive_transposes
    assert velax.lax.add_p in batching.primitive_batchers if hasattr(velax.lax, "add_p") else True
    p = velax.extend.core.Primitive("listed")
    assert p not in ad.primitive_jvps and ad.primitive_jvps.get(p) is None
    ad.primitive_jvps[p] = rule = lambda primals, tangents: (primals[0], tangents[0])
    assert ad.primitive_jvps[p] is rule and p in set(ad.primitive_jvps) and p.rule("jvp") is rule
    del ad.primitive_jvps[p]
    assert p not in ad.primitive_jvps
    with pytest.raises(KeyError):
        ad.primitive_jvps[p]


# -- a trace of a library's own ------------------------------------------------------------------


def counting(lib):
    """``count(f)(*args) -> (result, {primitive: applications})``: an interpreter written against the public
    protocol.
    """
    core = module(lib, "extend.core")

    class CountTracer(core.Tracer):
        def __init__(self, trace, value):
            super().__init__(trace)
            self.value = value

        @property
        def aval(self):
            return lib.typeof(self.value)

        def full_lower(self):
            return self

    class CountTrace(core.Trace):
        def __init__(self, parent, tag):
            super().__init__()
            self.parent, self.tag, self.counts = parent, tag, {}

        def unbox(self, x):
            return x.value if isinstance(x, CountTracer) and x._trace.tag is self.tag else x

        def process_primitive(self, primitive, tracers, params):
            if params.get("jaxpr") is not None:  # a call: look inside
                return core.jaxpr_as_fun(params["jaxpr"])(*tracers)
            self.counts[primitive.name] = self.counts.get(primitive.name, 0) + 1
            with core.set_current_trace(self.parent):
                out = primitive.bind(*map(self.unbox, tracers), **params)
            return [CountTracer(self, x) for x in out] if primitive.multiple_results else CountTracer(self, out)

        def process_custom_jvp_call(self, primitive, fun, jvp, tracers, **_):
            return fun(*tracers)

    def count(f):
        def counted(*args):
            with core.take_current_trace() as parent:
                trace = CountTrace(parent, core.TraceTag())
                with core.set_current_trace(trace):
                    out = f(*(CountTracer(trace, x) for x in args))
                    value = trace.unbox(out)
            return value, trace.counts

        return counted

    return count


def test_trace_of_a_library():
    count = counting(velax)
    x = velax.numpy.asarray(X)

    def straight(x):
        return velax.lax.mul(velax.lax.sin(x), velax.lax.sin(velax.lax.add(x, velax.numpy.float32(1))))

    value, counts = count(straight)(x)
    np.testing.assert_allclose(value, np.sin(X) * np.sin(X + 1), rtol=1e-6)
    assert counts == {"sin": 2, "add": 1, "mul": 1}
    # under, and around, the built-in transformations
    value, counts = count(velax.grad(lambda x: straight(x).sum()))(x)
    assert counts["sin"] == 2 and counts["cos"] == 2
    np.testing.assert_allclose(velax.jit(lambda x: count(straight)(x)[0])(x), straight(x), rtol=1e-6)
    np.testing.assert_allclose(velax.vmap(lambda x: count(straight)(x)[0])(x), straight(x), rtol=1e-6)
    np.testing.assert_allclose(
        velax.grad(lambda x: count(straight)(x)[0].sum())(x), velax.grad(lambda x: straight(x).sum())(x), rtol=1e-6
    )


def test_operators_of_a_library_s_tracers():
    value, counts = counting(velax)(lambda x: velax.jit(lambda y: -y * 2.0)(x) + x)(velax.numpy.asarray(X))
    np.testing.assert_allclose(value, -X, rtol=1e-6)
    assert counts == {"neg": 1, "mul": 1, "add": 1}


def test_questions_about_the_trace():
    def run(lib):
        core, seen = module(lib, "extend.core"), []

        def look(x):
            seen.append(
                (
                    core.unsafe_am_i_under_a_jit_DO_NOT_USE(), core.unsafe_am_i_under_a_vmap_DO_NOT_USE(), core.nonempty_axis_env_DO_NOT_USE(),
                    list(core.unsafe_get_axis_names_DO_NOT_USE()), core.get_opaque_trace_state() == outside,
                )
            )  # fmt: skip
            return x

        outside = core.get_opaque_trace_state()
        look(1.0)
        lib.jit(look)(1.0)
        lib.vmap(look)(lib.numpy.ones(2))
        lib.vmap(look, axis_name="i")(lib.numpy.ones(2))
        lib.jit(lib.vmap(look, axis_name="i"))(lib.numpy.ones(2))
        lib.grad(look)(1.0)
        return seen

    assert run(velax) == run(jax)
