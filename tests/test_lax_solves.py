"""`custom_linear_solve` and `custom_root` against JAX: derivatives, batches, auxiliary results, errors."""

import numpy as np
import pytest
from both_libraries import Cases, both_raise

RNG = np.random.default_rng(0)
A = (RNG.standard_normal((3, 3)) + 3 * np.eye(3)).astype(np.float32)
B = RNG.standard_normal(3).astype(np.float32)
BATCH = np.stack([A, A + 1])
case = Cases()


def eliminate(lib, matvec, b):
    """Gauss-Jordan elimination of the function's matrix."""

    def step(i, state):
        m, b = state
        row, entry = m[i] / m[i, i], b[i] / m[i, i]
        column = m[:, i].at[i].set(0.0)
        return (m - column[:, None] * row).at[i].set(row), (b - column * entry).at[i].set(entry)

    return lib.lax.fori_loop(0, 3, step, (lib.jacobian(matvec)(b), b))[1]


def solver(lib, aux=False):
    return lambda f, b: (eliminate(lib, f, b), np.int32(3)) if aux else eliminate(lib, f, b)


def systems(lib):
    solve = lib.lax.custom_linear_solve
    halves = lambda f, b: {"x": eliminate(lib, lambda v: f({**b, "x": v})["x"], b["x"]), "y": b["y"] / 2}
    whole = lambda t: t["x"] * t["y"].sum()
    return {
        "general": lambda A, b: solve(lambda x: A @ x, b, solver(lib), solver(lib)),
        "symmetric": lambda A, b: solve(lambda x: (A + A.T) @ x, b, solver(lib), symmetric=True),
        "aux": lambda A, b: solve(lambda x: A @ x, b, solver(lib, True), solver(lib, True), has_aux=True)[0],
        "tree": lambda A, b: whole(
            solve(lambda t: {"x": A @ t["x"], "y": 2 * t["y"]}, {"x": b, "y": b[:2]}, halves, halves)
        ),
    }


def add_cases(name):
    of = lambda lib: systems(lib)[name]
    loss = lambda lib: lambda A, b: lib.numpy.sum(lib.numpy.sin(of(lib)(A, b)))
    gradient = lambda lib: lib.grad(loss(lib), (0, 1))
    case.add(f"{name} value", lambda lib: of(lib)(A, B))
    case.add(f"{name} gradient", lambda lib: gradient(lib)(A, B))
    case.add(f"{name} tangent", lambda lib: lib.jvp(loss(lib), (A, B), (A / 10, B)))
    case.add(
        f"{name} batch",
        lambda lib: (lib.vmap(of(lib), (0, None))(BATCH, B), lib.vmap(gradient(lib), (0, None))(BATCH, B)),
    )
    if name == "tree":  # the oracle fails at the rest
        return
    case.add(
        f"{name} second",
        lambda lib: (lib.jacrev(lib.grad(loss(lib), 1), 1)(A, B), lib.jacfwd(lib.grad(loss(lib)), 1)(A, B)),
    )
    case.add(f"{name} rematerialised", lambda lib: lib.grad(lib.checkpoint(loss(lib)))(A, B))
    case.add(
        f"{name} in a loop",
        lambda lib: lib.grad(lambda A: lib.lax.scan(lambda c, _: (of(lib)(A, c), c), B, None, length=3)[0].sum())(A),
    )


for _name in ("general", "symmetric", "aux", "tree"):
    add_cases(_name)


@case
def transposes(lib):
    return lib.linear_transpose(lambda b: systems(lib)["general"](A, b), B)(B)


def newton(lib):
    return lambda f, x: lib.lax.while_loop(lambda x: lib.numpy.abs(f(x)) > 1e-5, lambda x: x - f(x) / lib.grad(f)(x), x)


def cube_root(lib):
    return lambda a, guess=1.0: lib.lax.custom_root(
        lambda x: x**3 - a, lib.numpy.asarray(guess), newton(lib), lambda g, y: y / g(1.0)
    )


@case
def roots(lib):
    root, x = cube_root(lib), np.float32(8)
    return (
        root(x),
        lib.grad(root, (0, 1))(x, 1.5),
        lib.grad(lib.grad(root))(x),
        lib.jvp(root, (x,), (x,)),
        lib.vmap(lib.grad(root))(lib.numpy.array([1.0, 8.0, 27.0])),
    )


@case
def roots_of_vectors(lib):
    def root(A, b):
        linear = lambda g, y: lib.lax.custom_linear_solve(g, y, solver(lib), solver(lib))
        step = lambda f: lambda _, x: x - eliminate(lib, lib.linearize(f, x)[1], f(x))
        return lib.lax.custom_root(
            lambda x: A @ x + lib.numpy.sin(x) / 9 - b, b, lambda f, x: lib.lax.fori_loop(0, 9, step(f), x), linear
        )

    return (
        root(A, B),
        lib.jacrev(root, (0, 1))(A, B),
        lib.jacfwd(root, (0, 1))(A, B),
        lib.hessian(lambda b: root(A, b).sum())(B),
    )


@case
def roots_with_aux(lib):
    solve = lambda f, x: (newton(lib)(f, x), {"steps": np.float32(7)})
    root = lambda a: lib.lax.custom_root(lambda x: x**2 - a, a, solve, lambda g, y: y / g(1.0), has_aux=True)
    return root(4.0), lib.grad(root, has_aux=True)(4.0)


@pytest.mark.parametrize("name", case.names())
def test_case(name):
    case.check(name, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["general gradient", "tree batch", "roots_of_vectors"])
def test_staged(name):
    case.check_staged(name, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("program", "kind", "words", "ours"),
    [
        (lambda lib: lib.lax.custom_linear_solve(lambda x: x[:2], B, solver(lib)), "ValueError", "matvec() output shapes", ("float32[2] where b has float32[3]",)),
        (lambda lib: lib.lax.custom_linear_solve(lambda x: x, B, lambda f, b: b[:2]), "ValueError", "solve() output shapes", ("float32[2]",)),
        (lambda lib: lib.lax.custom_linear_solve(lambda x: x, B, lambda f, b: b, has_aux=True), "Exception", "", ("solve() must return a pair (solution, aux)",)),
        (lambda lib: lib.lax.custom_linear_solve(3, B, solver(lib)), "TypeError", "", ("Expected a callable value, got 3",)),
        (
            lambda lib: lib.grad(lambda b: lib.lax.custom_linear_solve(lambda x: A @ x, b, solver(lib)).sum())(B), "TypeError", "transpose_solve",
            ("or symmetric=True",),
        ),
        (lambda lib: lib.lax.custom_root(lambda x: x, B, lambda f, x: (x, x), solver(lib)), "TypeError", "solve() output pytree structure must match", ("(*, *)",)),
    ],
)  # fmt: skip
def test_errors(program, kind, words, ours):
    both_raise(program, kind, words, ours)
