"""Reductions over segments: groups of rows that an array of group numbers names."""

from __future__ import annotations

from typing import Any

import numpy as np

import velax.numpy as jnp
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error
from velax._lang.traceback import public_module as _public_module
from velax.numpy._util import check_arraylike

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]


def segment_sum(
    data: Any, segment_ids: Any, num_segments: int | None = None, indices_are_sorted: bool = False,
    unique_indices: bool = False, bucket_size: int | None = None, mode: Any = None, out_sharding: Any = None,
) -> Any:  # fmt: skip
    """Sum the rows of ``data`` that have the same segment number.

    Args:
      data: array of shape (n, ...).
      segment_ids: integer array of shape (n,): the segment of each row. Rows with a number outside of
        ``[0, num_segments)`` are left out (see ``mode``).
      num_segments: the number of segments; by default one more than the greatest number, which then must be known
        while tracing.
      indices_are_sorted: promises that ``segment_ids`` ascend.
      unique_indices: promises that no segment has two rows.
      bucket_size: sum buckets of so many rows first, then their sums: bounds the rounding error of long segments at
        the price of memory.
      mode: what happens to numbers out of range, as in `jax.numpy.ndarray.at`; "drop" by default.
      out_sharding: as in `jax.numpy.ndarray.at`.

    Returns:
      An array of shape (num_segments, ...) and the dtype of ``data``; an empty segment has the sum 0.

    Raises:
      TypeError: if ``data`` or ``segment_ids`` is no array, or ``segment_ids`` has no integer dtype.
      ValueError: if ``num_segments`` is negative, or the shapes do not fit.
      ConcretizationTypeError: without ``num_segments``, if ``segment_ids`` is traced.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import ops
      >>> ops.segment_sum(jnp.array([1., 2., 3., 4.]), jnp.array([0, 0, 2, 0]), num_segments=3)
      Array([7., 0., 3.], dtype=float32)
    """
    return _segments(
        "sum", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode, out_sharding
    )


def segment_prod(
    data: Any, segment_ids: Any, num_segments: int | None = None, indices_are_sorted: bool = False,
    unique_indices: bool = False, bucket_size: int | None = None, mode: Any = None, out_sharding: Any = None,
) -> Any:  # fmt: skip
    """Multiply the rows of ``data`` that have the same segment number; arguments as of `segment_sum`.

    Returns:
      An array of shape (num_segments, ...); an empty segment has the product 1.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import ops
      >>> ops.segment_prod(jnp.array([1., 2., 3., 4.]), jnp.array([0, 0, 2, 0]), num_segments=3)
      Array([8., 1., 3.], dtype=float32)
    """
    return _segments(
        "prod", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode, out_sharding
    )


def segment_max(
    data: Any, segment_ids: Any, num_segments: int | None = None, indices_are_sorted: bool = False,
    unique_indices: bool = False, bucket_size: int | None = None, mode: Any = None, out_sharding: Any = None,
) -> Any:  # fmt: skip
    """The maximum of the rows of ``data`` that have the same segment number; arguments as of `segment_sum`.

    Returns:
      An array of shape (num_segments, ...); an empty segment has the least value of the dtype (-inf for floats).

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import ops
      >>> ops.segment_max(jnp.array([1., 2., 3., 4.]), jnp.array([0, 0, 2, 0]), num_segments=3)
      Array([  4., -inf,   3.], dtype=float32)
    """
    return _segments(
        "max", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode, out_sharding
    )


def segment_min(
    data: Any, segment_ids: Any, num_segments: int | None = None, indices_are_sorted: bool = False,
    unique_indices: bool = False, bucket_size: int | None = None, mode: Any = None, out_sharding: Any = None,
) -> Any:  # fmt: skip
    """The minimum of the rows of ``data`` that have the same segment number; arguments as of `segment_sum`.

    Returns:
      An array of shape (num_segments, ...); an empty segment has the greatest value of the dtype (inf for floats).

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import ops
      >>> ops.segment_min(jnp.array([1., 2., 3., 4.]), jnp.array([0, 0, 2, 0]), num_segments=3)
      Array([ 1., inf,  3.], dtype=float32)
    """
    return _segments(
        "min", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode, out_sharding
    )


def _extreme(dtype, greatest: bool):
    """The greatest or the least value of a dtype."""
    if dtype.kind == "b":
        return greatest
    if dtypes.issubdtype(dtype, np.integer):
        info = dtypes.iinfo(dtype)
        return info.max if greatest else info.min
    return np.inf if greatest else -np.inf


#: for each reduction, the method of ``x.at[...]`` that scatters with it, what joins the results of buckets, and the
#: value of an empty segment
_REDUCTIONS = {
    "sum": ("add", lambda x: x.sum(axis=0, dtype=x.dtype), lambda dtype: 0),
    "prod": ("multiply", lambda x: x.prod(axis=0, dtype=x.dtype), lambda dtype: 1),
    "max": ("max", lambda x: x.max(axis=0), lambda dtype: _extreme(dtype, False)),
    "min": ("min", lambda x: x.min(axis=0), lambda dtype: _extreme(dtype, True)),
}


def _segments(
    reduction, data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode, out_sharding
):
    name = f"segment_{reduction}"
    check_arraylike(name, data, segment_ids)
    data, ids = jnp.asarray(data), jnp.asarray(segment_ids)
    if not dtypes.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"{name}: segment_ids must be integers, got an array of type {ids.dtype.name}{list(ids.shape)}")
    if num_segments is None:
        context = f"{name}() finds the number of segments in segment_ids; give it as num_segments."
        known = concrete_or_error(np.asarray, ids, context)
        if known.size == 0:
            raise ValueError(
                f"{name}: without segment_ids there is no greatest one; give the number of segments as num_segments"
            )
        num_segments = int(known.max()) + 1
    context = f"{name}() needs num_segments while tracing, since it is part of a shape."
    num_segments = concrete_or_error(int, num_segments, context)
    if num_segments < 0:
        raise ValueError(f"{name}: num_segments must be non-negative, got {num_segments}")
    scatter, join, empty = _REDUCTIONS[reduction]
    shape, at = (num_segments, *data.shape[1:]), ids
    if bucket_size is not None:
        rows = len(ids)
        shape, at = (-(-rows // bucket_size), *shape), (jnp.arange(rows) // bucket_size, ids)
    out = jnp.full(shape, empty(data.dtype), data.dtype)
    out = getattr(out.at[at], scatter)(
        data, indices_are_sorted=indices_are_sorted, unique_indices=unique_indices, mode=mode or "drop",
        out_sharding=out_sharding, wrap_negative_indices=False,
    )  # fmt: skip
    return out if bucket_size is None else join(out)


_public_module(globals())
