"""The primitives of random keys: seeding, wrapping, splitting, folding in, bits. Their operands are arrays of
dtype ``key<...>``.
"""

from __future__ import annotations

import numpy as np

from velax._backends.cpu.placement import device_put
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.dtypes import KeyTy
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis, vectorized_batcher
from velax._transforms.zero import Zero
from velax.lax._rules import broadcast_shapes, elementwise_batch
from velax.random._keys_array import PRNGKeyArray
from velax.random._threefry import fold_node, key_dtype_of, random_bits_node, seed_node, split_node

__all__ = [
    "random_bits_p",
    "random_clone_p",
    "random_fold_in_p",
    "random_seed_p",
    "random_split_p",
    "random_unwrap_p",
    "random_wrap_p",
]

_UINT32 = np.dtype("uint32")


def _no_derivative(primitive):
    """The JVP rule of operations on keys and bits, which have no tangents."""

    def rule(primals, tangents, **params):
        out = primitive().bind(*primals, **params)
        return out, Zero.from_primal_value(out)

    return rule


def _define(name, abstract_eval, lower, batch, impl=None):
    """A primitive whose lowering takes and gives the words of keys."""
    p = define(
        name,
        abstract_eval=abstract_eval,
        lower=lower,
        jvp=_no_derivative(lambda: p),
        transpose=None,
        batch=batch,
        impl=impl,
    )
    p.rules["physical"] = True
    return p


def _check_keys(name: str, aval) -> None:
    if not isinstance(aval.dtype, KeyTy):
        raise TypeError(f"{name} expects typed keys, got an array of type {aval}")


def _seed_type(seeds, *, impl):
    if not dtypes.is_integer(seeds.dtype) and seeds.dtype != np.bool_:
        raise TypeError(f"PRNG key seed must be an integer; got {seeds}")
    return shaped_array(seeds.shape, key_dtype_of(impl))


random_seed_p = _define(
    "random_seed",
    _seed_type,
    lambda ctx, seed, *, impl: seed_node(ctx.builder, seed),
    lambda args, dims, **p: vectorized_batcher(random_seed_p)(args, dims, **p),
)


def _wrap_type(base, *, impl):
    if (
        base.dtype != _UINT32
        or base.shape[len(base.shape) - len(impl.key_shape) :] != impl.key_shape
        or len(base.shape) < len(impl.key_shape)
    ):
        raise TypeError(
            f"random_wrap: the words of {impl.name} keys are uint32 with last axes {impl.key_shape}, got {base}"
        )
    return shaped_array(base.shape[: len(base.shape) - len(impl.key_shape)], key_dtype_of(impl))


def _wrap_batch(args, dims, *, impl):
    (x,), (d,) = args, dims
    return random_wrap_p.bind(matchaxis(get_aval(x).shape[d], d, 0, x), impl=impl), 0


random_wrap_p = _define("random_wrap", _wrap_type, lambda ctx, base, *, impl: base, _wrap_batch)


def _unwrap_type(keys):
    _check_keys("random_unwrap", keys)
    return shaped_array((*keys.shape, *keys.dtype.base_shape), keys.dtype.base_dtype)


random_unwrap_p = _define(
    "random_unwrap",
    _unwrap_type,
    lambda ctx, keys: keys,
    lambda args, dims: vectorized_batcher(random_unwrap_p)(args, dims),
    impl=lambda keys: keys._base_array,
)


def _wrap_impl(base, *, impl):
    return PRNGKeyArray(impl, device_put(base))


random_wrap_p.def_impl(_wrap_impl)


def _split_type(keys, *, shape):
    _check_keys("random_split", keys)
    return shaped_array((*keys.shape, *shape), keys.dtype)


random_split_p = _define(
    "random_split",
    _split_type,
    lambda ctx, keys, *, shape: split_node(ctx.builder, keys, shape),
    lambda args, dims, **p: vectorized_batcher(random_split_p)(args, dims, **p),
)


def _fold_in_type(keys, data):
    _check_keys("random_fold_in", keys)
    if data.dtype != _UINT32:
        raise TypeError(f"random_fold_in expects uint32 data, got {data}")
    return shaped_array(broadcast_shapes("random_fold_in", [keys.shape, data.shape]), keys.dtype)


def _fold_in_lower(ctx, keys, data):
    b, shape = ctx.builder, ctx.avals_out[0].shape
    if keys.shape[:-1] not in ((), shape):
        keys = b.broadcast(keys, (*shape, keys.shape[-1]), tuple(range(len(shape) + 1)))
    if data.shape not in ((), shape):
        data = b.broadcast(data, shape, tuple(range(len(shape))))
    return fold_node(b, keys, data)


random_fold_in_p = _define("random_fold_in", _fold_in_type, _fold_in_lower, elementwise_batch(lambda: random_fold_in_p))


def _bits_type(keys, *, bit_width, shape):
    _check_keys("random_bits", keys)
    return shaped_array((*keys.shape, *shape), np.dtype(f"uint{bit_width}"))


random_bits_p = _define(
    "random_bits",
    _bits_type,
    lambda ctx, keys, *, bit_width, shape: random_bits_node(ctx.builder, keys, bit_width, shape),
    lambda args, dims, **p: vectorized_batcher(random_bits_p)(args, dims, **p),
)

random_clone_p = _define(
    "random_clone",
    lambda x: x,
    lambda ctx, x: x,
    lambda args, dims: vectorized_batcher(random_clone_p)(args, dims),
    impl=lambda x: x,
)
