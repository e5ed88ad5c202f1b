"""How random programs (`program_fuzz`) are written: line by line, as source text that runs on either library.

Comparing two libraries needs programs that are continuous where they round: what branches, compares, sorts with a
payload or becomes an integer is computed from *exact* values only (integers, and floats that hold small integers,
whose sums and products are exact in any order). Of every value the writer knows a bound of its magnitude and the
coarsest precision in its history, which the tolerances come from.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np

#: of a float dtype: the first integer bound that it does not hold exactly, and its relative precision
EXACT_BELOW = {"float64": 2**53, "float32": 2**24, "bfloat16": 2**8, "float16": 2**11, "complex64": 2**24}
PRECISION = {"float64": 1e-15, "float32": 6e-8, "bfloat16": 4e-3, "float16": 5e-4, "complex64": 6e-8}
INTEGERS = ("int32", "int32", "int32", "int8", "uint8", "uint32", "int16", "bool")
FLOATS = ("float32", "float32", "float32", "bfloat16", "float16", "complex64")
SMOOTH = (
    "jnp.sin({})",
    "jnp.cos({})",
    "jnp.tanh({})",
    "jnp.exp(jnp.tanh({}))",
    "jnp.arctan({})",
    "jnp.log1p(jnp.square({}))",
    "jnp.sqrt(1 + jnp.square({}))",
    "lax.logistic({})",
    "1 / (2 + jnp.sin({}))",
    "lax.rsqrt(1 + jnp.square({}))",
    "lax.erf({})",
    "jnp.expm1(-jnp.abs({}))",
)


class Value:
    """A variable: its type, a bound of its magnitude, whether it holds integers exactly, its coarsest precision."""

    def __init__(self, name, aval, bound, exact, precision):
        self.name, self.shape, self.dtype = name, aval.shape, np.dtype(aval.dtype).name
        self.bound, self.exact, self.precision = bound, exact, precision
        self.is_float = self.dtype in PRECISION
        self.is_complex = self.dtype.startswith("complex")
        self.size, self.ndim = prod(self.shape), len(self.shape)


class Unsuitable(Exception):
    """What was drawn does not fit the values at hand; something else is drawn."""


class Writer:
    """Writes one function body, line by line; every line is also traced, for the types."""

    def __init__(self, rng, limit, depth=0, names=None, scope=None):
        self.rng, self.limit, self.depth = rng, limit, depth
        self.lines, self.values = [], []
        self.names = names if names is not None else iter(range(10**6))
        self.scope = scope if scope is not None else {"lib": jax, "jnp": jnp, "lax": jax.lax, "np": np}
        self.irreversible = False

    # -- writing ----------------------------------------------------------------------------------------------------

    def parameter(self, traced, bound, exact, precision):
        name = f"v{next(self.names)}"
        self.scope[name] = traced
        value = Value(name, jax.typeof(traced), bound, exact, precision)
        self.values.append(value)
        return value

    def line(self, text, *operands, bound=None, exact=None):
        """A new variable holding the value of the expression ``text``."""
        name = f"v{next(self.names)}"
        try:
            traced = eval(text, self.scope)
        except Exception as e:
            raise Unsuitable(f"{text}: {e}") from e
        aval = jax.typeof(traced)
        if prod(aval.shape) > self.limit:
            raise Unsuitable(text)
        self.scope[name] = traced
        self.lines.append(f"{name} = {text}")
        dtype = np.dtype(aval.dtype).name
        precision = max([PRECISION.get(dtype, 0.0), *(x.precision for x in operands)])
        if dtype in PRECISION:
            if bound is None:
                bound = max((x.bound for x in operands), default=8)
            if exact is None:
                exact = all(x.exact for x in operands)
            exact = exact and bound < EXACT_BELOW[dtype]
        else:
            bound, exact = np.inf, True
        value = Value(name, aval, bound, exact, precision)
        self.values.append(value)
        if value.is_float and not (value.exact and bound < 1000) and bound > 30:  # products must stay in range
            return self.tame(value)
        return value

    def tame(self, x):
        if x.is_complex:
            return self.line(f"{x.name} / (1 + jnp.abs({x.name}))", x, bound=1, exact=False)
        return self.line(f"jnp.tanh({x.name})", x, bound=1, exact=False)

    # -- choosing ---------------------------------------------------------------------------------------------------

    def pick(self, test=lambda x: True):
        found = [x for x in self.values if test(x)]
        if not found:
            raise Unsuitable
        return self.rng.choice(found[-5:] if self.rng.random() < 0.75 else found)

    def floating(self):
        return self.pick(lambda x: x.is_float and not x.is_complex)

    def ordered(self):
        return self.pick(lambda x: not x.is_complex)

    def exact(self):
        return self.pick(lambda x: x.exact and not x.is_complex)

    def integer(self):
        return self.pick(lambda x: not x.is_float and x.dtype != "bool")

    def array(self, test=lambda x: True):
        return self.pick(lambda x: x.ndim and test(x))

    def like(self, x, test=lambda y: True):
        """A value that broadcasts against ``x``, of its dtype."""
        same = [
            y for y in self.values if y.dtype == x.dtype and test(y) and (y.shape == x.shape or self._stretches(y, x))
        ]
        if same and self.rng.random() < 0.7:
            return self.rng.choice(same[-5:])
        kind = (lambda y: y.is_float and y.is_complex == x.is_complex) if x.is_float else (lambda y: not y.is_float)
        return self.fit(self.pick(lambda y: kind(y) and test(y)), x.shape, x.dtype)

    @staticmethod
    def _stretches(y, x):
        return len(y.shape) <= len(x.shape) and all(n in (1, m) for n, m in zip(y.shape[::-1], x.shape[::-1]))

    def fit(self, x, shape, dtype):
        """``x`` with another shape and dtype: cut or repeated."""
        if x.size == 0 and prod(shape):
            return self.line(f"jnp.full({tuple(shape)}, {self.rng.choice((0, 1, 2))}, {dtype!r})", bound=2, exact=True)
        if x.shape != tuple(shape):
            x = self.line(f"jnp.resize({x.name}, {tuple(shape)})", x)
        return self.convert(x, dtype)

    def convert(self, x, dtype):
        if x.dtype == dtype:
            return x
        if dtype in PRECISION:
            if x.is_float:
                if x.is_complex and not dtype.startswith("complex"):
                    x = self.line(f"jnp.real({x.name})", x)
                return self.line(f"{x.name}.astype({dtype!r})", x)
            if x.dtype == "bool":
                return self.line(f"{x.name}.astype({dtype!r})", x, bound=1, exact=True)
            return self.line(f"({x.name} % 7).astype({dtype!r})", x, bound=6, exact=True)
        if x.is_float:
            if not x.exact or x.bound > 100 or x.is_complex:
                raise Unsuitable
            # what a negative float becomes as an unsigned integer is each machine's own
            return self.line(f"{x.name}.astype('int8').astype({dtype!r})", x)
        return self.line(f"{x.name}.astype({dtype!r})", x)

    # -- one step ---------------------------------------------------------------------------------------------------

    def step(self):
        kinds = [name for name in dir(self) if name.startswith("step_")]
        weights = [getattr(self, name).__func__.weight for name in kinds]
        for _ in range(30):
            keep = len(self.lines), len(self.values)
            try:
                return getattr(self, self.rng.choices(kinds, weights)[0])()
            except Unsuitable:
                del self.lines[keep[0] :], self.values[keep[1] :]
        return None


def step(weight):
    def mark(f):
        f.weight = weight
        setattr(Writer, f.__name__, f)
        return f

    return mark


@step(4)
def step_smooth(w):
    x = w.floating()
    w.line(w.rng.choice(SMOOTH).format(x.name), x, bound=max(3, x.bound + 1), exact=False)


@step(2)
def step_exact_unary(w):
    x = w.pick(lambda x: x.dtype != "bool")
    if x.is_complex:
        w.line(w.rng.choice(("jnp.conj({0})", "-{0}", "jnp.real({0})", "jnp.imag({0})", "{0} * 1j")).format(x.name), x)
        return
    texts = ["-{0}", "jnp.abs({0})", "jnp.maximum({0}, 0)", "jnp.minimum({0}, 2)", "+{0}"]
    if x.exact and x.is_float:
        texts += ["jnp.sign({0})", "jnp.floor({0} / 2)", "jnp.round({0} * 0.5)", "jnp.ceil({0} / 4)"]
    w.line(w.rng.choice(texts).format(x.name), x, bound=max(x.bound, 2))


@step(6)
def step_binary(w):
    x = w.pick(lambda x: x.dtype != "bool")
    y = w.like(x)
    a, b = (x, y) if w.rng.random() < 0.5 else (y, x)
    op = w.rng.choice("+-*")
    bound = x.bound * y.bound if op == "*" else x.bound + y.bound
    w.line(f"{a.name} {op} {b.name}", x, y, bound=bound)


@step(2)
def step_extremum(w):
    x = w.ordered()
    y = w.like(x, lambda y: not y.is_complex)
    text = w.rng.choice(("jnp.minimum({0}, {1})", "jnp.maximum({0}, {1})", "jnp.clip({0}, {1}, {1})"))
    w.line(text.format(x.name, y.name), x, y)


@step(2)
def step_division(w):
    x = w.floating()
    y = w.like(x, lambda y: not y.is_complex)
    w.line(f"{x.name} / (1 + jnp.abs({y.name}))", x, y, bound=x.bound, exact=False)


@step(3)
def step_integer(w):
    x = w.integer()
    y = w.like(x, lambda y: not y.is_float)
    texts = (
        "{0} // ({1} | 1)",
        "{0} % ({1} | 1)",
        "{0} & {1}",
        "{0} | {1}",
        "{0} ^ {1}",
        "~{0}",
        "{0} << ({1} & 7)",
        "{0} >> ({1} & 7)",
        "lax.clz({0})",
        "lax.population_count({0})",
        "lax.rem({0}, {0} | 1)",
        "jnp.where({0} == 0, {0}, {1})",
        "lax.shift_right_logical({0}, jnp.asarray(3, {0}.dtype))",
        "jnp.gcd({0} % 50, {1} % 20)",
        "{0} % 5 - 2",
        "{0} ** 2",
    )
    w.line(w.rng.choice(texts).format(x.name, y.name), x, y)


@step(2)
def step_compare(w):
    x = w.exact()
    y = w.like(x, lambda y: y.exact and not y.is_complex)
    w.line(f"{x.name} {w.rng.choice(('<', '<=', '>', '>=', '==', '!='))} {y.name}", x, y)


@step(1)
def step_logic(w):
    x = w.pick(lambda x: x.dtype == "bool")
    y = w.like(x, lambda y: not y.is_float)
    w.line(
        w.rng.choice(("{0} & {1}", "{0} | {1}", "{0} ^ {1}", "~{0}", "jnp.where({0}, {1}, {0})")).format(x.name, y.name)
    )


@step(3)
def step_select(w):
    x = w.pick()
    y = w.like(x)
    c = w.pick(lambda c: c.dtype == "bool")
    c = c if w._stretches(c, x) else w.fit(c, x.shape, "bool")
    w.line(f"jnp.where({c.name}, {x.name}, {y.name})", x, y)


@step(2)
def step_convert(w):
    x = w.pick()
    if x.is_float and w.rng.random() < 0.15 and not x.is_complex:
        narrow, least = w.rng.choice((("float8_e4m3fn", 16), ("float8_e5m2", 8)))
        if x.exact and x.bound <= least:
            w.line(f"{x.name}.astype({narrow!r}).astype({x.dtype!r})", x)
            return
        raise Unsuitable
    w.convert(x, w.rng.choice(FLOATS if w.rng.random() < 0.6 else INTEGERS))


@step(1)
def step_complex(w):
    if w.rng.random() < 0.5:
        x = w.pick(lambda x: x.dtype == "float32")
        y = w.like(x)
        w.line(f"lax.complex(*jnp.broadcast_arrays({x.name}, {y.name}))", x, y, bound=2 * max(x.bound, y.bound))
    else:
        x = w.pick(lambda x: x.is_complex)
        texts = (
            "jnp.exp({0} / (1 + jnp.abs({0})))",
            "jnp.abs({0} + 0.37)",
            "{0} / (2 + jnp.abs({0}))",
            "jnp.sin({0} / (1 + jnp.abs({0})))",
        )
        w.line(w.rng.choice(texts).format(x.name), x, bound=x.bound + 3, exact=False)


# -- moving ----------------------------------------------------------------------------------------


@step(3)
def step_reshape(w):
    x = w.pick(lambda x: x.size)
    factors, size, out = [], x.size, []
    for p in (2, 3, 5, 7, 11, 13, 17, 31):
        while size % p == 0:
            factors.append(p)
            size //= p
    if size != 1:
        factors.append(size)
    factors += [1] * w.rng.choice((0, 0, 1))
    w.rng.shuffle(factors)
    for f in factors:
        if out and w.rng.random() < 0.5:
            out[-1] *= f
        else:
            out.append(f)
    w.line(f"jnp.reshape({x.name}, {tuple(out)})", x)


@step(3)
def step_transpose(w):
    x = w.array(lambda x: x.ndim > 1)
    perm = list(range(x.ndim))
    w.rng.shuffle(perm)
    w.line(f"jnp.transpose({x.name}, {tuple(perm)})", x)


@step(2)
def step_broadcast(w):
    x = w.pick()
    shape = [w.rng.choice((2, 5, 9)) if n == 1 and w.rng.random() < 0.6 else n for n in x.shape]
    lead = [w.rng.choice((1, 2, 3)) for _ in range(w.rng.choice((0, 1, 1, 2)))]
    w.line(f"jnp.broadcast_to({x.name}, {tuple(lead + shape)})", x)


@step(4)
def step_slice(w):
    x = w.array()
    cuts = []
    for n in x.shape:
        kind = w.rng.choice(("all", "span", "strided", "backwards", "point", "new"))
        a, b = sorted((w.rng.randint(0, n), w.rng.randint(0, n)))
        if kind == "new":
            cuts.append("None")
        point = str(w.rng.randint(-n, n - 1)) if n else ":"
        back = f"::-{w.rng.choice((1, 1, 2))}"
        cuts.append({"span": f"{a}:{b + 1}", "strided": f"{a}::2", "backwards": back, "point": point}.get(kind, ":"))
    w.line(f"{x.name}[{', '.join(cuts)}]", x)


@step(1)
def step_flip(w):
    x = w.array()
    axes = tuple(sorted(w.rng.sample(range(x.ndim), w.rng.randint(1, x.ndim))))
    w.line(f"lax.rev({x.name}, {axes})", x)


@step(2)
def step_pad(w):
    x = w.array(lambda x: x.dtype != "bool")
    config = [(w.rng.randint(-2, 2), w.rng.randint(-2, 2), w.rng.choice((0, 0, 0, 1, 2))) for _ in x.shape]
    if w.rng.random() < 0.7:
        config = [(max(lo, 0), max(hi, 0), i) for lo, hi, i in config]
    w.line(
        f"lax.pad({x.name}, jnp.asarray({w.rng.choice((0, 1))}, {x.name}.dtype), {config})", x, bound=max(1, x.bound)
    )


@step(2)
def step_concatenate(w):
    x = w.array()
    axis = w.rng.randrange(x.ndim)
    parts = [x]
    for _ in range(w.rng.choice((1, 1, 2, 3, 9))):
        shape = list(x.shape)
        shape[axis] = w.rng.choice((0, 1, 2, shape[axis]))
        y = w.pick(lambda y: (y.is_float == x.is_float) and y.is_complex == x.is_complex)
        parts.append(y if y.shape == tuple(shape) and y.dtype == x.dtype else w.fit(y, tuple(shape), x.dtype))
    w.rng.shuffle(parts)
    w.line(f"jnp.concatenate([{', '.join(p.name for p in parts)}], {axis})", *parts)


@step(2)
def step_rearrange(w):
    x = w.array()
    axis = w.rng.randrange(x.ndim)
    texts = (
        "jnp.roll({0}, {2}, {1})",
        "jnp.repeat({0}, 2, {1})",
        "jnp.tile({0}, 2)",
        "jnp.stack([{0}, {0}], {1})",
        "jnp.moveaxis({0}, {1}, 0)",
        "jnp.expand_dims({0}, {1})",
        "jnp.squeeze({0})",
        "jnp.ravel({0})",
        "jnp.tril(jnp.atleast_2d({0}))",
        "jnp.diagonal(jnp.atleast_2d({0}))",
        "jnp.split({0}, [1], {1})[1]",
        "jnp.flip({0}, {1})",
        "jnp.swapaxes({0}, {1}, -1)",
    )
    w.line(w.rng.choice(texts).format(x.name, axis, w.rng.randint(-3, 3)), x)


@step(2)
def step_barrier(w):
    x = w.pick()
    w.line(f"lax.optimization_barrier({x.name})", x)


# -- reducing ----------------------------------------------------------------------------------------


@step(4)
def step_reduce(w):
    x = w.array()
    axes = tuple(sorted(w.rng.sample(range(x.ndim), w.rng.randint(1, x.ndim))))
    n = prod(x.shape[d] for d in axes)
    keep = w.rng.choice((True, False))
    if x.is_complex:
        fn = "sum"
    else:
        fn = w.rng.choice(("sum", "sum", "max", "min", "mean", "prod", "any" if x.exact else "sum", "var"))
    if fn == "prod" and x.is_float:
        x = x if x.bound <= 1 else w.tame(x)
    if fn in ("mean", "var") and not x.is_float:
        fn = "sum"
    bound = {"sum": max(1, x.bound * n), "prod": 1, "var": x.bound**2}.get(fn, x.bound)
    exact = x.exact and fn in ("sum", "max", "min", "prod", "any")
    w.line(f"jnp.{fn}({x.name}, axis={axes}, keepdims={keep})", x, bound=bound, exact=exact)


@step(1)
def step_reduce_bits(w):
    x = w.array(lambda x: not x.is_float)
    axes = tuple(sorted(w.rng.sample(range(x.ndim), w.rng.randint(1, x.ndim))))
    w.line(f"lax.{w.rng.choice(('reduce_or', 'reduce_and', 'reduce_xor'))}({x.name}, {axes})", x)


@step(2)
def step_normalize(w):
    x = w.array(lambda x: x.is_float and not x.is_complex and x.size)
    axis = w.rng.randrange(x.ndim)
    centred = "({0} - jnp.mean({0}, {1}, keepdims=True)) * lax.rsqrt(jnp.var({0}, {1}, keepdims=True) + 1)"
    texts = (
        ("jnp.exp({0} - jnp.max({0}, {1}, keepdims=True))", 1),
        ("lib.nn.softmax({0}, {1})", 1),
        ("lib.nn.logsumexp({0}, {1})", x.bound + 6),
        (centred, 2 * x.bound),
        ("lib.nn.log_softmax({0}, {1})", 2 * x.bound + 6),
        ("{0} / (1 + jnp.sum(jnp.abs({0}), {1}, keepdims=True))", 1),
    )
    text, bound = w.rng.choice(texts)
    w.line(text.format(x.name, axis), x, bound=bound, exact=False)


@step(2)
def step_cumulate(w):
    x = w.array(lambda x: x.dtype != "bool")
    axis, reverse = w.rng.randrange(x.ndim), w.rng.choice((True, False))
    fn = "cumsum" if x.is_complex else w.rng.choice(("cumsum", "cumsum", "cummax", "cummin", "cumprod", "cumlogsumexp"))
    if fn == "cumlogsumexp" and not x.is_float:
        fn = "cumsum"
    if fn == "cumprod" and x.is_float:
        x = x if x.bound <= 1 else w.tame(x)
    bound = {"cumsum": x.bound * x.shape[axis], "cumlogsumexp": x.bound + 8}.get(fn, x.bound)
    w.line(f"lax.{fn}({x.name}, {axis}, reverse={reverse})", x, bound=bound, exact=x.exact and fn != "cumlogsumexp")


@step(1)
def step_scan_tree(w):
    x = w.array(lambda x: x.shape[0] and not x.is_complex and x.dtype != "bool")
    fn = w.rng.choice(("jnp.add", "jnp.maximum", "lambda a, b: a * 0.5 + b * 0.5" if x.is_float else "jnp.bitwise_xor"))
    bound = x.bound * x.shape[0]
    text = f"lax.associative_scan({fn}, {x.name}, reverse={w.rng.choice((True, False))})"
    w.line(text, x, bound=bound, exact=x.exact and fn[0] == "j")


@step(2)
def step_position(w):
    x = w.array(lambda x: x.exact and not x.is_complex)
    axis = w.rng.randrange(x.ndim)
    texts = (
        "jnp.argmax({0}, {1})",
        "jnp.argmin({0}, {1})",
        "jnp.argsort({0}, {1})",
        "jnp.count_nonzero({0}, {1})",
        "jnp.searchsorted(jnp.sort(jnp.ravel({0})), {0})",
    )
    w.line(w.rng.choice(texts).format(x.name, axis), x)


@step(2)
def step_sort(w):
    x = w.array()
    axis = w.rng.randrange(x.ndim)
    if w.rng.random() < 0.4 or not x.exact or x.is_complex:
        if x.is_complex:
            raise Unsuitable
        w.line(f"jnp.sort({x.name}, {axis})", x)
        return
    if w.rng.random() < 0.3:
        w.line(f"lax.top_k({x.name}, {w.rng.randint(0, x.shape[-1])})[{w.rng.choice((0, 1))}]", x)
        return
    other = w.pick()
    y = other if other.shape == x.shape else w.fit(other, x.shape, other.dtype)
    w.line(f"lax.sort(({x.name}, {y.name}), dimension={axis}, num_keys=1)[{w.rng.choice((0, 1))}]", x, y)


@step(4)
def step_dot(w):
    x = w.array()
    y = w.pick(lambda y: y.ndim and y.dtype == x.dtype)
    letters = "abcdefghijklmnopqrstuvwxyz"
    left = letters[: x.ndim]
    right, used = "", set()
    for n in y.shape:
        match = [c for c, m in zip(left, x.shape) if m == n and c not in used]
        c = w.rng.choice(match) if match and w.rng.random() < 0.7 else letters[13 + len(right)]
        used.add(c)
        right += c
    shared = [c for c in left if c in right]
    if not shared:
        raise Unsuitable
    summed = {c for c in shared if w.rng.random() < 0.6}
    out = [c for c in dict.fromkeys(left + right) if c not in summed]
    w.rng.shuffle(out)
    n = prod(x.shape[left.index(c)] for c in summed)
    wide = ", preferred_element_type='float32'" if x.dtype in ("bfloat16", "float16") and w.rng.random() < 0.3 else ""
    text = f"jnp.einsum('{left},{right}->{''.join(out)}', {x.name}, {y.name}{wide})"
    w.line(text, x, y, bound=x.bound * y.bound * max(n, 1))


# -- indexing ----------------------------------------------------------------------------------------


def index_array(w, n, ndim=None):
    """Integer positions along an axis of ``n`` elements, some of them outside."""
    i = w.integer() if ndim is None else w.pick(lambda i: not i.is_float and i.dtype != "bool" and i.ndim == ndim)
    if i.size > 40:
        i = w.line(f"jnp.ravel({i.name})[:{w.rng.randint(1, 9)}]", i)
    kind = w.rng.choice(("inside", "inside", "near", "raw"))
    if kind == "raw" or not n:
        return i
    return w.line(f"{i.name}.astype('int32') % {n if kind == 'inside' else n + 2} - {0 if kind == 'inside' else 1}", i)


@step(3)
def step_take(w):
    x = w.array(lambda x: x.size)
    axis = w.rng.randrange(x.ndim)
    i = index_array(w, x.shape[axis])
    cut = ", ".join([":"] * axis + [i.name])
    texts = (
        f"{x.name}[{cut}]",
        f"{x.name}.at[{cut}].get(mode='fill', fill_value=1)",
        f"{x.name}.at[{cut}].get(mode='clip')",
        f"jnp.take({x.name}, {i.name}, {axis}, mode='wrap')",
    )
    w.line(w.rng.choice(texts), x, i, bound=max(1, x.bound))


@step(1)
def step_take_along(w):
    x = w.array(lambda x: x.size)
    axis = w.rng.randrange(x.ndim)
    i = w.fit(w.integer(), x.shape, "int32")
    w.line(f"jnp.take_along_axis({x.name}, {i.name} % {x.shape[axis]}, {axis})", x, i)


@step(1)
def step_mask(w):
    x = w.array()
    c = w.fit(w.pick(lambda c: c.dtype == "bool"), x.shape, "bool")
    w.line(f"{x.name}.at[{c.name}].set(1)", x, bound=max(1, x.bound))


@step(3)
def step_put(w):
    x = w.array(lambda x: x.size)
    axis = w.rng.randrange(x.ndim)
    i = index_array(w, x.shape[axis])
    cut = ", ".join([":"] * axis + [i.name])
    part = w.line(f"{x.name}[{cut}]", x)
    values = w.like(part)
    fn = w.rng.choice(
        ("set", "add", "add") if x.is_complex or x.dtype == "bool" else ("set", "add", "add", "min", "max")
    )
    if fn == "set":  # of two updates at one position either may win
        values = w.line(f"jnp.ravel({values.name})[0]" if values.size else "jnp.asarray(1)", values).name
        values, operands = f"{values}.astype({x.name}.dtype)", (x, i)
    else:
        values, operands = values.name, (x, i, values)
    mode = w.rng.choice(("", ", mode='drop'", ", mode='clip'"))
    if fn == "add" and x.is_float:
        bound = x.bound + operands[-1].bound * max(part.size, 1)
    else:
        bound = max([x.bound, *(o.bound for o in operands if o.is_float)])
    exact = all(o.exact for o in operands) and fn != "set"
    w.line(f"{x.name}.at[{cut}].{fn}({values}{mode})", *operands, bound=bound, exact=exact)


@step(2)
def step_dynamic_slice(w):
    x = w.array()
    if any(line.startswith(f"{x.name} = lax.dynamic_slice") for line in w.lines):
        raise Unsuitable  # XLA adds the starts of two before it clamps them
    sizes = tuple(w.rng.randint(0 if w.rng.random() < 0.05 else 1, n) if n else 0 for n in x.shape)
    starts = ", ".join(start(w) for _ in x.shape)
    w.line(f"lax.dynamic_slice({x.name}, ({starts},), {sizes})", x)


@step(2)
def step_dynamic_update(w):
    x = w.array()
    sizes = tuple(w.rng.randint(1, n) if n else 0 for n in x.shape)
    y = w.pick(lambda y: (y.is_float == x.is_float) and y.is_complex == x.is_complex)
    fits = y.dtype == x.dtype and y.ndim == x.ndim and all(n <= m for n, m in zip(y.shape, x.shape))
    y = y if fits else w.fit(y, sizes, x.dtype)
    starts = ", ".join(start(w) for _ in x.shape)
    # XLA may compute the update from an operand that it has overwritten in part
    w.line(f"lax.dynamic_update_slice({x.name}, lax.optimization_barrier({y.name}), ({starts},))", x, y)


def start(w):
    """An index where a slice begins: a constant or a computed scalar, maybe outside."""
    if w.rng.random() < 0.4:
        return str(w.rng.randint(-1, 4))
    i = scalar(w)
    return f"({i.name} % 5 - 1)" if w.rng.random() < 0.7 else f"{i.name}.astype('int32')"


def scalar(w, dtype="int32"):
    i = w.integer()
    return i if i.dtype == dtype and not i.ndim else w.fit(i, (), dtype)
