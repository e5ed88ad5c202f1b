"""Golden texts: what small programs become at each level of the compiler.

A change of what is compiled shows here as a difference to read. ``pytest tests/test_golden.py
--update-golden`` writes the texts anew; a text that is missing fails. The target is a fixed CPU, so that
every machine gives the same text.
"""

import difflib
import pathlib

import pytest
from cpu_features import AVX512

import velax
import velax.nn
import velax.numpy as jnp
from velax import lax
from velax._compiler.build_graph import build_graph
from velax._compiler.pipeline import compile_graph
from velax._compiler.target import make_target
from velax._ir.graph_text import print_graph
from velax._ir.loops_text import print_kernel
from velax._transforms.discharge import discharge_internal

FOLDER = pathlib.Path(__file__).parent / "golden"
TARGET = make_target(AVX512, caches=(32 << 10, 1 << 20))


def f32(*shape):
    return velax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape):
    return velax.ShapeDtypeStruct(shape, jnp.int32)


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + bias


def dense(x, w, b):
    y = x @ w + b
    return 0.5 * y * (1 + jnp.tanh(0.7978845608 * (y + 0.044715 * y**3)))


def runge_kutta(state):
    """The Lorenz system by the classical method of fourth order."""

    def derivative(s):
        x, y, z = s[0], s[1], s[2]
        return jnp.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 2.6666667 * z])

    def step(s, _):
        h = 0.01
        k1 = derivative(s)
        k2 = derivative(s + h / 2 * k1)
        k3 = derivative(s + h / 2 * k2)
        k4 = derivative(s + h * k3)
        s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return s, s

    return lax.scan(step, state, None, length=100)[1]


def newton(a):
    """The square root of ``a``: iterate until the change is small."""
    unfinished = lambda c: abs(c[0] - c[1]) > 1e-6 * c[0]
    return lax.while_loop(unfinished, lambda c: (0.5 * (c[0] + a / c[0]), c[0]), (a, 0.0 * a))[0]


PROGRAMS = {
    "silu": (velax.nn.silu, f32(1000)),
    "softmax": (
        lambda x: jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True),
        f32(32, 128),
    ),
    "layer_norm": (layer_norm, f32(16, 256), f32(256), f32(256)),
    "matmul_bias_gelu": (dense, f32(64, 96), f32(96, 128), f32(128)),
    "cumsum": (lambda x: lax.cumsum(x, 1), f32(8, 100)),
    "scatter_add": (lambda x, i, u: x.at[i].add(u), f32(50, 4), i32(20), f32(20, 4)),
    "runge_kutta": (runge_kutta, f32(3)),
    "newton": (newton, f32()),
}


def describe(fun, *avals) -> str:
    """The jaxpr, the graph as built and as simplified, the loops of each kernel, and the program."""
    closed = velax.make_jaxpr(fun)(*avals)
    graph, _ = build_graph(discharge_internal(closed))
    compiled = compile_graph(graph, TARGET)
    parts = {"jaxpr": f"{closed}\n", "graph": print_graph(graph), "simplified graph": print_graph(compiled.graph)}
    parts |= {f"kernel {k}": print_kernel(compiled.kernels[name]) for k, name in enumerate(compiled.program.kernels)}
    parts["program"] = f"{compiled.program}\n"
    return "\n".join(f"==== {title} ====\n\n{text.rstrip()}\n" for title, text in parts.items())


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden(name, request):
    text = describe(*PROGRAMS[name])
    path = FOLDER / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return
    if not path.exists():
        pytest.fail(f"{path} is missing: look at what is compiled, and write it with --update-golden")
    golden = path.read_text()
    if text != golden:
        difference = "\n".join(
            list(difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2))[:80]
        )
        pytest.fail(
            f"{name} compiles to something else (if that is better, run with --update-golden):\n{difference}",
            pytrace=False,
        )


def test_texts_do_not_depend_on_what_ran_before():
    """Names in the texts are counted within one program, and no order depends on addresses."""
    assert describe(*PROGRAMS["layer_norm"]) == describe(*PROGRAMS["layer_norm"])


def test_no_golden_text_is_left_over():
    assert {p.stem for p in FOLDER.glob("*.txt")} == set(PROGRAMS)
