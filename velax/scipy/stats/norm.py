"""The normal distribution."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax.numpy._util import inlined, promote_args_inexact
from velax.random._parameters import constant
from velax.scipy import special

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


def _standardized(x, loc, scale):
    return lax.div(lax.sub(x, loc), scale)


@inlined
def logpdf(x, loc=0, scale=1):
    """The logarithm of the density at ``x`` of the normal distribution with mean ``loc`` and standard
    deviation ``scale``.
    """
    x, loc, scale = promote_args_inexact("norm.logpdf", x, loc, scale)
    z = _standardized(x, loc, scale)
    log_normalizer = lax.add(lax.log(scale), constant(z.dtype, 0.5 * np.log(2 * np.pi)))
    return lax.sub(lax.mul(constant(z.dtype, -0.5), lax.mul(z, z)), log_normalizer)


@inlined
def pdf(x, loc=0, scale=1):
    """The density at ``x`` of the normal distribution with mean ``loc`` and standard deviation ``scale``.

    Example:
      >>> import velax.scipy.stats.norm as norm
      >>> round(float(norm.pdf(0.0)), 4)
      0.3989
    """
    return lax.exp(logpdf(x, loc, scale))


@inlined
def cdf(x, loc=0, scale=1):
    """The probability of a value of at most ``x``."""
    x, loc, scale = promote_args_inexact("norm.cdf", x, loc, scale)
    return special.ndtr(_standardized(x, loc, scale))


@inlined
def logcdf(x, loc=0, scale=1):
    """The logarithm of `cdf`, accurate also where that underflows."""
    x, loc, scale = promote_args_inexact("norm.logcdf", x, loc, scale)
    return special.log_ndtr(_standardized(x, loc, scale))


@inlined
def ppf(q, loc=0, scale=1):
    """The value that is not exceeded with probability ``q``: the inverse of `cdf`."""
    q, loc, scale = promote_args_inexact("norm.ppf", q, loc, scale)
    return lax.add(lax.mul(special.ndtri(q), scale), loc)


@inlined
def sf(x, loc=0, scale=1):
    """The probability of a value above ``x``: ``1 - cdf(x)``, accurate in the upper tail."""
    x, loc, scale = promote_args_inexact("norm.sf", x, loc, scale)
    return special.ndtr(lax.neg(_standardized(x, loc, scale)))


@inlined
def logsf(x, loc=0, scale=1):
    """The logarithm of `sf`."""
    x, loc, scale = promote_args_inexact("norm.logsf", x, loc, scale)
    return special.log_ndtr(lax.neg(_standardized(x, loc, scale)))


@inlined
def isf(q, loc=0, scale=1):
    """The inverse of `sf`."""
    q, loc, scale = promote_args_inexact("norm.isf", q, loc, scale)
    return lax.sub(loc, lax.mul(special.ndtri(q), scale))
