"""Random whole programs at the user's level, as source text for either library: every choice from one seed.

Straight lines are written by `program_steps`; here are functions, what calls them (loops, branches, maps,
derivatives), and whole programs.
"""

import random
import re
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from program_steps import PRECISION, Unsuitable, Value, Writer, scalar, step

__all__ = ["PRECISION", "Program"]

INTEGERS = ("int32", "int32", "int32", "int8", "uint8", "uint32", "int16", "bool")


def function(w, parameters, results, steps, lead=()):
    """Writes a local function from values of the types of ``parameters`` to those of ``results``: its name and results.

    Its body may use the variables around it. Floats among the parameters are taken to be inexact, as carries are,
    but for those in ``lead``.
    """
    name = f"f{next(w.names)}"
    inner = Writer(w.rng, w.limit, w.depth + 1, w.names, dict(w.scope))
    made = []

    def trace(*traced):
        outer = [x for x in w.values if w.rng.random() < 0.3]
        inner.values.extend(outer)
        names = []
        for x, t in zip(parameters, traced):
            # a carry may be anything after a step
            loose = x.is_float and x not in lead
            names.append(inner.parameter(t, 8 if loose else x.bound, x.exact and not loose, x.precision).name)
        for _ in range(steps):
            inner.step()
        outs = []
        local = [x for x in inner.values if x not in outer]
        for want in results if results is not None else [None]:
            for _ in range(20):
                try:
                    outs.append(_result(w.rng, inner, local, want))
                    break
                except Unsuitable:
                    pass
            else:
                raise Unsuitable
        made.append((names, outs))
        return tuple(inner.scope[x.name] for x in outs)

    try:
        jax.eval_shape(trace, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in parameters))
    except Unsuitable:
        raise
    ((names, outs),) = made
    w.irreversible = w.irreversible or inner.irreversible
    returned = ", ".join(x.name for x in outs) + ("," if results is not None else "")
    lines = [f"def {name}({', '.join(names)}):", *(f"    {line}" for line in inner.lines), f"    return {returned}"]
    w.lines.extend(lines)
    exec("\n".join(lines), w.scope)
    return name, outs


def _result(rng, inner, local, want):
    if want is None:
        return rng.choice(local[-4:])
    kind = [x for x in local if x.is_float == want.is_float and x.is_complex == want.is_complex]
    same = [x for x in kind if x.shape == want.shape and x.dtype == want.dtype]
    if same and rng.random() < 0.85:
        x = rng.choice(same[-4:])
    elif kind:
        x = inner.fit(rng.choice(kind[-6:]), want.shape, want.dtype)
    else:
        x = inner.line(f"jnp.full({want.shape}, 1, {want.dtype!r})", bound=1, exact=True)
    if x.is_float and (not x.exact or x.bound > 8) and x.bound > 3:
        x = inner.tame(x)
    return x


def _bind(w, text, types, precision):
    """Assigns the tuple ``text`` to new variables of the types of ``types``."""
    traced = eval(text, w.scope)
    names = []
    for t, like in zip(traced, types, strict=True):
        value = w.parameter(t, 8 if like.is_float else np.inf, not like.is_float, precision)
        names.append(value.name)
    w.lines.append(f"{', '.join(names)}, = {text}")


def _precision(values):
    return max((x.precision for x in values), default=0.0)


def _carry(w):
    return [w.pick() for _ in range(w.rng.randint(1, 3))]


@step(3)
def step_scan(w):
    _deeper(w)
    init = _carry(w)
    xs = [w.array() for _ in range(w.rng.randint(0, 2))]
    length = min((x.shape[0] for x in xs), default=w.rng.choice((0, 1, 2, 3, 5)))
    if length > 12:
        raise Unsuitable
    rows = [w.line(f"{x.name}[:{length}]", x) for x in xs]
    kinds = [w.pick() for _ in range(w.rng.randint(0, 2))]
    row_types = [Value("", jax.ShapeDtypeStruct(x.shape[1:], x.dtype), x.bound, x.exact, x.precision) for x in rows]
    name, outs = function(w, [*init, *row_types], [*init, *kinds], w.rng.randint(1, 6), row_types)
    n = len(init)
    body = f"lambda c, x: (lambda r: (r[:{n}], r[{n}:]))({name}(*c, *x))"
    text = (
        f"(lambda r: (*r[0], *r[1]))(lax.scan({body}, {_tuple(init)}, {_tuple(rows)}, length={length},"
        f" reverse={w.rng.choice((True, False))}, unroll={w.rng.choice((1, 1, 1, 2))}))"
    )
    _bind(w, text, [*init, *kinds], _precision([*outs, *init, *rows]))


@step(2)
def step_fori(w):
    _deeper(w)
    init = _carry(w)
    counter = Value("", jax.ShapeDtypeStruct((), np.int32), np.inf, True, 0.0)
    name, outs = function(w, [counter, *init], init, w.rng.randint(1, 6))
    n = w.rng.randint(0, 4)
    bound = str(n)
    if w.rng.random() < 0.3:
        bound = f"{scalar(w).name} % 4"
        w.irreversible = True
    _bind(w, f"lax.fori_loop(0, {bound}, lambda i, c: {name}(i, *c), {_tuple(init)})", init, _precision([*outs, *init]))


@step(2)
def step_while(w):
    _deeper(w)
    w.irreversible = True
    init = _carry(w)
    counter = Value("", jax.ShapeDtypeStruct((), np.int32), np.inf, True, 0.0)
    name, outs = function(w, [counter, *init], init, w.rng.randint(1, 6))
    more = ""
    if w.rng.random() < 0.4 and not init[0].is_float and init[0].dtype != "bool":
        more = " & (jnp.sum(s[1] & 3) != 5)"
    test = f"lambda s: (s[0] < {w.rng.randint(0, 4)}){more}"
    text = f"lax.while_loop({test}, lambda s: (s[0] + 1, *{name}(*s)), (jnp.int32(0), *{_tuple(init)}))[1:]"
    _bind(w, text, init, _precision([*outs, *init]))


@step(3)
def step_cond(w):
    _deeper(w)
    operands = _carry(w)
    kinds = _carry(w)
    count = w.rng.choice((2, 2, 3))
    made = [function(w, operands, kinds, w.rng.randint(0, 4)) for _ in range(count)]
    outs = [x for _, found in made for x in found]
    arguments = ", ".join(x.name for x in operands)
    if count == 2:
        c = w.pick(lambda c: c.dtype == "bool")
        c = c if not c.ndim else w.line(f"jnp.{w.rng.choice(('any', 'all'))}({c.name})", c)
        text = f"lax.cond({c.name}, {made[0][0]}, {made[1][0]}, {arguments})"
    else:
        i = scalar(w)
        i = i.name if w.rng.random() < 0.3 else f"{i.name} % 3"
        text = f"lax.switch({i}, [{', '.join(name for name, _ in made)}], {arguments})"
    _bind(w, text, kinds, _precision([*outs, *operands]))


@step(2)
def step_map(w):
    _deeper(w)
    xs = [w.array() for _ in range(w.rng.randint(1, 2))]
    n = min(x.shape[0] for x in xs)
    if not n or n > 12:
        raise Unsuitable
    rows = [w.line(f"{x.name}[:{n}]", x) for x in xs]
    row_types = [Value("", jax.ShapeDtypeStruct(x.shape[1:], x.dtype), x.bound, x.exact, x.precision) for x in rows]
    kinds = _carry(w)
    name, outs = function(w, row_types, kinds, w.rng.randint(1, 5), row_types)
    call = w.rng.choice((f"lib.vmap({name})({{}})", f"lax.map(lambda r: {name}(*r), ({{}},))"))
    _bind(w, call.format(", ".join(x.name for x in rows)), kinds, _precision([*outs, *rows]))


@step(2)
def step_call(w):
    _deeper(w)
    operands = _carry(w)
    kinds = _carry(w)
    name, outs = function(w, operands, kinds, w.rng.randint(1, 5), operands)
    wrap = w.rng.choice(("lib.jit", "lib.checkpoint", "lib.jit"))
    _bind(w, f"{wrap}({name})({', '.join(x.name for x in operands)})", kinds, _precision([*outs, *operands]))


@step(1)
def step_derivative(w):
    _deeper(w)
    operands = [w.pick(lambda x: x.dtype == "float32") for _ in range(w.rng.randint(1, 2))]
    outer = w.irreversible
    w.irreversible = False
    name, outs = function(w, operands, operands[:1], w.rng.randint(1, 4), operands)
    if w.irreversible:
        raise Unsuitable
    w.irreversible = outer
    loss, positions = f"lambda *a: jnp.sum(jnp.sin({name}(*a)[0]))", tuple(range(len(operands)))
    text = f"lib.grad({loss}, {positions})({', '.join(x.name for x in operands)})"
    _bind(w, f"tuple(jnp.tanh(g) for g in {text})", operands, _precision([*outs, *operands]))


@step(1)
def step_callback(w):
    x = w.pick(lambda x: x.dtype == "float32")
    w.irreversible = True  # no derivative
    w.line(
        f"lib.pure_callback(lambda a: np.cos(np.asarray(a)), lib.ShapeDtypeStruct({x.shape}, 'float32'), {x.name},"
        " vmap_method='sequential')",
        x,
        bound=1,
        exact=False,
    )


@step(2)
def step_reference(w):
    if w.depth:
        raise Unsuitable
    x = w.array()
    y = w.like(x)
    r = f"r{next(w.names)}"
    w.irreversible = True  # JAX has no reverse mode of some references
    w.scope[r] = jax.new_ref(w.scope[x.name])
    w.lines.append(f"{r} = lib.new_ref({x.name})")
    if _deep(w) and w.rng.random() < 0.6:
        counter = Value("", jax.ShapeDtypeStruct((), np.int32), np.inf, True, 0.0)
        name, _ = function(w, [counter, x], [x], w.rng.randint(1, 3))
        write = f"{r}.__setitem__(Ellipsis, {name}(i, {r}[...])[0])"
        text = f"lax.fori_loop(0, {w.rng.randint(0, 3)}, lambda i, c: ({write}, c)[1], 0)"
        eval(text, w.scope)
        w.lines.append(text)
    else:
        exec(f"{r}[...] = jnp.broadcast_to({y.name}, {x.shape})", w.scope)
        w.lines.append(f"{r}[...] = jnp.broadcast_to({y.name}, {x.shape})")
    w.line(f"{r}[...]", x, y, bound=max(8, x.bound, y.bound), exact=False)


def _tuple(values):
    return f"({''.join(x.name + ', ' for x in values)})"


def _deep(w):
    return w.depth < 2


def _deeper(w):
    if not _deep(w) or w.rng.random() < 0.3 * w.depth:
        raise Unsuitable


# -- whole programs ----------------------------------------------------------------------------------------

EXTENTS = (1, 2, 3, 4, 5, 7, 8, 17, 33)


class Program:
    """``text`` defines ``program(lib, *arguments)``; ``arguments`` are NumPy arrays.

    ``irreversible``: it has no reverse mode. ``tolerances``: of each result, relative to its largest element;
    ``tolerance``: of derivatives.
    """

    def __init__(self, seed, steps=None, limit=3000):
        rng = random.Random(seed)
        data = np.random.default_rng(seed)
        self.seed = seed
        self.arguments = [_argument(rng, data) for _ in range(rng.randint(2, 4))]
        steps = steps or rng.choice((6, 12, 12, 20))
        made = []

        def trace(*traced):
            w = Writer(rng, limit)
            for t, a in zip(traced, self.arguments):
                name = np.dtype(a.dtype).name
                whole = name not in PRECISION or bool(np.all(a == np.round(np.real(a))))
                w.parameter(t, 4 if name in PRECISION else np.inf, whole, PRECISION.get(name, 0.0))
            parameters = [x.name for x in w.values]
            for _ in range(steps):
                w.step()
            body = "\n".join(w.lines)
            unused = [x for x in w.values if len(re.findall(rf"\b{x.name}\b", body)) == 1]
            outs = [*unused[-6:], *(rng.choice(w.values) for _ in range(rng.randint(0, 3)))] or w.values[-1:]
            rng.shuffle(outs)
            made.append((w, parameters, outs))
            return tuple(w.scope[x.name] for x in outs)

        jax.eval_shape(trace, *self.arguments)
        ((w, parameters, outs),) = made
        self.irreversible = w.irreversible
        self.tolerances = [0.0 if x.exact else 3 * x.precision**0.5 for x in outs]
        self.tolerance = 3 * max(6e-8, *(x.precision for x in w.values)) ** 0.5
        head = ["def program(lib, " + ", ".join(parameters) + "):", "    jnp, lax = lib.numpy, lib.lax"]
        returned = "".join(x.name + ", " for x in outs)
        self.text = "\n".join([*head, *(f"    {line}" for line in w.lines), f"    return ({returned})"]) + "\n"

    def function(self, text=None):
        scope = {"np": np}
        exec(text or self.text, scope)
        return scope["program"]


def _argument(rng, data):
    while True:
        shape = tuple(0 if rng.random() < 0.02 else rng.choice(EXTENTS) for _ in range(rng.choice((0, 1, 2, 2, 3, 4))))
        if prod(shape) <= 1500:
            break
    if rng.random() < 0.35:
        dtype = rng.choice(INTEGERS)
        return data.integers(0, 2, shape).astype(bool) if dtype == "bool" else data.integers(-4, 5, shape).astype(dtype)
    dtype = rng.choice(("float32", "float32", "float32", "float32", "bfloat16", "float16", "complex64"))
    values = data.integers(-4, 5, shape) if rng.random() < 0.4 else data.uniform(-2, 2, shape)
    if dtype == "complex64":
        values = values + 1j * data.integers(-3, 4, shape)
    return np.asarray(values).astype(jnp.dtype(dtype))
