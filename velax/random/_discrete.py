"""Discrete distributions, and random selection and order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import canonical_axis, canonical_shape, convert_type
from velax.numpy import searchsorted, take
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact, to_array
from velax.random._keys import draw_bits
from velax.random._parameters import (
    check_parameters,
    constant,
    float_dtype,
    fresh_keys,
    int_dtype,
    prepare,
    result_shape,
    shape_of,
    to_rank,
    widen,
)
from velax.random._samplers import _gumbel, _gumbel_mode, _uniform, halves

__all__ = ["bernoulli", "categorical", "choice", "geometric", "permutation", "rademacher", "randint"]


# -- integers ------------------------------------------------------------------------------------


def randint(key, shape, minval, maxval, dtype=None, *, out_sharding=None):
    """Draw integers uniformly from ``[minval, maxval)``.

    Args:
      key: a key.
      shape: the shape of the result.
      minval: lower bound, included; broadcasts to ``shape``.
      maxval: upper bound, excluded; broadcasts to ``shape``. Beyond the dtype's largest number,
        that number is included.
      dtype: an integer dtype.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype; ``minval`` where the range is empty.

    Raises:
      TypeError: if ``dtype`` is no integer.
      ValueError: if the bounds do not broadcast to ``shape``.

    Example:
      >>> from velax import random
      >>> bool((random.randint(random.key(0), (4,), 0, 10) < 10).all())
      True
    """
    key = prepare("randint", key, out_sharding)
    dtype = int_dtype("randint", dtype)
    shape = canonical_shape(shape, "randint")
    if not dtypes.is_integer(dtype):
        raise TypeError(f"randint only accepts integer dtypes, got {dtype}")
    info = dtypes.iinfo(dtype)
    if info.bits < 32:
        # narrow integers are drawn with 32 bits: their own would make the modulus visible
        lo, hi = _clip_wide(minval, info.min, info.max), _clip_wide(maxval, info.min, info.max + 1)
        return convert_type(_randint(key, shape, lo, hi, np.dtype("int32")), dtype)
    return _randint(key, shape, minval, maxval, dtype)


def _clip_wide(x, low: int, high: int):
    """A bound clipped to ``[low, high]``, in at least 32 bits."""
    if isinstance(x, (bool, int, float)):
        return int(min(max(x, low), high))
    dtype = get_aval(x).dtype
    if not dtypes.is_integer(dtype) or dtype.itemsize < 4:
        x = convert_type(x, np.dtype("int32"))
    info = dtypes.iinfo(get_aval(x).dtype)
    return lax.min(lax.max(x, max(low, int(info.min))), min(high, int(info.max)))


def _clip_convert(x, dtype):
    """``x`` converted to an integer dtype, clipped to its range."""
    have = get_aval(x).dtype
    if not dtypes.is_integer(have):
        return convert_type(x, dtype)
    source, target = dtypes.iinfo(have), dtypes.iinfo(dtype)
    low, high = max(int(source.min), int(target.min)), min(int(source.max), int(target.max))
    return convert_type(lax.min(constant(have, high), lax.max(constant(have, low), x)), dtype)


@compiled(static=("shape", "dtype"))
def _randint(key, shape, minval, maxval, dtype):
    check_parameters("randint", shape, shape_of(minval), shape_of(maxval))
    info, have = dtypes.iinfo(dtype), get_aval(maxval).dtype
    beyond = None
    if dtypes.is_integer(have):
        beyond = lax.gt(maxval, constant(have, min(int(info.max), int(dtypes.iinfo(have).max))))
    rank = len(shape)
    minval, maxval = (to_rank(_clip_convert(x, dtype), rank) for x in (minval, maxval))
    high, low = (draw_bits(k, info.bits, shape) for k in fresh_keys(key))
    unsigned = np.dtype(f"uint{info.bits}")
    span = convert_type(lax.sub(maxval, minval), unsigned)
    one = constant(unsigned, 1)
    span = lax.select(lax.le(maxval, minval), widen(one, shape_of(span)), span)
    if beyond is not None:
        above = lax.bitwise_and(to_rank(beyond, rank), lax.gt(maxval, minval))
        span = lax.select(above, lax.add(span, one), span)
    # (high * 2**bits + low) mod span; span is 0 where the range is all of the dtype, and the remainder by 0
    # the number itself
    multiplier = lax.rem(constant(unsigned, 1 << (info.bits // 2)), span)
    multiplier = lax.rem(lax.mul(multiplier, multiplier), span)
    offset = lax.rem(lax.add(lax.mul(lax.rem(high, span), multiplier), lax.rem(low, span)), span)
    return lax.add(minval, convert_type(offset, dtype))


# -- truth values --------------------------------------------------------------------------------


def bernoulli(key, p=0.5, shape=None, mode="low", *, out_sharding=None):
    """Draw booleans that are True with probability ``p``.

    Args:
      key: a key.
      p: a float or array of floats; broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``p``.
      mode: "low" draws one uniform number each; "high" two, for small probabilities.
      out_sharding: placement; None, as there is one device.

    Returns:
      A boolean array.

    Raises:
      TypeError: if ``p`` is no float.
      ValueError: for an unknown mode, or shapes that do not broadcast.

    Example:
      >>> from velax import random
      >>> random.bernoulli(random.key(0), 0.5, (2,)).dtype
      dtype('bool')
    """
    if mode not in ("high", "low"):
        raise ValueError(f"got {mode=}, expected 'high' or 'low'")
    key = prepare("bernoulli", key, out_sharding)
    dtype = dtypes.dtype(p)
    if not dtypes.is_floating(dtype):
        raise TypeError(f"bernoulli probability `p` must have a floating dtype, got {dtype}.")
    return _bernoulli(
        key,
        p if isinstance(p, Array) else constant(dtype, p) if np.ndim(p) == 0 else p,
        result_shape("bernoulli", shape, p),
        mode,
    )


@compiled(static=("shape", "mode"))
def _bernoulli(key, p, shape, mode):
    dtype = get_aval(p).dtype
    p = convert_type(p, dtype)
    p = to_rank(p, len(shape)) if shape_of(p) else p
    if mode == "low":
        return lax.lt(_uniform(key, shape, dtype, 0.0, 1.0), p)
    u1, u2 = halves(_uniform(key, (2, *shape), dtype, 0.0, 1.0))
    return lax.lt(lax.mul(u2, constant(dtype, 2.0 ** -dtypes.finfo(dtype).nmant)), lax.sub(p, u1))


def rademacher(key, shape=(), dtype=None, *, out_sharding=None):
    """Draw -1 and 1 with equal probability.

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: a dtype of numbers; by default an integer.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("rademacher", key, out_sharding)
    return _rademacher(key, canonical_shape(shape, "rademacher"), int_dtype("rademacher", dtype))


@compiled(static=("shape", "dtype"))
def _rademacher(key, shape, dtype):
    draws = _bernoulli(
        key,
        constant(np.dtype("float32") if dtypes.default_float_dtype() == np.float32 else np.dtype("float64"), 0.5),
        shape,
        "low",
    )
    number = np.dtype("int32") if dtype == np.bool_ else dtype
    out = lax.sub(lax.mul(constant(number, 2), convert_type(draws, number)), constant(number, 1))
    return convert_type(out, dtype)


def geometric(key, p, shape=None, dtype=None, *, out_sharding=None):
    """Draw the number of trials until the first success of probability ``p``, from 1 up.

    Args:
      key: a key.
      p: broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``p``.
      dtype: an integer dtype.
      out_sharding: placement; None, as there is one device.

    Raises:
      ValueError: if ``dtype`` is no integer.
    """
    key = prepare("geometric", key, out_sharding)
    dtype = int_dtype("geometric", dtype)
    if not dtypes.is_integer(dtype):
        raise ValueError(f"dtype argument to `geometric` must be an int dtype, got {dtype}")
    return _geometric(key, p, result_shape("geometric", shape, p), dtype)


@compiled(static=("shape", "dtype"))
def _geometric(key, p, shape, dtype):
    check_arraylike("geometric", p)
    (p,) = promote_dtypes_inexact(p)
    float_type = get_aval(p).dtype
    u = _uniform(key, shape, float_type, 0.0, 1.0)
    u = lax.select(lax.eq(u, constant(float_type, 0)), lax.full(shape, 1, float_type), u)
    log_q = widen(lax.log1p(lax.neg(convert_type(p, float_type))), shape)
    return convert_type(lax.add(lax.floor(lax.div(lax.log(u), log_q)), constant(float_type, 1)), dtype)


# -- categories ----------------------------------------------------------------------------------


def categorical(key, logits, axis=-1, shape=None, replace=True, mode=None, *, out_sharding=None):
    """Draw categories of given unnormalized log probabilities.

    Args:
      key: a key.
      logits: floats; one distribution along ``axis`` for each position of the other axes.
      axis: the axis of the categories.
      shape: the shape of the result, which ends in the shape of ``logits`` without ``axis`` or
        broadcasts with it; by default that shape.
      replace: whether the draws along the leading axes of ``shape`` are independent; False: all
        different.
      mode: as in `gumbel`.
      out_sharding: placement; None, as there is one device.

    Returns:
      Integers, the drawn categories.

    Raises:
      ValueError: for shapes that do not broadcast, or more draws without replacement than categories.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import random
      >>> random.categorical(random.key(0), jnp.zeros((3, 4))).shape
      (3,)
    """
    key = prepare("categorical", key, out_sharding)
    check_arraylike("categorical", logits)
    logits_shape = shape_of(logits)
    rank = len(logits_shape)
    if not -rank <= axis < rank:
        raise IndexError(f"index {axis} is out of bounds for axis 0 with size {rank}")
    axis = axis - rank if axis >= 0 else axis
    batch = tuple(n for i, n in enumerate(logits_shape) if i != axis + rank)
    if shape is None:
        shape = batch
    else:
        shape = canonical_shape(shape, "categorical")
        check_parameters("categorical", shape, batch)
    dtype = float_dtype("gumbel", dtypes.dtype(logits))
    mode = _gumbel_mode(mode)
    prefix = shape[: len(shape) - len(batch)]
    count, categories = math.prod(prefix), logits_shape[axis]
    if not replace and count > categories:
        raise ValueError(
            f"Number of samples without replacement ({count}) cannot exceed number of categories ({categories})."
        )
    return _categorical(key, logits, axis, shape, bool(replace), mode, dtype)


@compiled(static=("axis", "shape", "replace", "mode", "dtype"), inline=True)
def _categorical(key, logits, axis, shape, replace, mode, dtype):
    have = shape_of(logits)
    rank = len(have)
    logits = convert_type(logits, dtype)
    prefix = shape[: len(shape) - rank + 1]
    if replace:
        drawn = list(shape[len(prefix) :])
        drawn.insert(axis % rank, have[axis])
        drawn = (*prefix, *drawn)
        noise = _gumbel(key, drawn, dtype, mode)
        return lax.argmax(lax.add(noise, to_rank(logits, len(drawn))), len(drawn) + axis, dtypes.default_int_dtype())
    noisy = lax.add(logits, _gumbel(key, have, dtype, mode))
    _, indices = lax.top_k(
        lax.transpose(noisy, [*(i for i in range(rank) if i != axis % rank), axis % rank]), math.prod(prefix)
    )
    return lax.reshape(indices, shape, (rank - 1, *range(rank - 1)))


# -- order and selection -------------------------------------------------------------------------


def permutation(key, x, axis=0, independent=False, *, out_sharding=None):
    """Put the elements of an array in random order along an axis.

    Args:
      key: a key.
      x: an array, or an integer ``n`` for ``arange(n)``.
      axis: the axis.
      independent: whether every vector along the axis is put in an order of its own.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of the shape of ``x``.

    Raises:
      TypeError: if ``x`` is neither an integer nor an array.
      ValueError: if there is no such axis.

    Example:
      >>> from velax import random
      >>> sorted(random.permutation(random.key(0), 4).tolist())
      [0, 1, 2, 3]
    """
    key = prepare("permutation", key, out_sharding)
    check_arraylike("permutation", x)
    rank = len(shape_of(x))
    axis = canonical_axis(axis, max(rank, 1), "permutation") if rank else 0
    if not rank:
        if not dtypes.is_integer(dtypes.dtype(x)):
            raise TypeError(f"x must be an integer or at least 1-dimensional in permutation, got {dtypes.dtype(x)}[]")
        n = concrete_or_error(int, x, "argument x of jax.random.permutation()")
        return _permuted_range(key, max(n, 0), dtypes.default_int_dtype())
    return _permutation(key, to_array(x), axis, bool(independent))


@compiled(static=("n", "dtype"), inline=True)
def _permuted_range(key, n, dtype):
    return _shuffle(key, lax.iota(dtype, n), 0)


@compiled(static=("axis", "independent"), inline=True)
def _permutation(key, x, axis, independent):
    if independent or get_aval(x).ndim == 1:
        return _shuffle(key, x, axis)
    order = _shuffle(key, lax.iota(dtypes.default_int_dtype(), get_aval(x).shape[axis]), 0)
    return take(x, order, axis)


@compiled(static=("axis",))
def _shuffle(key, x, axis):
    # Sorting by random 32-bit words leaves ties in order; repeated rounds make the effect of ties small (the
    # exponent is the negative logarithm, to the base of the array's size, of the chance that an unshuffled
    # pair remains).
    exponent = 3
    size = max(1, get_aval(x).size)
    rounds = math.ceil(exponent * np.log(size) / np.log(dtypes.iinfo(np.uint32).max))
    for _ in range(rounds):
        key, subkey = fresh_keys(key)
        words = draw_bits(subkey, 32, get_aval(x).shape)
        _, x = lax.sort_key_val(words, x, axis)
    return x


def choice(key, a, shape=(), replace=True, p=None, axis=0, mode=None):
    """Draw elements of an array.

    Args:
      key: a key.
      a: an array, or an integer ``n`` for ``arange(n)``.
      shape: how many are drawn, as a shape that takes the place of ``axis``.
      replace: whether an element can be drawn again.
      p: probabilities along ``axis``; uniform by default.
      axis: the axis of ``a`` whose elements are drawn.
      mode: as in `gumbel`, for draws without replacement with ``p``.

    Returns:
      An array of shape ``a.shape[:axis] + shape + a.shape[axis + 1:]``.

    Raises:
      TypeError: if ``a`` or ``p`` are no arrays.
      ValueError: if ``a`` is empty, more elements are drawn without replacement than there are, or ``p`` does not fit.

    Example:
      >>> from velax import random
      >>> random.choice(random.key(0), 5, (3,), replace=False).shape
      (3,)
    """
    key = prepare("choice", key)
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape argument of jax.random.choice must be a sequence, got {shape}")
    check_arraylike("choice", a)
    shape = canonical_shape(shape, "choice")
    a_shape = shape_of(a)
    if a_shape:
        a = to_array(a)
        axis = canonical_axis(axis, len(a_shape), "choice")
        n = a_shape[axis]
    else:
        n, axis = concrete_or_error(int, a, "The size argument of jax.random.choice must be concrete."), 0
    draws = math.prod(shape)
    out_shape = (*a_shape[:axis], *shape, *a_shape[axis + 1 :])
    if draws == 0:
        return lax.full(out_shape, 0, get_aval(a).dtype if a_shape else dtypes.dtype(a))
    if n <= 0:
        raise ValueError(f"a must be greater than 0 unless no samples are taken in choice, got {n}")
    if not replace and draws > n:
        raise ValueError(f"Cannot take a larger sample (size {draws}) than population (size {n}) when 'replace=False'")
    if p is None:
        if replace:
            drawn = randint(key, shape, 0, n)
            out = take(a, drawn, axis) if a_shape else drawn
        else:
            out = lax.slice_in_dim(permutation(key, a if a_shape else n, axis), 0, draws, axis=axis)
        return lax.reshape(out, out_shape)
    check_arraylike("choice", p)
    (p,) = promote_dtypes_inexact(p)
    if get_aval(p).shape != (n,):
        raise ValueError(
            f"p must be None or a 1D vector with the same size as a.shape[axis]. p has shape {get_aval(p).shape} "
            f"and a.shape[axis] is {n}."
        )
    drawn = _weighted(key, p, shape, _gumbel_mode(mode), bool(replace))
    return lax.reshape(take(a, drawn, axis) if a_shape else drawn, out_shape)


@compiled(static=("shape", "mode", "replace"), inline=True)
def _weighted(key, p, shape, mode, replace):
    """Positions drawn with probabilities ``p``."""
    dtype = get_aval(p).dtype
    if not replace:
        noisy = lax.add(_gumbel(key, get_aval(p).shape, dtype, mode), lax.log(p))
        return lax.top_k(noisy, math.prod(shape))[1]
    total = lax.cumsum(p, 0)
    last = lax.index_in_dim(total, -1, 0, keepdims=False)
    u = lax.sub(constant(dtype, 1), _uniform(key, shape, dtype, 0.0, 1.0))
    return searchsorted(total, lax.mul(last, u))
