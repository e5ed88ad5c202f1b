"""Scalar types, constants, and questions about dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from velax import lax
from velax._lang import dtypes, promotion
from velax._lang.array import Array
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax.numpy._creation import asarray
from velax.numpy._float_functions import imag
from velax.numpy._util import check_arraylike, inlined, is_arraylike

_FLOATS = (
    "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz",
    "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16", "float32", "float64",
)  # fmt: skip
_NUMBERS = (
    "int1", "int2", "int4", "int8", "int16", "int32", "int64", "uint1", "uint2", "uint4", "uint8", "uint16", "uint32",
    "uint64", *_FLOATS,
    "complex64", "complex128",
)  # fmt: skip

__all__ = [
    "ComplexWarning", "bool", "bool_", "can_cast", "cdouble", "character", "complex_", "complexfloating", "csingle",
    "double", "dtype", "e",
    "euler_gamma", "finfo", "flexible", "float_", "floating", "generic", "iinfo", "inexact", "inf", "int_", "integer",
    "iscomplex", "iscomplexobj",
    "isdtype", "isreal", "isrealobj", "isscalar", "issubdtype", "iterable", "nan", "ndarray", "newaxis", "number",
    "object_", "pi", "promote_types",
    "result_type", "signedinteger", "single", "uint", "unsignedinteger",
    *(n for n in _NUMBERS if n in dtypes._custom_types or hasattr(np, n)),
]  # fmt: skip


# -- scalar types --------------------------------------------------------------------------------


class _ScalarType(type):
    """The type of `float32` and the like: callable to make arrays, equal to NumPy's scalar type,
    and accepted wherever a dtype is.
    """

    dtype: np.dtype

    def __hash__(cls):
        return hash(cls.dtype.type)

    def __eq__(cls, other):
        return cls is other or cls.dtype.type == other

    def __ne__(cls, other):
        return not cls == other

    @api_boundary
    def __call__(cls, x: Any):
        return asarray(x, dtype=cls.dtype)

    def __instancecheck__(cls, instance):
        return isinstance(instance, cls.dtype.type)


def _scalar_type(name: str, scalar: type) -> _ScalarType:
    made = _ScalarType(name, (object,), {"dtype": np.dtype(scalar)})
    made.__module__ = "velax.numpy"
    made.__doc__ = (
        f"The dtype {name}, and the function ``{name}(x)`` that makes an array of it.\n\n"
        "Example:\n  >>> import velax.numpy as jnp\n  >>> jnp.float32(3)\n  Array(3., dtype=float32)\n"
    )
    return made


for _name in _NUMBERS:
    _scalar = dtypes._custom_types.get(_name) or getattr(np, _name, None)
    if _scalar is not None:
        globals()[_name] = _scalar_type(_name, _scalar)

bool = bool_ = _scalar_type("bool", np.bool_)
int_, uint, float_, complex_ = (globals()[n] for n in ("int64", "uint64", "float64", "complex128"))
single, double, csingle, cdouble = (globals()[n] for n in ("float32", "float64", "complex64", "complex128"))

generic, number, inexact, complexfloating, floating = np.generic, np.number, np.inexact, np.complexfloating, np.floating
integer, signedinteger, unsignedinteger = np.integer, np.signedinteger, np.unsignedinteger
flexible, character, object_ = np.flexible, np.character, np.object_

ndarray = Array
dtype = np.dtype
finfo, iinfo = dtypes.finfo, dtypes.iinfo
ComplexWarning = np.exceptions.ComplexWarning

# -- constants -----------------------------------------------------------------------------------

pi, e, euler_gamma = np.pi, np.e, np.euler_gamma
inf, nan, newaxis = np.inf, np.nan, None


# -- dtypes --------------------------------------------------------------------------------------


def result_type(*args: Any):
    """The dtype of the result of an operation on these arrays, scalars and dtypes.

    Args:
      *args: arrays, Python scalars (weak) or dtypes.

    Returns:
      A dtype.

    Raises:
      TypePromotionError: for dtypes without implicit common dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.result_type(jnp.int32, jnp.float16)
      dtype('float16')
    """
    return promotion.result_type(*args)


def promote_types(a: Any, b: Any):
    """The smallest dtype that two dtypes both promote to.

    Args:
      a, b: dtypes; ``int``, ``float`` and ``complex`` are weak.

    Returns:
      A dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.promote_types('int32', 'float16')
      dtype('float16')
    """
    return promotion.promote_types(a, b)


def can_cast(from_: Any, to: Any, casting: str = "safe"):
    """Whether NumPy's casting rules allow a conversion.

    Args:
      from_: a dtype or array.
      to: a dtype.
      casting: "no", "equiv", "safe", "same_kind" or "unsafe".

    Returns:
      A bool.

    Raises:
      TypeError: if ``from_`` is a Python number.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.can_cast("int32", "float64")
      True
    """
    return np.can_cast(from_ if not isinstance(from_, Array) else from_.dtype, to, casting=casting)


def issubdtype(arg1: Any, arg2: Any):
    """Whether the first dtype is at or below the second in the hierarchy of dtypes, which knows
    bfloat16 and the narrow types.

    Args:
      arg1, arg2: dtypes or abstract classes of them.

    Returns:
      A bool.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.issubdtype(jnp.bfloat16, jnp.floating)
      True
    """
    return dtypes.issubdtype(arg1, arg2)


def isdtype(dtype: Any, kind: Any):
    """Whether a dtype is of a kind.

    Args:
      dtype: a dtype.
      kind: "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex
        floating", "numeric", a dtype, or a tuple of these.

    Returns:
      A bool.

    Raises:
      ValueError: for an unknown kind.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isdtype(jnp.float32, "real floating")
      True
    """
    return dtypes.isdtype(dtype, kind)


# -- questions about values ----------------------------------------------------------------------


def iscomplexobj(x: Any):
    """Whether the dtype of ``x`` is complex.

    Args:
      x: an array or number.

    Returns:
      A bool.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.iscomplexobj(jnp.array([1j]))
      True
    """
    if x is None:
        return False
    own = getattr(x, "dtype", None)
    if own is None:
        own = np.asarray(x).dtype if isinstance(x, (list, tuple)) else dtypes.dtype(x)
    return not dtypes.is_extended(own) and dtypes.issubdtype(own, np.complexfloating)


def isrealobj(x: Any):
    """Whether the dtype of ``x`` is not complex.

    Args:
      x: an array or number.

    Returns:
      A bool.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isrealobj(jnp.array([1.]))
      True
    """
    return not iscomplexobj(x)


@inlined
def iscomplex(x):
    """Elementwise: whether the imaginary part is not zero.

    Args:
      x: an array of numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.iscomplex(jnp.array([1j, 1]))
      Array([ True, False], dtype=bool)
    """
    check_arraylike("iscomplex", x)
    part = imag(x)
    return lax.ne(part, lax.full_like(part, 0))


@inlined
def isreal(x):
    """Elementwise: whether the imaginary part is zero.

    Args:
      x: an array of numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isreal(jnp.array([1j, 1]))
      Array([False,  True], dtype=bool)
    """
    check_arraylike("isreal", x)
    part = imag(x)
    return lax.eq(part, lax.full_like(part, 0))


def isscalar(element: Any):
    """Whether ``element`` is a Python or NumPy number or an array of rank 0.

    Args:
      element: any object.

    Returns:
      A bool.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isscalar(jnp.array(1))
      True
    """
    if np.isscalar(element):
        return True
    if isinstance(element, np.ndarray):  # of objects and texts too
        return element.ndim == 0
    if isinstance(element, Array) or (is_arraylike(element) and hasattr(element, "__jax_array__")):
        return get_aval(element.__jax_array__() if hasattr(element, "__jax_array__") else element).ndim == 0
    return False


def iterable(y: Any):
    """Whether ``iter(y)`` works; not for arrays of rank 0.

    Args:
      y: any object.

    Returns:
      A bool.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.iterable(jnp.ones(2))
      True
    """
    return np.iterable(y)
