"""Dtypes: what arrays hold, their codes and names, and the questions asked of them.

Ordinary dtypes are NumPy's, with the narrow floats and integers of `ml_dtypes`. *Extended* dtypes stand for
arrays whose elements are not numbers of a fixed width (typed random keys): they are no NumPy dtypes, and
belong to the abstract scalar type `extended`. Python's scalar types ``bool``, ``int``, ``float`` and
``complex`` stand for *weak* dtypes, which yield to others in promotion (`velax._lang.promotion`).
"""

from __future__ import annotations

import abc
import functools
import math
import warnings
from typing import Any

import ml_dtypes
import numpy as np

from velax._lang import config
from velax._lang.config_options import ExplicitX64Mode
from velax._lang.source import user_stack_level

__all__ = [
    "CODE_OF", "DTYPE_OF", "ExtendedDType", "KeyTy", "bfloat16", "bit_width", "canonicalize_dtype",
    "check_user_dtype_supported",
    "default_complex_dtype", "default_float_dtype", "default_int_dtype", "default_uint_dtype", "dtype",
    "dtype_of_python_scalar",
    "extended", "finfo", "float0", "float0_message", "iinfo", "ir_name", "is_extended", "is_python_scalar", "is_weakly_typed",
    "isdtype", "issubdtype",
    "itemsize_bits", "prng_key", "python_scalar_dtypes", "register_dtype_rule", "scalar_type_of", "short_name",
    "tangent_dtype",
    "to_complex_dtype", "to_floating_dtype", "to_inexact_dtype", "to_numeric_dtype",
]  # fmt: skip

# The dtypes of ml_dtypes by the names of its scalar types. Some exist only in its newer releases.
_custom_types: dict[str, type] = {
    name: getattr(ml_dtypes, name)
    for name in (
        "bfloat16", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "int1", "int2", "int4",
        "uint1", "uint2", "uint4",
    )
    if hasattr(ml_dtypes, name)
}  # fmt: skip

bfloat16 = ml_dtypes.bfloat16

#: The tangent dtype of integers and booleans: a type without information.
float0 = np.dtype([("float0", np.void, 0)])

#: what to say of an operation on an array of it
float0_message = (
    "float0s do not support any operations by design because they are not compatible with non-trivial vector spaces. "
    "No implicit dtype conversion is done. You can use np.zeros_like(arr, dtype=np.float) to cast a float0 array to a "
    "regular zeros array. They are the tangents of integers and booleans: perhaps a gradient was taken with respect to "
    "one."
)

_custom_dtypes = {name: np.dtype(t) for name, t in _custom_types.items()}
_custom_ints = frozenset(d for name, d in _custom_dtypes.items() if name.lstrip("u").startswith("int"))
_custom_floats = frozenset(_custom_dtypes.values()) - _custom_ints

bool_dtypes = (np.dtype("bool"),)
signed_dtypes = (
    *(_custom_dtypes[n] for n in ("int1", "int2", "int4") if n in _custom_dtypes),
    *map(np.dtype, ("int8", "int16", "int32", "int64")),
)
unsigned_dtypes = (
    *(_custom_dtypes[n] for n in ("uint1", "uint2", "uint4") if n in _custom_dtypes),
    *map(np.dtype, ("uint8", "uint16", "uint32", "uint64")),
)
integer_dtypes = (*unsigned_dtypes, *signed_dtypes)
#: Floats of 8 bits and fewer, which never promote implicitly.
narrow_float_dtypes = tuple(d for n, d in _custom_dtypes.items() if d in _custom_floats and n != "bfloat16")
#: Integers of 4 bits and fewer, which never promote implicitly.
narrow_integer_dtypes = tuple(d for d in integer_dtypes if d in _custom_ints)
floating_dtypes = (*narrow_float_dtypes, np.dtype(bfloat16), *map(np.dtype, ("float16", "float32", "float64")))
complex_dtypes = (np.dtype("complex64"), np.dtype("complex128"))
#: Every ordinary dtype of the language.
all_dtypes = (*bool_dtypes, *integer_dtypes, *floating_dtypes, *complex_dtypes)
_all_dtypes = frozenset(all_dtypes)

numpy_scalar_types = tuple(d.type for d in all_dtypes)

#: The codes of `native/dtypes.h`.
CODE_OF: dict[np.dtype, int] = {
    np.dtype(name): code
    for code, name in enumerate(
        ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", bfloat16, "float32", "float64",
         "complex64", "complex128", ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4)
    )
}  # fmt: skip
DTYPE_OF: dict[int, np.dtype] = {code: d for d, code in CODE_OF.items()}

_IR_NAMES = (
    "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64", "c64", "c128",
    "f8e4m3fn", "f8e5m2",
)  # fmt: skip
_dtype_of_ir_name = {name: DTYPE_OF[code] for code, name in enumerate(_IR_NAMES)}
_ir_name_of = {d: name for name, d in _dtype_of_ir_name.items()}
#: integers of fewer than 8 bits are the low bits of bytes (`velax._ir.narrow_integers`)
_ir_name_of |= {d: "i8" if d in signed_dtypes else "u8" for d in narrow_integer_dtypes}


def ir_name(np_dtype: np.dtype) -> str:
    """The name of the dtype that holds elements of `np_dtype` in the program forms: ``f32``, ``i8`` (of int8
    and int4), ...

    Raises:
      TypeError: the dtype has no code, so that no program can hold it.
    """
    try:
        return _ir_name_of[np_dtype]
    except KeyError:
        raise TypeError(
            f"arrays of dtype {np_dtype} cannot be compiled; of the floats of 8 bits and fewer there are float8_e4m3fn "
            "and float8_e5m2. Use one of these, or compute in a wider dtype: x.astype('float32')"
        ) from None


def dtype_of_ir_name(name: str) -> np.dtype:
    """The dtype that the program forms call `name`."""
    return _dtype_of_ir_name[name]


# Extended dtypes


class extended(np.generic):
    """The abstract scalar type of dtypes whose elements are no numbers. It cannot be instantiated.

    Example:
      >>> import velax
      >>> velax.dtypes.issubdtype(velax.random.key(0).dtype, velax.dtypes.extended)
      True
    """


class prng_key(extended):
    """The scalar type of typed random keys. It cannot be instantiated."""


extended.__module__ = prng_key.__module__ = "velax.dtypes"


class ExtendedDType(abc.ABC):
    """The base of extended dtypes.

    A subclass gives ``type`` (a subclass of `extended`), ``name``, and how its arrays are laid out: an array
    of shape ``s`` is held by an ordinary one of shape ``s + base_shape`` and dtype ``base_dtype``. Instances
    are immutable and hashable.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def type(self) -> type: ...

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def base_shape(self) -> tuple[int, ...]: ...

    @property
    @abc.abstractmethod
    def base_dtype(self) -> np.dtype: ...

    @property
    def itemsize(self) -> int:
        return math.prod(self.base_shape) * self.base_dtype.itemsize

    @property
    def tangent_dtype(self) -> np.dtype | ExtendedDType:
        """The dtype of tangents; keys and other things without derivatives have `float0`."""
        return float0

    kind = "V"

    def __repr__(self):
        return self.name

    __str__ = __repr__


class KeyTy(ExtendedDType):
    """The dtype of typed random keys, ``key<fry>``.

    Args:
      impl: the generator; it has a ``name`` (``"threefry2x32"``), a ``tag`` (``"fry"``) and a
        ``key_shape`` (``(2,)``), and is hashable.
    """

    __slots__ = ("_impl",)

    def __init__(self, impl):
        self._impl = impl

    @property
    def type(self) -> type:
        return prng_key

    @property
    def name(self) -> str:
        return f"key<{self._impl.tag}>"

    @property
    def base_shape(self) -> tuple[int, ...]:
        return tuple(self._impl.key_shape)

    @property
    def base_dtype(self) -> np.dtype:
        return np.dtype("uint32")

    def __eq__(self, other):
        return type(other) is KeyTy and self._impl == other._impl

    def __hash__(self):
        return hash((KeyTy, self._impl.name))

    def __reduce__(self):
        return KeyTy, (self._impl,)


def is_extended(dt: Any) -> bool:
    """Whether `dt` is an extended dtype."""
    return isinstance(dt, ExtendedDType)


# Python scalars and defaults


def default_int_dtype() -> np.dtype:
    """int64, or int32 while 64-bit dtypes are off."""
    return _int64 if config.x64_enabled() else _int32


def default_uint_dtype() -> np.dtype:
    """uint64, or uint32 while 64-bit dtypes are off."""
    return _uint64 if config.x64_enabled() else _uint32


def default_float_dtype() -> np.dtype:
    """float64, or float32 while 64-bit dtypes are off."""
    return _float64 if config.x64_enabled() else _float32


def default_complex_dtype() -> np.dtype:
    """complex128, or complex64 while 64-bit dtypes are off."""
    return _complex128 if config.x64_enabled() else _complex64


_bool = np.dtype("bool")
_int32, _int64, _uint32, _uint64 = map(np.dtype, ("int32", "int64", "uint32", "uint64"))
_float32, _float64, _complex64, _complex128 = map(np.dtype, ("float32", "float64", "complex64", "complex128"))

#: The widest dtype of each Python scalar type.
python_scalar_dtypes: dict[type, np.dtype] = {bool: _bool, int: _int64, float: _float64, complex: _complex128}
_python_scalar_dtypes_32: dict[type, np.dtype] = {bool: _bool, int: _int32, float: _float32, complex: _complex64}


def dtype_of_python_scalar(scalar_type: type) -> np.dtype:
    """The dtype that a Python scalar of this type takes on its own: int32 for ``int`` (int64 with 64-bit
    dtypes), and so on.

    Raises:
      TypeError: `scalar_type` is none of bool, int, float, complex, nor a subclass of one.
    """
    table = python_scalar_dtypes if config.x64_enabled() else _python_scalar_dtypes_32
    found = table.get(scalar_type)
    if found is None:
        for base in (bool, int, float, complex):
            if issubclass(scalar_type, base):
                return table[base]
        raise TypeError(f"Cannot determine dtype of {scalar_type}: it is no Python scalar type")
    return found


def check_python_int(x: int) -> None:
    """Raise OverflowError for a Python int that the default integer dtype does not hold."""
    info = np.iinfo(dtype_of_python_scalar(int))
    if not info.min <= x <= info.max:
        raise OverflowError(f"Python int {x} too large to convert to {info.dtype.name}")


def is_python_scalar(x: Any) -> bool:
    """Whether `x` is a Python bool, int, float or complex (and no NumPy scalar, some of which are subclasses
    of these).
    """
    return type(x) in python_scalar_dtypes or (
        isinstance(x, bool | int | float | complex) and not isinstance(x, np.generic)
    )


# Canonical dtypes

_NARROWED = {_int64: _int32, _uint64: _uint32, _float64: _float32, _complex128: _complex64}


def as_dtype(dt: Any) -> np.dtype | ExtendedDType:
    """What `dt` names, without narrowing.

    Args:
      dt: a dtype, a name, a scalar type, an object with a ``dtype``, or an extended dtype.

    Raises:
      TypeError: `dt` names no dtype.
    """
    if isinstance(dt, np.dtype | ExtendedDType):
        return dt
    if isinstance(dt, str):
        custom = _custom_dtypes.get(dt)
        return np.dtype(dt) if custom is None else custom
    return np.dtype(dt)


def canonicalize_dtype(dtype: Any, allow_extended_dtype: bool = False) -> np.dtype | ExtendedDType:
    """The dtype that arrays asked to be `dtype` have: 64-bit ones become 32-bit ones while 64-bit dtypes are off.

    Args:
      dtype: anything that names a dtype.
      allow_extended_dtype: whether an extended dtype is returned as it is; otherwise it is an error.

    Raises:
      TypeError: `dtype` names no dtype.
      ValueError: `dtype` is extended and `allow_extended_dtype` is off.

    Example:
      >>> import velax
      >>> velax.dtypes.canonicalize_dtype(float)
      dtype('float32')
    """
    if not isinstance(dtype, np.dtype):
        if isinstance(dtype, ExtendedDType):
            if allow_extended_dtype:
                return dtype
            raise ValueError(
                f"canonicalize_dtype called on the extended dtype {dtype}; pass allow_extended_dtype=True where "
                "one may occur"
            )
        dtype = as_dtype(dtype)
    if config.x64_enabled():
        return dtype
    return _NARROWED.get(dtype, dtype)


def check_user_dtype_supported(dt: Any, fun_name: str | None = None) -> np.dtype | ExtendedDType:
    """Checks a dtype that a user asked for, and narrows it.

    Warns when a 64-bit dtype was asked for by name while 64-bit dtypes are off (Python's ``int``,
    ``float``, ``complex`` never warn: they stand for the default widths).

    Args:
      dt: anything that names a dtype.
      fun_name: the function it was passed to, for messages.

    Returns:
      The canonical dtype.

    Raises:
      TypeError: arrays cannot have this dtype.
      ValueError: `dt` is ``None`` or an array, or a 64-bit dtype under ``jax_explicit_x64_dtypes='error'``.
    """
    if dt is None:
        raise ValueError(f"dtype must be specified{f' in {fun_name}' if fun_name else ''}.")
    if type(dt) is type and dt in python_scalar_dtypes:
        return dtype_of_python_scalar(dt)
    if isinstance(dt, ExtendedDType):
        return dt
    if not isinstance(dt, np.dtype | type | str) and hasattr(dt, "dtype") and hasattr(dt, "shape"):
        raise ValueError("An array was passed as a dtype; instead of dtype=x write dtype=x.dtype.")
    where = f" in {fun_name}" if fun_name else ""
    found = as_dtype(dt)
    if found not in _all_dtypes and found != float0:
        raise TypeError(f"Velax arrays hold numbers and booleans, got dtype {dt}{where}")
    if config.x64_enabled() or found not in _NARROWED:
        return found
    return _narrow_explicit(found, fun_name)


def _narrow_explicit(found: np.dtype, fun_name: str | None) -> np.dtype:
    mode = config.explicit_x64_dtypes.value
    if mode == ExplicitX64Mode.ALLOW:
        return found
    narrow = _NARROWED[found]
    requested = f" requested in {fun_name}" if fun_name else ""
    how = "set the jax_enable_x64 configuration option or the JAX_ENABLE_X64 shell environment variable"
    if mode == ExplicitX64Mode.ERROR:
        raise ValueError(f"Explicitly requested dtype {found.name}{requested} is not available. To enable it, {how}.")
    warnings.warn(
        f"Explicitly requested dtype {found.name}{requested} is not available, and will be truncated to dtype "
        f"{narrow.name}. "
        f"To enable more dtypes, {how}.",
        stacklevel=user_stack_level(),
    )
    return narrow


# The dtype of a value


#: type of a value -> function to its dtype, for types that have no attribute ``dtype`` (set by `register_dtype_rule`).
_dtype_rules: dict[type, Any] = {}
_weak_types: set[type] = set()


def register_dtype_rule(t: type, rule, *, weak: bool = False) -> None:
    """Says what the dtype of values of type `t` is: ``rule(x)``; `weak` when they promote as Python scalars do."""
    _dtype_rules[t] = rule
    if weak:
        _weak_types.add(t)


def dtype(x: Any) -> np.dtype | ExtendedDType:
    """The canonical dtype of a value, or of what names a dtype.

    Args:
      x: an array, a scalar, a traced value, a dtype, a scalar type or the name of a dtype.

    Raises:
      ValueError: `x` is ``None``.
      TypeError: `x` has no dtype.
    """
    kind = type(x)
    if kind in python_scalar_dtypes:
        return dtype_of_python_scalar(kind)
    if isinstance(x, np.dtype):
        return canonicalize_dtype(x)
    if kind is type and x in python_scalar_dtypes:
        return dtype_of_python_scalar(x)
    rule = _dtype_rules.get(kind)
    if rule is not None:
        return rule(x)
    if x is None:
        raise ValueError("Invalid argument to dtype: None.")
    if isinstance(x, ExtendedDType | str | type):
        return canonicalize_dtype(x, allow_extended_dtype=True)
    own = getattr(x, "dtype", None)
    if isinstance(own, np.dtype | ExtendedDType):
        return canonicalize_dtype(own, allow_extended_dtype=True)
    if is_python_scalar(x):
        return dtype_of_python_scalar(kind)
    if own is not None:
        return canonicalize_dtype(own)
    raise TypeError(f"Cannot determine dtype of {x!r}")


def is_weakly_typed(x: Any) -> bool:
    """Whether the dtype of the value `x` yields to others in promotion, as those of Python's int, float and
    complex do.
    """
    kind = type(x)
    if kind is int or kind is float or kind is complex or kind in _weak_types:
        return True
    weak = getattr(x, "weak_type", None)
    if weak is not None:
        return bool(weak)
    if kind is bool or not isinstance(x, int | float | complex):
        return False
    return not isinstance(x, np.generic | bool)


def tangent_dtype(dt: np.dtype | ExtendedDType) -> np.dtype | ExtendedDType:
    """The dtype of the tangents of arrays of dtype `dt`: itself where it is inexact, otherwise `float0`."""
    if isinstance(dt, ExtendedDType):
        return dt.tangent_dtype
    return dt if dt in _inexact_dtypes else float0


_inexact_dtypes = frozenset((*floating_dtypes, *complex_dtypes))


# Kinds of dtypes

# What NumPy does not know about the types of ml_dtypes: their place in its hierarchy.
_PARENTS: dict[type, tuple[type, ...]] = {
    **{d.type: (np.floating, np.inexact, np.number, np.generic) for d in _custom_floats},
    **{
        d.type: (np.unsignedinteger if d.name.startswith("u") else np.signedinteger, np.integer, np.number, np.generic)
        for d in _custom_ints
    },
}


def _scalar_type(dt: Any) -> type:
    """The scalar type that `dt` names: a NumPy type, possibly abstract, one of `ml_dtypes`, or an `extended` one."""
    if isinstance(dt, type) and issubclass(dt, np.generic):
        return dt
    if isinstance(dt, type) and dt in _PARENTS:
        return dt
    return as_dtype(dt).type


def issubdtype(a: Any, b: Any) -> bool:
    """Whether the dtype or scalar type `a` is at or below `b` in the hierarchy of types.

    This is `numpy.issubdtype` for a hierarchy that also holds the narrow floats and integers and the extended types.

    Args:
      a, b: dtypes, scalar types (also abstract ones, such as `numpy.floating`) or names.

    Example:
      >>> import numpy as np, velax
      >>> velax.dtypes.issubdtype(velax.numpy.bfloat16, np.floating)
      True
    """
    # NumPy's dtypes and types are hashable, as are names; other spellings take the long way.
    try:
        return _issubdtype_cached(a, b)
    except TypeError:
        return _issubdtype(a, b)


def _issubdtype(a: Any, b: Any) -> bool:
    if isinstance(b, ExtendedDType):
        return isinstance(a, ExtendedDType) and a == b
    below = _scalar_type(a)
    # A dtype, a name or a Python type on the right stands for its concrete scalar type.
    above = _scalar_type(b)
    if below is above:
        return True
    if below in _PARENTS:
        return above in _PARENTS[below]
    return issubclass(below, above)


_issubdtype_cached = functools.lru_cache(maxsize=4096)(_issubdtype)

# Frozen sets answer in tens of nanoseconds what `issubdtype` answers for every spelling.
_integer_set, _signed_set = frozenset(integer_dtypes), frozenset(signed_dtypes)
_unsigned_set, _floating_set, _complex_set = (
    frozenset(unsigned_dtypes),
    frozenset(floating_dtypes),
    frozenset(complex_dtypes),
)


def is_integer(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is a signed or unsigned integer."""
    return dt in _integer_set


def is_signed_integer(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is a signed integer."""
    return dt in _signed_set


def is_unsigned_integer(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is an unsigned integer."""
    return dt in _unsigned_set


def is_floating(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is a real float."""
    return dt in _floating_set


def is_complex(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is complex."""
    return dt in _complex_set


def is_inexact(dt: np.dtype | ExtendedDType) -> bool:
    """Whether the dtype object `dt` is a real float or complex."""
    return dt in _inexact_dtypes


_KINDS = {
    "bool": bool_dtypes,
    "signed integer": signed_dtypes,
    "unsigned integer": unsigned_dtypes,
    "integral": integer_dtypes,
    "real floating": floating_dtypes,
    "complex floating": complex_dtypes,
    "numeric": (*integer_dtypes, *floating_dtypes, *complex_dtypes),
}


def isdtype(dt: Any, kind: Any) -> bool:
    """Whether `dt` is of a kind, as the array API standard names kinds.

    Args:
      dt: a dtype or its name.
      kind: a kind (``"bool"``, ``"signed integer"``, ``"unsigned integer"``, ``"integral"``,
        ``"real floating"``, ``"complex floating"``, ``"numeric"``), a dtype, or a tuple of these.

    Raises:
      ValueError: there is no such kind.
    """
    found = as_dtype(dt)
    for one in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(one, str) and one in _KINDS:
            if found in _KINDS[one]:
                return True
            continue
        try:
            same = as_dtype(one) == found
        except TypeError:
            raise ValueError(f"isdtype: unknown kind {one!r}; the kinds are {', '.join(map(repr, _KINDS))}") from None
        if same:
            return True
    return False


def scalar_type_of(x: Any) -> type:
    """The Python scalar type (bool, int, float or complex) that the value or dtype `x` corresponds to.

    Raises:
      TypeError: `x` has no dtype, or one without such a type.
    """
    found = dtype(x)
    if found == _bool:
        return bool
    for parent, scalar in ((np.integer, int), (np.floating, float), (np.complexfloating, complex)):
        if issubdtype(found, parent):
            return scalar
    raise TypeError(f"{x} of dtype {found} corresponds to no Python scalar type")


# Widths and limits


class finfo(ml_dtypes.finfo):
    """The limits of a floating-point dtype, as `numpy.finfo`, also for the narrow floats."""


class iinfo(ml_dtypes.iinfo):
    """The limits of an integer dtype, as `numpy.iinfo`, also for the narrow integers."""


def least(dt: np.dtype) -> Any:
    """What a maximum starts from: -inf, and the least value of a dtype without infinity."""
    if dt == _bool:
        return np.False_
    if is_integer(dt):
        return iinfo(dt).min
    return dt.type(-np.inf) if _has_infinity(dt) else finfo(dt).min


def greatest(dt: np.dtype) -> Any:
    """What a minimum starts from: inf, and the greatest value of a dtype without infinity."""
    if dt == _bool:
        return np.True_
    if is_integer(dt):
        return iinfo(dt).max
    return dt.type(np.inf) if _has_infinity(dt) else finfo(dt).max


def _has_infinity(dt: np.dtype) -> bool:
    return bool(np.isinf(dt.type(np.inf)))


def itemsize_bits(dtype: Any) -> int:
    """How many bits an element carries: 4 for int4, 8 for bool, 32 for float32."""
    found = as_dtype(dtype)
    if isinstance(found, ExtendedDType):
        return found.itemsize * 8
    if found in _custom_ints:
        return int(found.name.lstrip("uint"))
    if found in _custom_floats and found.name.startswith(("float4", "float6")):
        return int(found.name[5])
    return found.itemsize * 8


bit_width = itemsize_bits


# The dtype of another kind nearest to one


def to_numeric_dtype(dt: Any) -> np.dtype:
    """int32 for bool, otherwise the dtype itself."""
    found = as_dtype(dt)
    return _int32 if found == _bool else found


def to_inexact_dtype(dt: Any) -> np.dtype:
    """The float that mathematical functions of a dtype work in: itself if inexact, float64 for 64-bit
    integers, else float32.
    """
    found = as_dtype(dt)
    if found in _inexact_dtypes or isinstance(found, ExtendedDType):
        return found
    return _INEXACT_OF.get(found, found)


_INEXACT_OF = {d: _float64 if d in (_int64, _uint64) else _float32 for d in (*bool_dtypes, *integer_dtypes)}


def to_floating_dtype(dt: Any) -> np.dtype:
    """The real float of a dtype: the dtype of the parts of a complex one, otherwise as `to_inexact_dtype`."""
    return real_dtype(to_inexact_dtype(dt))


def real_dtype(dt: np.dtype) -> np.dtype:
    """The dtype of the real part: float32 for complex64, float64 for complex128, others themselves."""
    return _REAL_OF.get(dt, dt)


_REAL_OF = {_complex64: _float32, _complex128: _float64}


def to_complex_dtype(dt: Any) -> np.dtype:
    """The complex dtype that holds the values of a dtype: complex128 for float64 and 64-bit integers, else
    complex64.
    """
    found = to_inexact_dtype(dt)
    if found in complex_dtypes:
        return found
    return _complex128 if found == _float64 else _complex64


# Names

_SHORT_PREFIXES = (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c"))


@functools.cache
def short_name(dt: np.dtype | ExtendedDType) -> str:
    """The short name of a dtype as jaxprs print it: ``f32``, ``i32``, ``bool``, ``f8_e4m3fn``, ``key<fry>``."""
    if isinstance(dt, ExtendedDType):
        return dt.name
    if dt == float0:
        return "float0"
    for prefix, short in _SHORT_PREFIXES:
        if dt.name.startswith(prefix):
            return short + dt.name.removeprefix(prefix)
    return dt.name
