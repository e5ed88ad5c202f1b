"""Random vectors and matrices that need a factorization."""

from __future__ import annotations

import velax.numpy as jnp
from velax._lang.trace import get_aval
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy._util import compiled
from velax.random._parameters import broadcast_shapes, check_parameters, float_dtype, prepare, shape_of
from velax.random._samplers import _normal

__all__ = ["multivariate_normal", "orthogonal"]


def multivariate_normal(key, mean, cov, shape=None, dtype=None, method: str = "cholesky", *, out_sharding=None):
    """Draw from the multivariate normal distribution.

    Args:
      key: a key.
      mean: (..., n).
      cov: (..., n, n), positive definite.
      shape: the shape of the result without the last axis; by default that of the parameters.
      dtype: a float dtype.
      method: how the covariance is factored: "cholesky", "eigh" or "svd".
      out_sharding: placement; None, as there is one device.

    Raises:
      ValueError: for shapes that do not fit, and unknown methods.
      NotImplementedError: if the factorization is not available.
    """
    key = prepare("multivariate_normal", key, out_sharding)
    dtype = float_dtype("multivariate_normal", dtype)
    if method not in ("svd", "eigh", "cholesky"):
        raise ValueError(f"method must be one of {{'svd', 'eigh', 'cholesky'}} in multivariate_normal, got {method!r}")
    mean_shape, cov_shape = shape_of(mean), shape_of(cov)
    if not mean_shape:
        raise ValueError(f"multivariate_normal requires mean.ndim >= 1, got mean.ndim == {len(mean_shape)}")
    if len(cov_shape) < 2:
        raise ValueError(f"multivariate_normal requires cov.ndim >= 2, got cov.ndim == {len(cov_shape)}")
    n = mean_shape[-1]
    if cov_shape[-2:] != (n, n):
        raise ValueError(
            f"multivariate_normal requires cov.shape == (..., n, n) for n={n}, but got cov.shape == {cov_shape}."
        )
    if shape is None:
        shape = broadcast_shapes(mean_shape[:-1], cov_shape[:-2])
    else:
        shape = canonical_shape(shape, "multivariate_normal")
        check_parameters("multivariate_normal", shape, mean_shape[:-1], cov_shape[:-2])
    return _multivariate_normal(key, mean, cov, shape, dtype, method)


@compiled(static=("shape", "dtype", "method"))
def _multivariate_normal(key, mean, cov, shape, dtype, method):
    mean, cov = convert_type(mean, dtype), convert_type(cov, dtype)
    factor = _factor(cov, method)
    n = get_aval(mean).shape[-1]
    return mean + jnp.einsum("...ij,...j->...i", factor, _normal(key, (*shape, n), dtype))


def _factor(cov, method: str):
    """A matrix whose product with its transpose is ``cov``."""
    linalg = jnp.linalg
    if not hasattr(linalg, method):
        raise NotImplementedError(
            f"multivariate_normal(method={method!r}) needs jnp.linalg.{method}, which is not implemented; multiply "
            "random.normal by a factor of the covariance"
        )
    if method == "cholesky":
        return linalg.cholesky(cov)
    if method == "svd":
        u, s, _ = linalg.svd(cov)
        return u * jnp.sqrt(s[..., None, :])
    w, v = linalg.eigh(cov)
    return v * jnp.sqrt(w[..., None, :])


def orthogonal(key, n: int, shape=(), dtype=None, m: int | None = None, *, out_sharding=None):
    """Draw uniformly distributed orthogonal (for complex dtypes unitary) matrices.

    Args:
      key: a key.
      n: the number of rows.
      shape: the shape of the result without the last two axes.
      dtype: a float or complex dtype.
      m: the number of columns, by default ``n``; the rows or the columns, whichever are fewer, are orthonormal.
      out_sharding: placement; None, as there is one device.

    Raises:
      NotImplementedError: if the QR decomposition is not available.
    """
    key = prepare("orthogonal", key, out_sharding)
    dtype = float_dtype("orthogonal", dtype, "a float or complex")
    m = n if m is None else m
    if not hasattr(jnp.linalg, "qr"):
        raise NotImplementedError("random.orthogonal needs jnp.linalg.qr, which is not implemented")
    q, r = jnp.linalg.qr(_normal(key, (*canonical_shape(shape, "orthogonal"), max(n, m), min(n, m)), dtype))
    q = q * jnp.expand_dims(jnp.sign(jnp.diagonal(r, 0, -2, -1)), -2)
    return q.mT if n < m else q
