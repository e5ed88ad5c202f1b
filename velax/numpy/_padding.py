"""Padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._ranges import linspace
from velax.numpy._reductions import max as _max, mean, min as _min
from velax.numpy._shaping import spread
from velax.numpy._util import check_arraylike, compiled, to_array

__all__ = ["pad"]

#: mode -> the keyword arguments it takes
_MODES: dict[str, tuple[str, ...]] = {
    "constant": ("constant_values",), "empty": (), "edge": (), "wrap": (), "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "mean": ("stat_length",), "median": ("stat_length",), "minimum": ("stat_length",), "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
}  # fmt: skip


def pad(array, pad_width, mode: str | Callable[..., Any] = "constant", **kwargs):
    """Pad an array at its edges.

    Args:
      array: an array.
      pad_width: how many elements to add: one integer, a pair ``(before, after)``, a pair for each
        axis, or a dict from axes to these.
      mode: what they are: "constant" (``constant_values``, default 0), "empty" (unspecified),
        "edge" (the edge's value), "linear_ramp" (towards
        ``end_values``), "maximum", "mean", "median", "minimum" (of the ``stat_length`` elements at
        the edge, default all), "reflect" (mirrored at the
        edge element) and "symmetric" (mirrored at the edge), both with ``reflect_type`` "even" or
        "odd", "wrap" (periodic); or a function
        ``f(vector, (before, after), axis, kwargs)`` that returns the padded vector.
      **kwargs: as the mode takes.

    Returns:
      The padded array.

    Raises:
      ValueError: for a malformed or negative ``pad_width``, or keywords that the mode does not take.
      NotImplementedError: for an unknown mode.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.pad(jnp.array([1, 2]), (1, 2), mode="edge")
      Array([1, 1, 2, 2, 2], dtype=int32)
    """
    check_arraylike("pad", array)
    array = to_array(array)
    widths = _pad_widths(pad_width, get_aval(array).ndim)
    if callable(mode):
        return _pad_function(array, widths, mode, kwargs)
    if mode not in _MODES:
        raise NotImplementedError(f"Unimplemented padding mode '{mode}' for np.pad.")
    unknown = set(kwargs) - set(_MODES[mode])
    if unknown:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {unknown}")
    values, static = None, None
    if mode == "constant":
        values = kwargs.get("constant_values", 0)
    elif mode == "linear_ramp":
        values = kwargs.get("end_values", 0)
    elif "stat_length" in _MODES[mode]:
        given = kwargs.get("stat_length")
        if given is not None:
            static = _pad_widths(given, get_aval(array).ndim, "stat_length")
            if any(n < 1 for pair in static for n in pair):
                raise ValueError("stat_length must be > 0: jnp.pad takes statistics of at least one element")
    elif "reflect_type" in _MODES[mode]:
        static = kwargs.get("reflect_type", "even")
        if static not in ("even", "odd"):
            raise ValueError(f"jnp.pad: reflect_type must be 'even' or 'odd', got {static!r}")
    if values is not None and not isinstance(values, (Array, bool, int, float, complex, np.generic)):
        values = asarray(values)
    return _pad(array, values, widths, mode, static)


def _pad_widths(given, ndim: int, name: str = "pad_width") -> tuple[tuple[int, int], ...]:
    """For each axis the pair (before, after)."""
    if type(given) is int and given >= 0:
        return ((given, given),) * ndim
    if isinstance(given, dict):
        pairs = [(0, 0)] * ndim
        for axis, width in given.items():
            if not -ndim <= axis < ndim:
                raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
            pairs[axis % ndim] = width if isinstance(width, (tuple, list)) else (width, width)
        given = pairs
    context = f"the {name} argument of jnp.pad() must be static"
    if isinstance(given, (tuple, list)):
        given = [
            [concrete_or_error(None, n, context) for n in g]
            if isinstance(g, (tuple, list))
            else concrete_or_error(None, g, context)
            for g in given
        ]
    try:
        widths = np.asarray(concrete_or_error(None, given, context))
    except ValueError:
        raise ValueError(f"jnp.pad: {name} must be an integer, a pair, or a pair for each axis, got {given}") from None
    if widths.size and widths.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must be of integral type in jnp.pad, got {given}")
    if (widths < 0).any():
        raise ValueError(f"index can't contain negative values in jnp.pad, got {name}={given}")
    if widths.shape not in ((), (1,), (2,), (1, 2), (ndim, 2)):
        raise ValueError(
            f"jnp.pad: {name} with nd={ndim} has unsupported shape {widths.shape}. Valid shapes are ({ndim}, 2), (1, "
            "2), (2,), (1,), or ()."
        )
    return tuple((int(a), int(b)) for a, b in np.broadcast_to(widths, (ndim, 2)))


@compiled(static=("widths", "mode", "static"))
def _pad(array, values, widths, mode, static):
    if mode == "constant":
        return _pad_constant(array, widths, values)
    if mode == "empty":
        return _pad_constant(array, widths, 0)
    for axis, (before, after) in enumerate(widths):
        if before == 0 and after == 0:
            continue
        if get_aval(array).shape[axis] == 0:
            raise ValueError(f"Cannot apply '{mode}' padding to empty axis")
        if mode in ("reflect", "symmetric"):
            array = _reflect(array, axis, before, after, mode, static)
        elif mode == "wrap":
            array = _wrap(array, axis, before, after)
        else:
            low, high = _sides(array, axis, before, after, mode, values, static)
            array = lax.concatenate([low, array, high], axis)
    return array


def _pad_constant(array, widths, values):
    aval = get_aval(array)
    fill = convert_type(values, aval.dtype, aval.weak_type)
    if get_aval(fill).ndim == 0:
        return lax.pad(array, fill, [(a, b, 0) for a, b in widths])
    pairs = spread(fill, (aval.ndim, 2))
    for axis, (before, after) in enumerate(widths):
        value = lambda side, axis=axis: lax.reshape(lax.slice(pairs, (axis, side), (axis + 1, side + 1)), ())
        config = [(0, 0, 0)] * aval.ndim
        config[axis] = (before, 0, 0)
        array = lax.pad(array, value(0), config)
        config[axis] = (0, after, 0)
        array = lax.pad(array, value(1), config)
    return array


def _sides(array, axis, before, after, mode, values, lengths):
    """What goes before and after along an axis, for the modes in which either side depends on its edge only."""
    shape = get_aval(array).shape
    n = shape[axis]
    wide = lambda x, size: spread(x, (*shape[:axis], size, *shape[axis + 1 :]))
    at = lambda start, stop: lax.slice_in_dim(array, start, stop, axis=axis)
    if mode == "edge":
        return wide(at(0, 1), before), wide(at(n - 1, n), after)
    if mode == "linear_ramp":
        return _ramp(array, axis, before, 0, values, at(0, 1)), _ramp(array, axis, after, 1, values, at(n - 1, n))
    first, last = (n, n) if lengths is None else (min(k, n) for k in lengths[axis])
    return wide(_statistic(at(0, first), axis, mode), before), wide(_statistic(at(n - last, n), axis, mode), after)


def _ramp(array, axis, size, side, values, edge):
    aval = get_aval(array)
    ends = spread(convert_type(values, aval.dtype), (aval.ndim, 2))
    end = lax.reshape(lax.slice(ends, (axis, side), (axis + 1, side + 1)), ())
    edge = lax.squeeze(edge, (axis,))
    ramp = linspace(spread(end, get_aval(edge).shape), edge, num=size, endpoint=False, dtype=aval.dtype, axis=axis)
    ramp = convert_type(ramp, aval.dtype, aval.weak_type)
    return lax.rev(ramp, (axis,)) if side else ramp


def _statistic(part, axis, mode):
    aval = get_aval(part)
    if mode == "median":
        from velax.numpy._statistics import median  # many functions, of which one mode needs one

        out = median(part, axis, keepdims=True)
    else:
        out = {"maximum": _max, "minimum": _min, "mean": mean}[mode](part, axis, keepdims=True)
    if dtypes.is_integer(aval.dtype) and mode in ("mean", "median"):
        out = lax.round(out, lax.RoundingMethod.TO_NEAREST_EVEN)
    return convert_type(out, aval.dtype, aval.weak_type)


def _reflect(array, axis, before, after, mode, kind):
    """Mirror at both ends, as often as needed: the mirrored part and the array together are what is mirrored next."""
    for side, wanted in ((0, before), (1, after)):
        while wanted:
            n = get_aval(array).shape[axis]
            skip = 1 if mode == "reflect" and n > 1 else 0  # the edge itself is not repeated
            size = min(wanted, n - skip)
            start = skip if side == 0 else n - skip - size
            part = lax.rev(lax.slice_in_dim(array, start, start + size, axis=axis), (axis,))
            if kind == "odd":
                edge = (
                    lax.slice_in_dim(array, 0, 1, axis=axis)
                    if side == 0
                    else lax.slice_in_dim(array, n - 1, n, axis=axis)
                )
                part = lax.sub(spread(lax.mul(edge, get_aval(edge).dtype.type(2)), get_aval(part).shape), part)
            array = lax.concatenate([part, array] if side == 0 else [array, part], axis)
            wanted -= size
    return array


def _wrap(array, axis, before, after):
    n = get_aval(array).shape[axis]
    copies, rest = divmod(before, n)
    more, end = divmod(after, n)
    parts = [lax.slice_in_dim(array, n - rest, n, axis=axis)] if rest else []
    parts += [array] * (copies + 1 + more)
    parts += [lax.slice_in_dim(array, 0, end, axis=axis)] if end else []
    return lax.concatenate(parts, axis)


def _pad_function(array, widths, function, kwargs):
    from velax.numpy._functional import apply_along_axis  # rarely needed

    padded = _pad_constant(array, widths, 0)
    for axis in range(get_aval(padded).ndim):
        padded = apply_along_axis(function, axis, padded, widths[axis], axis, kwargs)
    return padded
