"""The gamma distribution and those made of it."""

from __future__ import annotations

import math

from velax import lax
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.vectorize import vmap
from velax._transforms.zero import Zero
from velax.lax._special import random_log_gamma_grad
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy._util import check_arraylike, compiled
from velax.random._discrete import _rademacher
from velax.random._parameters import (
    check_parameters,
    constant,
    float_dtype,
    fresh_keys,
    prepare,
    result_shape,
    shape_of,
    widen,
)
from velax.random._primitives import random_split_p
from velax.random._samplers import _exponential, _normal, _uniform

__all__ = [
    "ball", "beta", "chisquare", "dirichlet", "f", "gamma", "generalized_normal", "loggamma", "random_gamma_p", "t",
]  # fmt: skip


# -- one number: Marsaglia and Tsang, "A simple method for generating gamma variables" (ACM TOMS 200


def _gamma_one(key, alpha, log_space: bool):
    dtype = get_aval(alpha).dtype
    number = lambda v: constant(dtype, v)
    one, zero, third = number(1), number(0), number(1 / 3)
    # alpha < 1: draw for alpha + 1, and scale by a power of a uniform number
    large = lax.ge(alpha, one)
    given = alpha
    alpha = lax.select(large, alpha, lax.add(alpha, one))
    d = lax.sub(alpha, third)
    c = lax.div(third, lax.sqrt(d))

    def next_normal(state):
        key, _, _ = state
        key, subkey = fresh_keys(key)
        x = _normal(subkey, (), dtype)
        return key, x, lax.add(one, lax.mul(x, c))

    def rejected(state):
        _, x, v, u = state
        squeeze = lax.ge(u, lax.sub(one, lax.mul(number(0.0331), lax.mul(x, x))))
        bound = lax.add(lax.mul(x, number(0.5)), lax.mul(d, lax.add(lax.sub(one, v), lax.log(v))))
        return lax.bitwise_and(squeeze, lax.ge(lax.log(u), bound))

    def draw(state):
        key, x_key, u_key = fresh_keys(state[0], 3)
        start = (x_key, lax.full_like(c, 0), lax.full_like(c, -1))
        _, x, v = lax.while_loop(lambda s: lax.le(s[2], zero), next_normal, start)
        return key, lax.mul(x, x), lax.mul(lax.mul(v, v), v), _uniform(u_key, (), dtype, 0.0, 1.0)

    key, subkey = fresh_keys(key)
    # a state that is rejected
    _, _, v, _ = lax.while_loop(rejected, draw, (key, lax.full_like(c, 0), lax.full_like(c, 1), lax.full_like(c, 2)))
    if log_space:
        log_u = lax.neg(_exponential(subkey, (), dtype))
        boost = lax.select(
            lax.bitwise_or(large, lax.eq(log_u, zero)), lax.full_like(c, 0), lax.mul(log_u, lax.div(one, given))
        )
        return lax.add(lax.add(lax.log(d), lax.log(v)), boost)
    u = lax.sub(one, _uniform(subkey, (), dtype, 0.0, 1.0))
    boost = lax.select(large, lax.full_like(c, 1), lax.pow(u, lax.div(one, given)))
    return lax.mul(lax.mul(d, v), boost)


def _gamma_all(keys, a, log_space: bool):
    """Gamma numbers for keys of shape ``s`` and parameters of shape ``s + ...``, each with a key of its own;
    the loops run over all of them together.
    """
    shape, rank = get_aval(a).shape, get_aval(keys).ndim
    n = math.prod(shape)
    if n == 0:
        return lax.full(shape, 0, get_aval(a).dtype)
    each = random_split_p.bind(keys, shape=(math.prod(shape[rank:]),))
    draws = vmap(lambda key, alpha: _gamma_one(key, alpha, log_space))(lax.reshape(each, (n,)), lax.reshape(a, (n,)))
    return lax.reshape(draws, shape)


def _gamma_type(keys, a, *, log_space):
    if a.shape[: keys.ndim] != keys.shape:
        raise TypeError(
            f"random_gamma: the leading axes of the parameters must be those of the keys, got keys {keys} and "
            f"parameters {a}"
        )
    return shaped_array(a.shape, a.dtype)


def _gamma_lower(ctx, keys, a, *, log_space):
    closed = trace_to_jaxpr(lambda k, x: [_gamma_all(k, x, log_space)], ctx.avals_in)
    return ctx.inline(closed, [keys, a])


def _gamma_jvp(primals, tangents, *, log_space):
    out = random_gamma_p.bind(*primals, log_space=log_space)
    t = tangents[1]
    if type(t) is Zero:
        return out, Zero.from_primal_value(out)
    slope = random_log_gamma_grad if log_space else lax.random_gamma_grad
    return out, lax.mul(t, slope(primals[1], out))


def _gamma_batch(args, dims, **params):
    size = next(get_aval(x).shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    keys, a = (matchaxis(size, d, 0, x) for x, d in zip(args, dims, strict=True))
    return random_gamma_p.bind(keys, a, **params), 0


random_gamma_p = define(
    "random_gamma", abstract_eval=_gamma_type, lower=_gamma_lower, jvp=_gamma_jvp, transpose=None, batch=_gamma_batch
)
random_gamma_p.rules["physical"] = True


@compiled(static=("shape", "dtype", "log_space"))
def _gamma(key, a, shape, dtype, log_space):
    return random_gamma_p.bind(key, widen(convert_type(a, dtype), shape), log_space=log_space)


# -- distributions -------------------------------------------------------------------------------


def gamma(key, a, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the gamma distribution of shape ``a`` and scale 1.

    Args:
      key: a key.
      a: positive numbers that broadcast to ``shape``.
      shape: the shape of the result; by default that of ``a``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype. Its derivative in ``a`` is that of `lax.random_gamma_grad`.

    Raises:
      ValueError: if ``dtype`` is no float or the shapes do not fit.
    """
    key = prepare("gamma", key, out_sharding)
    dtype = float_dtype("gamma", dtype)
    return _gamma(key, a, result_shape("gamma", shape, a), dtype, False)


def loggamma(key, a, shape=None, dtype=None, *, out_sharding=None):
    """The logarithm of `gamma`, accurate where ``a`` is so small that the numbers themselves round to 0."""
    key = prepare("loggamma", key, out_sharding)
    dtype = float_dtype("loggamma", dtype)
    return _gamma(key, a, result_shape("loggamma", shape, a), dtype, True)


def beta(key, a, b, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the beta distribution; arguments as in `gamma`, with parameters ``a`` and ``b``."""
    key = prepare("beta", key, out_sharding)
    dtype = float_dtype("beta", dtype)
    return _beta(key, a, b, result_shape("beta", shape, a, b), dtype)


@compiled(static=("shape", "dtype"))
def _beta(key, a, b, shape, dtype):
    logs = [
        _gamma(k, widen(convert_type(x, dtype), shape), shape, dtype, True)
        for k, x in zip(fresh_keys(key), (a, b), strict=True)
    ]
    top = lax.max(*logs)
    first, second = (lax.exp(lax.sub(x, top)) for x in logs)
    return lax.div(first, lax.add(first, second))


def dirichlet(key, alpha, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the Dirichlet distribution.

    Args:
      key: a key.
      alpha: positive numbers, the concentrations along the last axis.
      shape: the shape of the result without that axis; by default that of ``alpha`` without it.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of shape ``shape + alpha.shape[-1:]`` whose sums along the last axis are 1.

    Raises:
      ValueError: if ``alpha`` is of rank 0 or the shapes do not fit.
    """
    key = prepare("dirichlet", key, out_sharding)
    dtype = float_dtype("dirichlet", dtype)
    check_arraylike("dirichlet", alpha)
    have = shape_of(alpha)
    if not have:
        raise ValueError(f"dirichlet requires alpha.ndim >= 1, got alpha.ndim == {len(have)}")
    if shape is None:
        shape = have[:-1]
    else:
        shape = canonical_shape(shape, "dirichlet")
        check_parameters("dirichlet", shape, have[:-1])
    return _dirichlet(key, alpha, (*shape, have[-1]), dtype)


@compiled(static=("shape", "dtype"))
def _dirichlet(key, alpha, shape, dtype):
    from velax.nn import softmax  # velax.nn draws its initial parameters with this package

    return softmax(_gamma(key, widen(convert_type(alpha, dtype), shape), shape, dtype, True), axis=-1)


def chisquare(key, df, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the chi-square distribution of ``df`` degrees of freedom; arguments as in `gamma`."""
    key = prepare("chisquare", key, out_sharding)
    dtype = float_dtype("chisquare", dtype)
    return _chisquare(key, df, result_shape("chisquare", shape, df), dtype)


@compiled(static=("shape", "dtype"))
def _chisquare(key, df, shape, dtype):
    two = constant(dtype, 2)
    return lax.mul(lax.exp(_gamma(key, lax.div(convert_type(df, dtype), two), shape, dtype, True)), two)


def f(key, dfnum, dfden, shape=None, dtype=None, *, out_sharding=None):
    """Draw from Fisher's distribution of ``dfnum`` and ``dfden`` degrees of freedom; arguments as in `gamma`."""
    key = prepare("f", key, out_sharding)
    dtype = float_dtype("f", dtype)
    return _f(key, dfnum, dfden, result_shape("f", shape, dfnum, dfden), dtype)


@compiled(static=("shape", "dtype"))
def _f(key, dfnum, dfden, shape, dtype):
    k_den, k_num = fresh_keys(key)
    dfnum, dfden = (convert_type(x, dtype) for x in (dfnum, dfden))
    num, den = _chisquare(k_num, dfnum, shape, dtype), _chisquare(k_den, dfden, shape, dtype)
    return lax.div(lax.div(num, widen(dfnum, shape)), lax.div(den, widen(dfden, shape)))


def t(key, df, shape=None, dtype=None, *, out_sharding=None):
    """Draw from Student's distribution of ``df`` degrees of freedom; arguments as in `gamma`."""
    key = prepare("t", key, out_sharding)
    dtype = float_dtype("t", dtype)
    return _t(key, df, result_shape("t", shape, df), dtype)


@compiled(static=("shape", "dtype"))
def _t(key, df, shape, dtype):
    k_normal, k_gamma = fresh_keys(key)
    half = lax.div(convert_type(df, dtype), constant(dtype, 2))
    draws = _gamma(k_gamma, half, shape, dtype, False)
    return lax.mul(_normal(k_normal, shape, dtype), lax.sqrt(lax.div(widen(half, shape), draws)))


def generalized_normal(key, p, shape=(), dtype=None, *, out_sharding=None):
    """Draw from the distribution of density proportional to ``exp(-abs(x)**p)``.

    Args:
      key: a key.
      p: a number.
      shape: the shape of the result.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("generalized_normal", key, out_sharding)
    return _generalized_normal(
        key, p, canonical_shape(shape, "generalized_normal"), float_dtype("generalized_normal", dtype)
    )


@compiled(static=("shape", "dtype"))
def _generalized_normal(key, p, shape, dtype):
    k_gamma, k_sign = fresh_keys(key)
    inverse = convert_type(lax.div(1.0, convert_type(p, dtypes.to_inexact_dtype(get_aval(p).dtype))), dtype)
    draws = _gamma(k_gamma, inverse, shape, dtype, False)
    return lax.mul(_rademacher(k_sign, shape, dtype), lax.pow(draws, widen(inverse, shape)))


def ball(key, d: int, p=2, shape=(), dtype=None, *, out_sharding=None):
    """Draw uniformly from the unit ball of the Lp norm.

    Args:
      key: a key.
      d: the dimension.
      p: the exponent of the norm.
      shape: the shape of the result without the last axis, of size ``d``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("ball", key, out_sharding)
    return _ball(key, p, int(d), canonical_shape(shape, "ball"), float_dtype("ball", dtype))


@compiled(static=("d", "shape", "dtype"))
def _ball(key, p, d, shape, dtype):
    k_direction, k_radius = fresh_keys(key)
    g = _generalized_normal(k_direction, p, (*shape, d), dtype)
    e = _exponential(k_radius, shape, dtype)
    p = convert_type(p, dtype)
    norm = lax.add(lax.reduce_sum(lax.pow(lax.abs(g), widen(p, (*shape, d))), (len(shape),)), e)
    root = lax.pow(norm, widen(lax.div(constant(dtype, 1), p), shape))
    return lax.div(g, lax.broadcast_in_dim(root, (*shape, 1), range(len(shape))))
