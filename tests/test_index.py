"""Affine index arithmetic against brute force over every value of the variables."""

import itertools
import random

import pytest

from velax._compiler.index import Space
from velax._ir import loops, loops_build as lb


def value(expr, env):
    """The value of an i64 index expression with the variables in ``env``."""
    if isinstance(expr, loops.Const):
        return expr.value
    if isinstance(expr, loops.Var):
        return env[expr]
    if isinstance(expr, loops.Binary):
        return lb.fold_binary(expr.op, value(expr.x, env), value(expr.y, env), expr.x.dtype)
    raise AssertionError(expr)


def points(variables):
    for point in itertools.product(*(range(a.lo, a.hi + 1) for a in variables)):
        yield {a.terms[0][0].arg: x for a, x in zip(variables, point)}


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions_agree_with_integers(seed):
    rng = random.Random(seed)
    space = Space()
    variables = [space.var(f"v{n}", rng.randint(1, 7), rng.choice([0, 0, 0, 3])) for n in range(3)]
    pool = [(v, lambda env, v=v: env[v.terms[0][0].arg]) for v in variables]
    pool.append((space.const(5), lambda env: 5))
    for _ in range(14):
        (a, fa), (b, fb) = rng.choice(pool), rng.choice(pool)
        k = rng.choice([2, 3, 4, 6, 12])
        match rng.randrange(6):
            case 0:
                new = space.add(a, b), lambda env, fa=fa, fb=fb: fa(env) + fb(env)
            case 1:
                new = space.scale(a, k), lambda env, fa=fa, k=k: fa(env) * k
            case 2:
                new = space.shift(a, -k), lambda env, fa=fa, k=k: fa(env) - k
            case 3:
                new = space.floordiv(a, k), lambda env, fa=fa, k=k: fa(env) // k
            case 4:
                new = space.mod(a, k), lambda env, fa=fa, k=k: fa(env) % k
            case 5:
                new = space.clamp(a, 1, k), lambda env, fa=fa, k=k: min(max(fa(env), 1), k)
        pool.append(new)
    for env in points(variables):
        for a, f in pool:
            want = f(env)
            assert a.lo <= want <= a.hi, (seed, a, env)
            assert value(space.expr(a), env) == want, (seed, a, env)


@pytest.mark.parametrize("seed", range(40))
def test_axes_and_linear_are_inverse(seed):
    rng = random.Random(seed)
    space = Space()
    shape = tuple(rng.choice([1, 2, 3, 4]) for _ in range(rng.randint(1, 4)))
    index = tuple(space.var(f"i{n}", extent) if extent > 1 else space.zero for n, extent in enumerate(shape))
    flat = space.linear(index, shape)
    assert space.axes(flat, shape) == index
    other = list(shape)
    rng.shuffle(other)
    again = space.linear(space.axes(flat, tuple(other)), tuple(other))
    variables = [a for a in index if not a.is_const]
    for env in points(variables):
        assert value(space.expr(again), env) == value(space.expr(flat), env)


def test_clean_reshapes_leave_no_division():
    space = Space()
    i, j, k = space.var("i", 2), space.var("j", 3), space.var("k", 4)
    flat = space.linear((i, j, k), (2, 3, 4))
    rows, columns = space.axes(flat, (6, 4))
    assert rows is space.add(space.scale(i, 3), j) and columns is k
    assert not space.possible_cuts


def test_unclean_reshape_asks_for_a_cut():
    space = Space()
    i = space.var("i", 24)
    assert space.axes(i, (2, 3, 4))[0].terms[0][0].kind == "div"
    assert space.possible_cuts == {i.terms[0][0]: {4, 12}} and not space.cuts
    space.expr(space.axes(i, (2, 3, 4))[0])
    assert space.cuts == {i.terms[0][0]: {12}}


def test_division_and_remainder_recombine():
    space = Space()
    i = space.var("i", 35)
    a, b = space.axes(space.shift(i, 2), (8, 5))
    assert space.linear((a, b), (8, 5)) is space.shift(i, 2)


def test_conditions_are_decided_by_ranges_or_become_breaks():
    space = Space()
    i = space.var("i", 10)
    assert space.less(i, 10) is True and space.less(space.shift(i, 10), 10) is False
    assert isinstance(space.less(space.shift(space.scale(i, 2), 1), 8), loops.Expr)
    assert space.breaks == {i.terms[0][0]: {4}}
    down = space.shift(space.scale(i, -1), 9)
    space.less(down, 3)
    assert space.breaks[i.terms[0][0]] == {4, 7}
