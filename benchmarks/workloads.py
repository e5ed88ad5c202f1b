"""The workloads: plain JAX programs. The same code runs on both; `import jax` is what the child process made it.

A workload is a function without arguments that prepares data and returns a callable to be timed. Its result
is blocked on. The imports are in the functions, as the parent process reads this file for the names alone.
"""

from __future__ import annotations

from collections.abc import Callable

GROUPS: dict[str, dict[str, Callable]] = {}


def workload(group: str):
    def register(f):
        GROUPS.setdefault(group, {})[f.__name__] = f
        return f

    return register


# -- dispatch ------------------------------------------------------------------------------------


@workload("dispatch")
def jit_call_small():
    import jax
    import jax.numpy as jnp

    x, f = jnp.arange(4.0), jax.jit(lambda x: x + 1)
    return lambda: f(x)


@workload("dispatch")
def jit_call_20_leaves():
    import jax
    import jax.numpy as jnp

    params = {f"layer{i}": {"w": jnp.ones(4), "b": jnp.ones(4)} for i in range(10)}
    f = jax.jit(lambda p: p["layer0"]["w"] + p["layer9"]["b"])
    return lambda: f(params)


@workload("dispatch")
def eager_add():
    import jax.numpy as jnp

    x = jnp.arange(4.0)
    return lambda: x + x


@workload("dispatch")
def eager_add_scalar():
    import jax.numpy as jnp

    x = jnp.arange(4.0)
    return lambda: x + 1.5


@workload("dispatch")
def basic_slice():
    import jax.numpy as jnp

    x = jnp.arange(10.0)
    return lambda: x[1:3]


@workload("dispatch")
def at_set():
    import jax.numpy as jnp

    x = jnp.arange(10.0)
    return lambda: x.at[0].set(10)


# -- pointwise on 16M floats ---------------------------------------------------------------------

_N = 1 << 24


def _pointwise(name, make):
    def setup():
        import jax
        import jax.numpy as jnp

        x = jnp.linspace(-3.0, 3.0, _N)
        f = jax.jit(make(jax, jnp))
        return lambda: f(x)

    setup.__name__ = name
    workload("pointwise")(setup)


_pointwise("add_one", lambda jax, jnp: lambda x: x + 1)
_pointwise("sin", lambda jax, jnp: jnp.sin)
_pointwise("gelu", lambda jax, jnp: jax.nn.gelu)
_pointwise("polynomial", lambda jax, jnp: lambda x: ((x * 0.5 + 1.0) * x - 2.0) * x + 0.25)
_pointwise("silu_grad", lambda jax, jnp: lambda x: jax.vmap(jax.grad(lambda v: v * jax.nn.sigmoid(v)))(x))
_pointwise("normal_pdf", lambda jax, jnp: lambda x: jnp.exp(-0.5 * x * x) / 2.5066)


# -- reductions ----------------------------------------------------------------------------------


def _reduction(name, shape, make):
    def setup():
        import jax
        import jax.numpy as jnp

        size = 1
        for n in shape:
            size *= n
        x = jnp.linspace(-3.0, 3.0, size).reshape(shape)
        f = jax.jit(make(jax, jnp))
        return lambda: f(x)

    setup.__name__ = name
    workload("reductions")(setup)


_reduction("sum_16m", (_N,), lambda jax, jnp: jnp.sum)
_reduction("sum_rows", (4096, 4096), lambda jax, jnp: lambda x: jnp.sum(x, 1))
_reduction("sum_columns", (4096, 4096), lambda jax, jnp: lambda x: jnp.sum(x, 0))
_reduction("max_rows", (4096, 4096), lambda jax, jnp: lambda x: jnp.max(x, 1))
_reduction("softmax", (4096, 1024), lambda jax, jnp: jax.nn.softmax)
_reduction(
    "layer_norm",
    (4096, 1024),
    lambda jax, jnp: lambda x: (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5),
)
_reduction("logsumexp", (4096, 1024), lambda jax, jnp: lambda x: jax.nn.logsumexp(x, axis=1))
_reduction("argmax_rows", (4096, 1024), lambda jax, jnp: lambda x: jnp.argmax(x, 1))
_reduction("cumsum_16m", (_N,), lambda jax, jnp: jnp.cumsum)


# -- matmul --------------------------------------------------------------------------------------


def _matmul(name, a_shape, b_shape, make=None):
    def setup():
        import jax
        import jax.numpy as jnp

        a = jax.random.normal(jax.random.key(0), a_shape)
        b = jax.random.normal(jax.random.key(1), b_shape)
        f = jax.jit(make(jax, jnp) if make else (lambda a, b: a @ b))
        return lambda: f(a, b)

    setup.__name__ = name
    workload("matmul")(setup)


_matmul("matmul_1024", (1024, 1024), (1024, 1024))
_matmul("matmul_64", (64, 64), (64, 64))
_matmul("matmul_tokens", (512, 128), (128, 384))
_matmul("matmul_transposed", (512, 128), (512, 384), lambda jax, jnp: lambda a, b: a.T @ b)
_matmul("matmul_gelu", (512, 512), (512, 2048), lambda jax, jnp: lambda a, b: jax.nn.gelu(a @ b))
_matmul("matvec_4096", (4096, 4096), (4096,))
_matmul(
    "attention_scores",
    (8, 4, 64, 32),
    (8, 4, 64, 32),
    lambda jax, jnp: lambda a, b: jnp.einsum("bhqd,bhkd->bhqk", a, b),
)


# -- indexing, sorting, random -------------------------------------------------------------------


@workload("indexing")
def gather_rows():
    import jax
    import jax.numpy as jnp

    table = jnp.ones((50_000, 128))
    index = jax.random.randint(jax.random.key(0), (8192,), 0, 50_000)
    f = jax.jit(lambda t, i: t[i])
    return lambda: f(table, index)


@workload("indexing")
def scatter_add_rows():
    import jax
    import jax.numpy as jnp

    table = jnp.ones((5_000, 128))
    index = jax.random.randint(jax.random.key(0), (8192,), 0, 5_000)
    updates = jnp.ones((8192, 128))
    f = jax.jit(lambda t, i, u: t.at[i].add(u))
    return lambda: f(table, index, updates)


@workload("indexing")
def sort_1m():
    import jax

    x = jax.random.normal(jax.random.key(0), (1_000_000,))
    f = jax.jit(lambda x: jax.numpy.sort(x))
    return lambda: f(x)


@workload("indexing")
def argsort_1m():
    import jax

    x = jax.random.normal(jax.random.key(0), (1_000_000,))
    f = jax.jit(lambda x: jax.numpy.argsort(x))
    return lambda: f(x)


@workload("random")
def uniform_16m():
    import jax

    key = jax.random.key(0)
    f = jax.jit(lambda k: jax.random.uniform(k, (_N,)))
    return lambda: f(key)


@workload("random")
def normal_16m():
    import jax

    key = jax.random.key(0)
    f = jax.jit(lambda k: jax.random.normal(k, (_N,)))
    return lambda: f(key)


@workload("random")
def split_eager():
    import jax

    key = jax.random.key(0)
    return lambda: jax.random.split(key)


# -- loops ---------------------------------------------------------------------------------------


@workload("loops")
def scan_scalar_100k():
    import jax
    import jax.numpy as jnp

    f = jax.jit(lambda c: jax.lax.scan(lambda c, _: (c * 0.999 + 0.5, None), c, None, length=100_000)[0])
    x = jnp.float32(1.0)
    return lambda: f(x)


@workload("loops")
def rk4_lorenz():
    import jax
    import jax.numpy as jnp

    def rhs(s):
        x, y, z = s
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    def step(s, _):
        h = 0.01
        k1 = rhs(s)
        k2 = rhs(s + h / 2 * k1)
        k3 = rhs(s + h / 2 * k2)
        k4 = rhs(s + h * k3)
        return s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    f = jax.jit(lambda s: jax.lax.scan(step, s, None, length=10_000)[0])
    x = jnp.array([1.0, 1.0, 1.0])
    return lambda: f(x)


@workload("loops")
def while_newton():
    import jax
    import jax.numpy as jnp

    def solve(a):
        return jax.lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-3, lambda x: 0.5 * (x + a / x), a)

    f = jax.jit(jax.vmap(solve))
    x = jnp.linspace(1.0, 100.0, 10_000)
    return lambda: f(x)


@workload("loops")
def rnn_scan():
    import jax
    import jax.numpy as jnp

    w = jax.random.normal(jax.random.key(0), (128, 128)) * 0.1
    xs = jax.random.normal(jax.random.key(1), (256, 32, 128))
    f = jax.jit(lambda w, xs: jax.lax.scan(lambda h, x: (jnp.tanh(h @ w + x), None), jnp.zeros((32, 128)), xs)[0])
    return lambda: f(w, xs)


@workload("loops")
def lstm_gradient():
    import jax
    import jax.numpy as jnp

    def loss(w, xs):
        def step(state, x):
            h, c = state
            i, f, g, o = jnp.split(x @ w["x"] + h @ w["h"] + w["b"], 4, axis=-1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return (jax.lax.scan(step, (jnp.zeros((16, 64)),) * 2, xs)[1] ** 2).mean()

    kx, kh, ks = jax.random.split(jax.random.key(0), 3)
    w = {"x": jax.random.normal(kx, (64, 256)) / 8, "h": jax.random.normal(kh, (64, 256)) / 8, "b": jnp.zeros(256)}
    xs = jax.random.normal(ks, (128, 16, 64))
    f = jax.jit(jax.grad(loss))
    return lambda: f(w, xs)


@workload("loops")
def nbody_100_steps():
    import jax
    import jax.numpy as jnp

    def step(state, _):
        p, v = state
        d = p[:, None] - p[None]
        r2 = (d**2).sum(-1) + 0.01
        v = v - 0.001 * (d / (r2 * jnp.sqrt(r2))[..., None]).sum(1)
        return (p + 0.001 * v, v), None

    f = jax.jit(lambda s: jax.lax.scan(step, s, None, length=100)[0])
    s = (jax.random.normal(jax.random.key(0), (256, 3)), jnp.zeros((256, 3)))
    return lambda: f(s)


# -- training ------------------------------------------------------------------------------------


@workload("training")
def mlp_step():
    import jax
    import jax.numpy as jnp

    sizes = [784, 512, 256, 10]
    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        (jax.random.normal(k, (m, n)) * 0.05, jnp.zeros(n)) for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]

    def loss(params, x, y):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x @ w + b) * y, axis=1))

    @jax.jit
    def step(params, x, y):
        grads = jax.grad(loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    x = jax.random.normal(jax.random.key(1), (128, 784))
    y = jax.nn.one_hot(jnp.arange(128) % 10, 10)
    return lambda: step(params, x, y)


@workload("training")
def gpt_step():
    """Six layers of width 128 on 8 x 64 tokens, with Adam."""
    import jax
    import jax.numpy as jnp

    layers, width, heads, vocabulary, length = 6, 128, 4, 96, 64

    def init(key):
        ks = iter(jax.random.split(key, 4 * layers + 2))
        mat = lambda m, n: jax.random.normal(next(ks), (m, n)) * m**-0.5
        blocks = [
            dict(qkv=mat(width, 3 * width), out=mat(width, width), up=mat(width, 4 * width), down=mat(4 * width, width),
                 g1=jnp.ones(width), b1=jnp.zeros(width), g2=jnp.ones(width), b2=jnp.zeros(width))
            for _ in range(layers)
        ]  # fmt: skip
        return dict(embedding=mat(vocabulary, width), position=mat(length, width), blocks=blocks)

    def norm(x, g, b):
        m = x.mean(-1, keepdims=True)
        return (x - m) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * g + b

    def forward(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        mask = jnp.tril(jnp.ones((length, length), bool))
        for k in p["blocks"]:
            h = norm(x, k["g1"], k["b1"])
            q, key, v = (t.reshape(*t.shape[:-1], heads, width // heads) for t in jnp.split(h @ k["qkv"], 3, axis=-1))
            s = jnp.einsum("bqhd,bkhd->bhqk", q, key) * (width // heads) ** -0.5
            a = jax.nn.softmax(jnp.where(mask, s, -1e9))
            x = x + jnp.einsum("bhqk,bkhd->bqhd", a, v).reshape(x.shape) @ k["out"]
            x = x + jax.nn.gelu(norm(x, k["g2"], k["b2"]) @ k["up"]) @ k["down"]
        return x @ p["embedding"].T

    def loss(p, tokens):
        logp = jax.nn.log_softmax(forward(p, tokens[:, :-1]))
        return -jnp.mean(jnp.take_along_axis(logp, tokens[:, 1:, None], axis=-1))

    @jax.jit
    def step(p, m, v, tokens):
        value, g = jax.value_and_grad(loss)(p, tokens)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, v, g)
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * m / (jnp.sqrt(v) + 1e-8), p, m, v)
        return p, m, v, value

    p = jax.jit(init)(jax.random.key(0))
    m = v = jax.tree.map(jnp.zeros_like, p)
    tokens = jax.random.randint(jax.random.key(1), (8, length + 1), 0, vocabulary)
    return lambda: step(p, m, v, tokens)


# -- first calls: each in a process of its own; the setup is not counted, but its compilations warm


def square():
    import jax
    import jax.numpy as jnp

    f, x = jax.jit(lambda x: x**2), jnp.array([1.0, 2.0, 3.0])
    return lambda: f(x)


FIRST_CALLS = {"square": square, "mlp_step": mlp_step, "gpt_step": gpt_step}
