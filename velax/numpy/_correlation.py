"""Sums of products of signals at all shifts, and of variables over observations."""

from __future__ import annotations

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._float_functions import conj
from velax.numpy._util import (
    check_arraylike,
    check_arraylike_or_none,
    compiled,
    promote_dtypes,
    promote_dtypes_inexact,
    to_array,
)  # fmt: skip

__all__ = ["convolve", "corrcoef", "correlate", "cov"]


def _operands(name: str, a, v, result):
    """Both signals in the dtype to compute in, floats unless a result dtype was asked for."""
    check_arraylike(name, a, v)
    a, v = (promote_dtypes if result is not None else promote_dtypes_inexact)(to_array(a), to_array(v))
    if get_aval(a).ndim != 1 or get_aval(v).ndim != 1:
        raise ValueError(f"{name}() only support 1-dimensional inputs.")
    if not get_aval(a).size or not get_aval(v).size:
        raise ValueError(f"{name}: inputs cannot be empty, got shapes {get_aval(a).shape} and {get_aval(v).shape}.")
    if result is not None:
        result = dtypes.check_user_dtype_supported(result, name)
        a, v = (convert_type(x, result, False) for x in (a, v))
    return a, v


def _sliding(a, v, mode: str):
    """The sums over ``j`` of ``a[i + j] * v[j]``, ``v`` being the shorter one."""
    n, m = get_aval(a).shape[0], get_aval(v).shape[0]
    before, size = {"full": (m - 1, n + m - 1), "same": (m // 2, n), "valid": (0, n - m + 1)}.get(mode, (0, None))
    if size is None:
        raise ValueError("mode must be one of ['full', 'same', 'valid']")
    dtype = get_aval(a).dtype
    a = lax.pad(a, dtype.type(0), [(before, size + m - 1 - n - before, 0)])

    def add_shift(total, step):
        j, weight = step
        return lax.add(total, lax.mul(lax.dynamic_slice(a, (j,), (size,)), weight)), None

    start = lax.full((size,), 0, dtype)
    return lax.scan(add_shift, start, (lax.iota("int32", m), v), unroll=min(m, 8))[0]


@compiled(static=("mode", "precision", "preferred_element_type"))
def convolve(a, v, mode: str = "full", *, precision=None, preferred_element_type=None):
    """The convolution of two signals: the sums over ``j`` of ``a[j] * v[i - j]``.

    Args:
      a, v: arrays of one axis, not empty.
      mode: ``"full"`` for all overlaps, ``"same"`` for as many values as the longer signal has, ``"valid"``
        for the overlaps of the whole of the shorter one.
      precision: accepted for compatibility; sums are of the operands' precision.
      preferred_element_type: the dtype to compute in and to return; None: floats.

    Returns:
      An array of one axis.

    Raises:
      ValueError: for signals that are empty or of other ranks, and for unknown modes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.convolve(jnp.array([1., 2., 3.]), jnp.array([1., 1.]))
      Array([1., 3., 5., 3.], dtype=float32)
    """
    a, v = _operands("convolve", a, v, preferred_element_type)
    if get_aval(a).shape[0] < get_aval(v).shape[0]:
        a, v = v, a
    return _sliding(a, lax.rev(v, (0,)), mode)


@compiled(static=("mode", "precision", "preferred_element_type"))
def correlate(a, v, mode: str = "valid", *, precision=None, preferred_element_type=None):
    """The correlation of two signals: the sums over ``j`` of ``a[i + j] * conj(v[j])``.

    Args:
      a, v, mode, precision, preferred_element_type: as in `convolve`.

    Returns:
      An array of one axis.

    Raises:
      ValueError: for signals that are empty or of other ranks, and for unknown modes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.correlate(jnp.array([1., 2., 3.]), jnp.array([0., 1.]), "full")
      Array([1., 2., 3., 0.], dtype=float32)
    """
    a, v = _operands("correlate", a, v, preferred_element_type)
    v = conj(v)
    if get_aval(a).shape[0] >= get_aval(v).shape[0]:
        return _sliding(a, v, mode)
    return lax.rev(_sliding(v, a, mode), (0,))


def cov(m, y=None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, fweights=None, aweights=None,
        dtype=None):  # fmt: skip
    """The matrix of covariances of variables.

    Args:
      m: observations of variables: an array of at most two axes, the first along the variables.
      y: more variables with the same observations.
      rowvar: False: the second axis is along the variables.
      bias: whether to divide by the number of observations, not by one less.
      ddof: what to subtract from the number of observations; overrides ``bias``.
      fweights: how often each observation occurred, integers.
      aweights: the weight of each observation.
      dtype: the dtype of the result; at least that of the inputs.

    Returns:
      A square array of floats or complex numbers; a scalar for one variable.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cov(jnp.array([[1., 2., 3.], [3., 2., 1.]]))
      Array([[ 1., -1.],
             [-1.,  1.]], dtype=float32)
    """
    dtype = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "cov")
    return _cov(m, y, bool(rowvar), int(not bias) if ddof is None else ddof, fweights, aweights, dtype)


@compiled(static=("rowvar", "ddof", "dtype"))
def _cov(m, y, rowvar, ddof, fweights, aweights, dtype):
    check_arraylike("cov", m)
    check_arraylike_or_none("cov", y, fweights, aweights)
    parts = promote_dtypes_inexact(*(to_array(v) for v in (m, y) if v is not None))
    for name, part in zip("my", parts, strict=False):
        if get_aval(part).ndim > 2:
            raise ValueError(f"{name} has more than 2 dimensions")
    if dtype is not None:
        parts = [convert_type(v, dtype, False) for v in parts]
    rows = [
        lax.reshape(v, (1, v.size)) if v.ndim < 2 else v if rowvar or (i and v.shape[0] == 1) else v.T
        for i, v in enumerate(map(asarray, parts))
    ]
    x = lax.concatenate(rows, 0)
    count = x.shape[1]
    if not x.shape[0]:
        return asarray([], dtype=x.dtype).reshape(0, 0)
    weights = None
    for name, given, kind in (("fweights", fweights, "integer"), ("aweights", aweights, None)):
        if given is None:
            continue
        w = asarray(given)
        if w.ndim != 1:
            raise RuntimeError(f"cannot handle multidimensional {name}")
        if w.shape[0] != count:
            raise RuntimeError(f"incompatible numbers of samples and {name}")
        if kind and not dtypes.is_integer(w.dtype):
            raise TypeError(f"{name} must be integer.")
        w = abs(w)
        weights = w if weights is None else weights * w
    if weights is None:
        centre, freedom = x.mean(axis=1), count - ddof if count else 0  # NaN of no observations
        weighted = x - centre[:, None]
    else:
        total = weights.sum()
        centre = (x * weights).sum(axis=1) / total
        # the correction counts observations, of which weights other than counts make fewer
        correction = 0 if not ddof else ddof if aweights is None else ddof * (weights * asarray(aweights)).sum() / total
        freedom = total - correction
        weighted = (x - centre[:, None]) * weights
    out = weighted @ conj(x - centre[:, None]).T / freedom
    return out.squeeze().astype(x.dtype)


def corrcoef(x, y=None, rowvar: bool = True, dtype=None):
    """The matrix of correlation coefficients of variables, between -1 and 1.

    Args:
      x: observations of variables, as in `cov`.
      y, rowvar, dtype: as in `cov`.

    Returns:
      A square array of floats or complex numbers; a scalar for one variable.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.corrcoef(jnp.array([[1., 2., 3.], [3., 2., 1.]])).round(3)
      Array([[ 1., -1.],
             [-1.,  1.]], dtype=float32)
    """
    check_arraylike("corrcoef", x)
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    deviation = lax.sqrt(lax.real(c.diagonal())) if dtypes.is_complex(c.dtype) else lax.sqrt(c.diagonal())
    c = c / deviation[:, None] / deviation[None, :]
    if dtypes.is_complex(c.dtype):
        return lax.complex(lax.real(c).clip(-1, 1), lax.imag(c).clip(-1, 1))
    return c.clip(-1, 1)
