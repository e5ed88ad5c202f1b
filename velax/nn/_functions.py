"""Activation functions."""

from __future__ import annotations

import numpy as np

import velax.numpy as jnp
from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.lax._structural import canonical_axis
from velax.numpy._float_functions import tanh
from velax.numpy._util import check_arraylike, compiled, inlined, promote_args_inexact

__all__ = [
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity", "leaky_relu",
    "log1mexp", "log_sigmoid",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "sparse_plus", "sparse_sigmoid",
    "squareplus", "swish", "tanh",
]  # fmt: skip


def _with_derivative(*rules):
    """A compiled function with derivatives of its own: ``rule(t, out, x)`` for each argument.

    Called eagerly it is one compiled call; traced, a ``custom_jvp_call``.
    """

    def decorate(fun):
        differentiable = custom_jvp(compiled(fun))
        differentiable.defjvps(*rules)

        def call(x):
            return differentiable(x)

        call.__name__, call.__qualname__, call.__doc__ = fun.__name__, fun.__qualname__, fun.__doc__
        return inlined(call)

    return decorate


@inlined
def identity(x):
    """``x`` as an array."""
    check_arraylike("identity", x)
    return jnp.asarray(x)


@_with_derivative(lambda t, out, x: lax.select(x > 0, t, lax.full_like(t, 0)))
def relu(x):
    """Rectified linear unit, ``max(x, 0)``, with derivative 0 at 0.

    Args:
      x: an array.

    Returns:
      An array of the same shape.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> nn.relu(jnp.array([-1.0, 0.0, 2.0]))
      Array([0., 0., 2.], dtype=float32)
    """
    return jnp.maximum(x, 0)


@_with_derivative(lambda t, out, x: lax.select((x > 0) & (x < 6), t, lax.full_like(t, 0)))
def relu6(x):
    """``min(max(x, 0), 6)``, with derivative 0 at the bounds."""
    return jnp.minimum(jnp.maximum(x, 0), 6.0)


@inlined
def sigmoid(x):
    """The logistic function ``1 / (1 + exp(-x))`` of floats or complex numbers."""
    return lax.logistic(x)


@compiled
def softplus(x):
    """``log(1 + exp(x))``, without overflow."""
    return jnp.logaddexp(x, 0.0)


@compiled
def soft_sign(x):
    """``x / (1 + abs(x))``."""
    check_arraylike("soft_sign", x)
    return x / (jnp.abs(x) + 1)


@compiled
def silu(x):
    """``x * sigmoid(x)``; also called swish."""
    check_arraylike("silu", x)
    return x * sigmoid(x)


swish = silu


@compiled
def log_sigmoid(x):
    """``log(sigmoid(x))``, without overflow."""
    check_arraylike("log_sigmoid", x)
    return -softplus(lax.neg(x))


@compiled
def leaky_relu(x, negative_slope=0.01):
    """``x`` where it is not negative, else ``negative_slope * x``."""
    check_arraylike("leaky_relu", x)
    return jnp.where(x >= 0, x, negative_slope * x)


@compiled
def hard_sigmoid(x):
    """``relu6(x + 3) / 6``."""
    check_arraylike("hard_sigmoid", x)
    return relu6(x + 3.0) / 6.0


@compiled
def hard_silu(x):
    """``x * hard_sigmoid(x)``; also called hard_swish."""
    check_arraylike("hard_silu", x)
    return x * hard_sigmoid(x)


hard_swish = hard_silu


@compiled
def hard_tanh(x):
    """``x`` limited to ``[-1, 1]``."""
    check_arraylike("hard_tanh", x)
    return jnp.where(x > 1, 1, jnp.where(x < -1, -1, x))


@compiled
def elu(x, alpha=1.0):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""
    check_arraylike("elu", x)
    negative = jnp.where(x > 0, 0.0, x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(negative))


@compiled
def celu(x, alpha=1.0):
    """``max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)``, continuously differentiable."""
    return jnp.maximum(x, 0.0) + alpha * jnp.expm1(jnp.minimum(x, 0.0) / alpha)


@compiled
def selu(x):
    """`elu`, scaled so that activations of deep networks keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    alpha = 1.6732632423543772848170429916717
    scale = 1.0507009873554804934193349852946
    return scale * elu(x, alpha)


def gelu(x, approximate: bool = True):
    """Gaussian error linear unit, ``x`` times the normal distribution function of ``x``.

    Args:
      x: an array.
      approximate: whether to use the formula with tanh.

    Returns:
      An array of the same shape; integers become floats.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> nn.gelu(jnp.zeros(2))
      Array([0., 0.], dtype=float32)
    """
    return _gelu(x, bool(approximate))


@compiled(static=("approximate",), inline=True)
def _gelu(x, approximate):
    (x,) = promote_args_inexact("gelu", x)
    dtype = get_aval(x).dtype
    if approximate:
        factor = np.asarray(np.sqrt(2 / np.pi)).astype(dtype)[()]
        cdf = 0.5 * (1.0 + jnp.tanh(factor * (x + 0.044715 * lax.integer_pow(x, 3))))
        out = x * cdf
    else:
        half_root = np.asarray(np.sqrt(0.5)).astype(dtype)[()]
        out = 0.5 * x * lax.erfc(-x * half_root)
    return lax.convert_element_type(out, dtype)


def glu(x, axis: int = -1):
    """Gated linear unit: the first half of ``x`` along an axis times `sigmoid` of the second.

    Raises:
      AssertionError: if the axis is of odd size.
    """
    return _glu(x, axis)


def _glu_value(x, axis):
    check_arraylike("glu", x)
    size = get_aval(x).shape[axis]
    assert size % 2 == 0, "axis size must be divisible by 2"
    first, second = lax.split(
        jnp.asarray(x), (size // 2, size // 2), axis=canonical_axis(axis, get_aval(x).ndim, "glu")
    )
    return first * sigmoid(second)


_glu_value.__name__ = "glu"
_glu = compiled(_glu_value, static=("axis",))


@compiled
def squareplus(x, b=4):
    """``(x + sqrt(x**2 + b)) / 2``, a smooth relu (Barron, 2021)."""
    check_arraylike("squareplus", x, b)
    return (x + jnp.sqrt(jnp.square(x) + b)) / 2


@compiled
def mish(x):
    """``x * tanh(softplus(x))``."""
    check_arraylike("mish", x)
    return x * jnp.tanh(softplus(x))


@compiled
def sparse_plus(x):
    """0 up to -1, ``(x + 1)**2 / 4`` up to 1, ``x`` from there."""
    check_arraylike("sparse_plus", x)
    return jnp.where(x <= -1.0, 0.0, jnp.where(x >= 1.0, x, (x + 1.0) ** 2 / 4))


@compiled
def sparse_sigmoid(x):
    """0 up to -1, ``(x + 1) / 2`` up to 1, 1 from there: the derivative of `sparse_plus`."""
    check_arraylike("sparse_sigmoid", x)
    return 0.5 * jnp.clip(x + 1.0, 0.0, 2.0)


@_with_derivative(lambda t, out, x: lax.div(t, jnp.expm1(x).astype(get_aval(t).dtype)))
def log1mexp(x):
    """``log(1 - exp(-x))`` of positive numbers, accurate near 0 and far from it (Mächler, 2012)."""
    check_arraylike("log1mexp", x)
    limit = np.log(2.0).astype(dtypes.to_inexact_dtype(get_aval(x).dtype))
    return jnp.where(x < limit, jnp.log(-jnp.expm1(-x)), jnp.log1p(-jnp.exp(-x)))
