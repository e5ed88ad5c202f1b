"""Making and deriving random keys."""

from __future__ import annotations

import operator
import warnings

import numpy as np

from velax import _native, lax
from velax._backends.cpu.placement import device_put
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl
from velax._lang.config import config
from velax._lang.config_options import LegacyPrngKeyState
from velax._lang.dtypes import KeyTy
from velax._lang.trace import Tracer, get_aval
from velax._lang.transfers import check_implicit_transfer, transfers_are_guarded
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy import asarray
from velax.random._keys_array import PRNGKeyArray
from velax.random._primitives import (
    random_bits_p,
    random_clone_p,
    random_fold_in_p,
    random_seed_p,
    random_split_p,
    random_unwrap_p,
    random_wrap_p,
)
from velax.random._threefry import PRNGImpl, PRNGSpec, key_dtype_of, threefry_impl

__all__ = [
    "PRNGKey", "bits", "clone", "fold_in", "key", "key_data", "key_dtype", "key_impl", "split", "wrap_key_data",
]  # fmt: skip

_IMPLS = {threefry_impl.name: threefry_impl}
#: generators of JAX that are not written here
_OTHER_IMPLS = ("philox2x32", "philox4x32", "rbg", "unsafe_rbg", "threefry4x32")
_UINT32 = np.dtype("uint32")


# -- generators ----------------------------------------------------------------------------------


def _resolve_impl(spec) -> PRNGImpl:
    """The generator that an ``impl`` argument names."""
    if spec is None:
        spec = config.jax_default_prng_impl
    if isinstance(spec, PRNGImpl):
        return spec
    if isinstance(spec, (PRNGSpec, KeyTy)):
        return spec._impl
    if isinstance(spec, str):
        if spec in _IMPLS:
            return _IMPLS[spec]
        if spec in _OTHER_IMPLS:
            raise NotImplementedError(
                f"the generator {spec!r} is not implemented; use impl='threefry2x32', whose bits are the same on "
                "every machine"
            )
        known = ", ".join(f'"{n}"' for n in (*_IMPLS, *_OTHER_IMPLS))
        raise ValueError(f'unrecognized PRNG implementation "{spec}". Did you mean one of: {known}?')
    raise TypeError(f"unrecognized type {type(spec)} for specifying PRNG implementation: {spec!r}")


def _impl_of(name: str, impl, dtype) -> PRNGImpl:
    if impl is not None and dtype is not None:
        raise ValueError(f"Cannot specify both `impl` and `dtype` arguments to jax.random.{name}")
    return _resolve_impl(impl if dtype is None else dtype)


def key_dtype(impl_spec=None) -> KeyTy:
    """The dtype of keys of a generator (by default the configured one)."""
    return key_dtype_of(_resolve_impl(impl_spec))


def check_mode() -> None:
    """Refuse the older order of counters, in which bits were drawn before they could be computed element by element."""
    if not config.jax_threefry_partitionable:
        raise NotImplementedError(
            "jax_threefry_partitionable=False selects an older stream of random bits, which is not implemented; "
            "leave the option on, as it is by default"
        )


# -- keys as arguments ---------------------------------------------------------------------------


def is_key(x) -> bool:
    """Whether ``x`` is an array of typed keys."""
    return type(x) is PRNGKeyArray or (isinstance(x, Array) and isinstance(x.dtype, KeyTy))


def check_key(name: str, key, *, allow_batched: bool = False):
    """The typed key of an argument ``key``, and whether it came as a raw uint32 array.

    Raises:
      TypeError: if it is neither.
      ValueError: if it is an array of keys and one is needed.
    """
    if is_key(key):
        typed, raw = key, False
    elif isinstance(key, (Array, np.ndarray, np.generic, bool, int, float, complex)) or hasattr(key, "__jax_array__"):
        _check_raw_keys_allowed(name)
        typed, raw = wrap_raw(key.__jax_array__() if hasattr(key, "__jax_array__") else key, _resolve_impl(None)), True
    else:
        raise TypeError(f"unexpected PRNG key type {type(key)}")
    if not allow_batched and typed.shape:
        raise ValueError(
            f"{name} accepts a single key, but was given a key array of shape "
            f"{np.shape(key) if raw else key.shape} != (). Use jax.vmap for batching."
        )
    return typed, raw


def _check_raw_keys_allowed(name: str) -> None:
    state = config.jax_legacy_prng_key
    if state == LegacyPrngKeyState.ALLOW:
        return
    message = (
        f"Legacy uint32 key array passed as key to jax.random function {name}. Please create keys using "
        "`jax.random.key()`. "
        "If use of a raw key array was intended, set jax_legacy_prng_key='allow'."
    )
    if state == LegacyPrngKeyState.ERROR:
        raise ValueError(message)
    warnings.warn(message, stacklevel=4)


def wrap_raw(words, impl: PRNGImpl):
    """Typed keys of their words.

    Raises:
      TypeError: for another dtype or shape.
    """
    problem = "JAX encountered invalid PRNG key data: expected key_data"
    if not (hasattr(words, "ndim") and hasattr(words, "shape") and hasattr(words, "dtype")):
        raise TypeError(f"{problem} to have ndim, shape, and dtype attributes. Got {words}")
    n = len(impl.key_shape)
    if words.ndim < n:
        raise TypeError(f"{problem}.ndim >= {n}; got ndim={words.ndim}")
    if tuple(words.shape[words.ndim - n :]) != impl.key_shape:
        raise TypeError(
            f"{problem}.shape to end with {impl.key_shape}; got shape={tuple(words.shape)} for impl={impl.name}"
        )
    if words.dtype != _UINT32:
        raise TypeError(f"{problem}.dtype = uint32; got dtype={words.dtype}")
    if not isinstance(words, Tracer) and _native.get_trace() is None:
        return PRNGKeyArray(impl, words if isinstance(words, ArrayImpl) else device_put(words))
    return random_wrap_p.bind(words, impl=impl)


def unwrap(keys):
    """The words of typed keys."""
    return (
        keys._base_array if type(keys) is PRNGKeyArray and _native.get_trace() is None else random_unwrap_p.bind(keys)
    )


# -- seeds ---------------------------------------------------------------------------------------


def _seeded(name: str, seed, impl: PRNGImpl):
    if is_key(seed):
        raise TypeError(f"{name} accepts a scalar seed, but was given a PRNG key.")
    if isinstance(seed, (int, np.integer)):
        number = np.int64(seed) if isinstance(seed, int) else seed  # OverflowError beyond 64 bits
        value = _seed_value(number)
        if _native.get_trace() is None:
            if transfers_are_guarded():
                check_implicit_transfer(get_aval(seed))
            return PRNGKeyArray(impl, _native.array_from_numpy(_seed_words(value), False, True))
        return random_seed_p.bind(value, impl=impl)
    if not isinstance(seed, Array):
        seed = asarray(seed)
    aval = get_aval(seed)
    if aval.shape:
        raise TypeError(
            f"{name} accepts a scalar seed, but was given an array of shape {aval.shape} != (). Use jax.vmap for "
            "batching"
        )
    if not (dtypes.is_integer(aval.dtype) or aval.dtype == np.bool_):
        raise TypeError(f"PRNG key seed must be an integer; got {seed!r}")
    if config.jax_random_seed_offset:
        seed = lax.add(seed, np.asarray(config.jax_random_seed_offset).astype(aval.dtype)[()])
    return random_seed_p.bind(seed, impl=impl)


def _seed_value(seed: np.generic) -> np.generic:
    """A seed in the dtype that arrays hold it in: without 64-bit dtypes the low 32 bits."""
    if config.jax_random_seed_offset:
        seed = np.int64(seed) + np.int64(config.jax_random_seed_offset)
    return np.asarray(seed).astype(dtypes.canonicalize_dtype(seed.dtype))[()]


def _seed_words(seed: np.generic) -> np.ndarray:
    value = int(seed)
    bits = value & 0xFFFFFFFFFFFFFFFF if seed.dtype.itemsize == 8 else value & 0xFFFFFFFF
    return np.array([bits >> 32, bits & 0xFFFFFFFF], np.uint32)


def key(seed, *, impl=None, dtype=None):
    """Make a random key.

    Args:
      seed: an integer of at most 64 bits (the low 32 count without ``enable_x64``).
      impl: name of the generator; by default ``jax_default_prng_impl``.
      dtype: the same as a dtype of keys.

    Returns:
      A rank-0 array of dtype ``key<...>``.

    Raises:
      TypeError: for a seed that is not one integer.
      ValueError: for an unknown generator.

    Example:
      >>> from velax import random
      >>> k = random.key(0)
      >>> random.uniform(k, (2,)).shape
      (2,)
    """
    return _seeded("key", seed, _impl_of("key", impl, dtype))


def PRNGKey(seed, *, impl=None):
    """Make a random key as a uint32 array of its words (`key` makes a typed one, which is to be preferred).

    Args:
      seed: an integer of at most 64 bits.
      impl: name of the generator.

    Returns:
      A uint32 array, of shape (2,) for threefry.

    Example:
      >>> from velax import random
      >>> random.PRNGKey(1701)
      Array([   0, 1701], dtype=uint32)
    """
    keys = _seeded("PRNGKey", seed, _resolve_impl(impl))
    return keys if config.jax_enable_custom_prng else unwrap(keys)


def wrap_key_data(key_bits_array, *, impl=None, dtype=None):
    """Typed keys of an array of their words, as `key_data` gives it.

    Args:
      key_bits_array: uint32 array whose last axis holds the words.
      impl: name of the generator.
      dtype: the same as a dtype of keys.

    Raises:
      TypeError: for another dtype or shape.
    """
    impl = _impl_of("wrap_key_data", impl, dtype)
    return wrap_raw(key_bits_array, impl)


def key_data(keys):
    """The words of keys, as a uint32 array with the words along the last axis.

    Example:
      >>> from velax import random
      >>> random.key_data(random.key(7))
      Array([0, 7], dtype=uint32)
    """
    typed, raw = check_key("key_data", keys, allow_batched=True)
    if raw and isinstance(keys, (ArrayImpl, Tracer)):
        return keys
    return unwrap(typed)


def key_impl(keys):
    """The name of the generator of keys."""
    typed, _ = check_key("key_impl", keys, allow_batched=True)
    impl = typed.dtype._impl
    return impl.name if impl.name in _IMPLS else PRNGSpec(impl)


def clone(key):
    """The same keys again, marked as free to be used once more where reuse of keys is checked."""
    typed, raw = check_key("clone", key, allow_batched=True)
    out = random_clone_p.bind(typed)
    return unwrap(out) if raw else out


# -- deriving keys -------------------------------------------------------------------------------


def split(key, num: int | tuple[int, ...] = 2):
    """Derive new keys from one.

    Args:
      key: a key; do not use it again.
      num: how many, or the shape of the array of keys.

    Returns:
      An array of keys of shape ``(num,)``, or ``num``.

    Raises:
      ValueError: for an array of keys; use `vmap`.

    Example:
      >>> from velax import random
      >>> key, subkey = random.split(random.key(0))
      >>> subkey
      Array((), dtype=key<fry>) overlaying:
      [ 928981903 3453687069]
    """
    typed, raw = check_key("split", key)
    check_mode()
    shape = (
        canonical_shape(num, "split")
        if isinstance(num, (tuple, list))
        else canonical_shape((operator.index(num),), "split")
    )
    keys = random_split_p.bind(typed, shape=shape)
    return unwrap(keys) if raw else keys


def fold_in(key, data):
    """Derive a new key from a key and a number, such as a step or an index.

    Args:
      key: a key.
      data: a number, taken as 32 bits without sign.

    Returns:
      A key.

    Raises:
      OverflowError: for a Python integer outside of ``[0, 2**32)``.
      TypeError: for an array that is no scalar.

    Example:
      >>> from velax import random
      >>> keys = [random.fold_in(random.key(0), step) for step in range(3)]
    """
    typed, raw = check_key("fold_in", key)
    out = random_fold_in_p.bind(typed, _fold_word(data))
    return unwrap(out) if raw else out


def _fold_word(data):
    if isinstance(data, np.ndarray) or np.ndim(data) if not isinstance(data, Array) else data.ndim:
        raise TypeError(
            f"fold_in accepts a scalar, but was given an array of shape {np.shape(data)} != (). Use jax.vmap for "
            "batching."
        )
    if isinstance(data, (int, float)):
        return np.uint32(data)
    if isinstance(data, np.generic):
        return data.astype(np.uint32)
    return convert_type(data, _UINT32)


def bits(key, shape=(), dtype=None, *, out_sharding=None):
    """Draw uniform random bits.

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: an unsigned integer dtype; by default uint32 (uint64 with ``enable_x64``).
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of unsigned integers.

    Raises:
      ValueError: for another dtype.

    Example:
      >>> from velax import random
      >>> random.bits(random.key(0), (2,), 'uint8')
      Array([167, 146], dtype=uint8)
    """
    typed, _ = check_key("bits", key)
    dtype = dtypes.default_uint_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "bits")
    if not dtypes.issubdtype(dtype, np.unsignedinteger):
        raise ValueError(f"dtype argument to `bits` must be an unsigned int dtype, got {dtype}")
    check_out_sharding("bits", out_sharding)
    return draw_bits(typed, np.dtype(dtype).itemsize * 8, canonical_shape(shape, "bits"))


def check_out_sharding(name: str, out_sharding) -> None:
    if out_sharding is not None:
        raise NotImplementedError(
            f"random.{name}: out_sharding={out_sharding!r} asks for a partitioned result; there is one device"
        )


def draw_bits(key, bit_width: int, shape: tuple[int, ...]):
    """Random bits for a typed key."""
    check_mode()
    return random_bits_p.bind(key, bit_width=bit_width, shape=shape)
