"""Calls back into Python from traced code: `pure_callback`, `io_callback` and what `velax.debug` is made of.

The host function gets arrays of Velax and returns anything NumPy reads. Calls with effects run once
for each time the program gets there; ordered ones in program order. Evaluated eagerly, the function
is simply called.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from velax import _native
from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.avals import shaped_array
from velax._lang.config import config
from velax._lang.effects import (
    debug_effect,
    io_effect,
    ordered_debug_effect,
    ordered_io_effect,
)
from velax._lang.errors import JaxRuntimeError
from velax._lang.primitive import Primitive, define
from velax._lang.record import Record
from velax._lang.trace import Tracer, as_array, get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import Zero, ops
from velax.lax._loop_tools import flatten_values
from velax.lax._scan import scan
from velax.tree_util import tree_flatten, tree_leaves, tree_unflatten

__all__ = ["debug_callback_p", "debug_print_p", "io_callback", "io_callback_p", "pure_callback", "pure_callback_p"]

_native.set_runtime_error_type(JaxRuntimeError)

_VMAP_METHODS = ("sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized", None)


class _FlatCallback(Record):
    """A host function of pytrees as one of flat arrays. Two of the same function and structure are equal."""

    callback_func: Callable
    in_tree: Any

    def __call__(self, *flat):
        args, kwargs = tree_unflatten(self.in_tree, flat)
        return tree_leaves(self.callback_func(*args, **kwargs))

    def __repr__(self):
        return f"_FlatCallback(callback_func={self.callback_func!r}, in_tree={self.in_tree!r})"


def _host_results(callback, result_avals, args) -> list[np.ndarray]:
    """Call the host function and check what it returns.

    Raises:
      RuntimeError: if number, shapes or dtypes of the results are not the declared ones.
    """
    results = callback(*args)
    if len(results) != len(result_avals) and result_avals:
        raise RuntimeError(
            f"Mismatched number of outputs from callback. Expected: {len(result_avals)}, Actual: {len(results)}"
        )
    checked = []
    for i, (x, aval) in enumerate(zip(results, result_avals, strict=False)):
        x = np.asarray(x)
        dtype = dtypes.canonicalize_dtype(x.dtype)
        if x.shape != aval.shape:
            raise RuntimeError(
                f"Incorrect output shape for return value #{i}: Expected: {aval.shape}, Actual: {x.shape}"
            )
        if dtype != aval.dtype:
            raise RuntimeError(
                f"Incorrect output dtype for return value #{i}: Expected: {aval.dtype.name}, Actual: {dtype.name}"
            )
        checked.append(np.asarray(x, dtype, order="C"))
    return checked


def _call_now(*args, callback, result_avals, **_):
    """Evaluate a callback eagerly."""
    try:
        results = _host_results(callback, result_avals, [as_array(x) for x in args])
    except Exception as e:
        raise JaxRuntimeError(f"INTERNAL: a host callback raised {type(e).__name__}: {e}") from e
    return [_native.array_from_numpy(x, False) for x in results]


def _operand_wrappers(avals) -> list[Callable]:
    """For each operand of the compiled program, what makes the value users see of it: keys arrive
    as their physical arrays.
    """
    wrappers = []
    for aval in avals:
        if dtypes.is_extended(aval.dtype):
            from velax._backends.cpu.dispatch import wrap_keys  # a layer above; libraries of keys register there

            wrappers.append(functools.partial(wrap_keys[type(aval.dtype)], aval))
        else:
            wrappers.append(None)
    return wrappers


def _lowered(ctx, call: Callable, operands, out_avals, *, ordered: bool, effectful: bool):
    wrappers = _operand_wrappers(ctx.avals_in)
    if any(w is not None for w in wrappers):
        plain = call
        call = lambda *args: plain(*(x if w is None else w(x) for w, x in zip(wrappers, args, strict=True)))
    return ctx.callback(call, operands, ctx.avals_in, out_avals, ordered=ordered, effectful=effectful)


def _define_callback(name: str, **rules) -> Primitive:
    p = define(name, multiple_results=True, transpose=None, **rules)
    p.rules["physical"] = True
    return p


# -- pure_callback ---------------------------------------------------------------------------------


def _no_jvp(message: str) -> Callable:
    def rule(primals, tangents, **params):
        raise ValueError(message)

    return rule


def _pure_lower(ctx, *operands, callback, result_avals, **_):
    call = lambda *args: _host_results(callback, result_avals, args)
    return _lowered(ctx, call, operands, result_avals, ordered=False, effectful=False)


def _batched_result_avals(size, avals):
    return tuple(shaped_array((size, *a.shape), a.dtype) for a in avals)


def _pure_batch(axis_data, args, dims, *, callback, result_avals, sharding, vmap_method):
    size = axis_data.size
    moved = [x if d is None else matchaxis(size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    batched_avals = _batched_result_avals(size, result_avals)
    params = dict(callback=callback, sharding=sharding, vmap_method=vmap_method)
    if vmap_method in ("sequential", "sequential_unrolled"):
        unroll = size if vmap_method == "sequential_unrolled" else 1
        return _one_by_one(pure_callback_p, moved, dims, unroll, dict(params, result_avals=result_avals)), [0] * len(
            result_avals
        )
    if vmap_method == "legacy_vectorized":
        pass
    elif vmap_method == "expand_dims":
        moved = [ops.broadcast(x, 1, 0) if d is None else x for x, d in zip(moved, dims, strict=True)]
    elif vmap_method == "broadcast_all":
        moved = [ops.broadcast(x, size, 0) if d is None else x for x, d in zip(moved, dims, strict=True)]
    else:
        raise NotImplementedError(
            "vmap is only supported for the pure_callback primitive when vmap_method is one of 'sequential', "
            "'sequential_unrolled', 'expand_dims', "
            f"'broadcast_all', or 'legacy_vectorized'. Got vmap_method={vmap_method}."
        )
    return pure_callback_p.bind(*moved, result_avals=batched_avals, **params), [0] * len(batched_avals)


def _one_by_one(primitive, args, dims, unroll, params) -> list:
    """Apply a callback to each example in turn; mapped operands have their axis in front."""
    mapped = [d is not None for d in dims]

    def body(_, xs):
        given = iter(xs)
        return None, primitive.bind(*(next(given) if m else x for m, x in zip(mapped, args, strict=True)), **params)

    return scan(body, None, [x for m, x in zip(mapped, args, strict=True) if m], unroll=unroll)[1]


pure_callback_p = _define_callback(
    "pure_callback",
    abstract_eval=lambda *avals, result_avals, **_: list(result_avals),
    impl=_call_now,
    lower=_pure_lower,
    jvp=_no_jvp(
        "Pure callbacks do not support JVP. Please use `jax.custom_jvp` to use callbacks while taking gradients."
    ),
    batch=None,
    batch_axis=_pure_batch,
)


def _result_avals(result_shape_dtypes):
    """Types of the declared results, and their structure."""
    leaves, tree = tree_flatten(result_shape_dtypes)
    avals = []
    for x in leaves:
        if not (hasattr(x, "shape") and hasattr(x, "dtype")):
            raise TypeError(
                "result_shape_dtypes must hold values with a shape and a dtype (such as "
                f"ShapeDtypeStruct), got {x!r} of type {type(x)}"
            )
        if not config.jax_enable_x64 and dtypes.canonicalize_dtype(x.dtype) != x.dtype:
            raise ValueError("result_shape_dtypes cannot specify 64-bit types when `jax_enable_x64` is disabled")
        avals.append(shaped_array(tuple(x.shape), np.dtype(x.dtype)))
    return tuple(avals), tree


def _flat_call(callback: Callable, args, kwargs):
    leaves, in_tree = flatten_values((args, kwargs))
    return _FlatCallback(callback, in_tree), leaves


def pure_callback(
    callback: Callable, result_shape_dtypes, *args, sharding=None, vmap_method: str | None = None, **kwargs
):
    """Call a Python function without side effects, also from compiled code.

    The call may be repeated, dropped or moved, as its result is all that counts; `io_callback` is
    for functions with side effects.

    Args:
      callback: ``callback(*args, **kwargs)`` gets arrays and returns a pytree of arrays.
      result_shape_dtypes: a pytree of `ShapeDtypeStruct` (or anything with a shape and a dtype):
        the types of the results.
      *args, **kwargs: pytrees of arrays.
      sharding: unused with one device.
      vmap_method: what `vmap` does: ``'sequential'`` calls it for each example; ``'expand_dims'``
        and ``'broadcast_all'`` call it once, with a leading axis on every operand, of size 1 or
        repeated where it is not mapped; None: `vmap` raises.

    Returns:
      The results, of the declared structure.

    Raises:
      JaxRuntimeError: if the function raises (it is the cause), or returns other types than declared.
      ValueError: under differentiation; wrap the call with `velax.custom_jvp` or `velax.custom_vjp`.

    Example:
      >>> import numpy as np, velax
      >>> f = velax.jit(lambda x: velax.pure_callback(np.cbrt, velax.ShapeDtypeStruct((), 'float32'), x))
      >>> float(f(8.0))
      2.0
    """
    if vmap_method not in _VMAP_METHODS:
        raise ValueError(f"vmap_method must be on of the allowed methods {list(_VMAP_METHODS)}, but got: {vmap_method}")
    avals, out_tree = _result_avals(result_shape_dtypes)
    flat, leaves = _flat_call(callback, args, kwargs)
    outs = pure_callback_p.bind(*leaves, callback=flat, result_avals=avals, sharding=sharding, vmap_method=vmap_method)
    return tree_unflatten(out_tree, outs)


# -- io_callback -----------------------------------------------------------------------------------


def _io_type(*avals, result_avals, ordered, **_):
    return list(result_avals), frozenset({ordered_io_effect if ordered else io_effect})


def _io_lower(ctx, *operands, callback, result_avals, ordered, **_):
    call = lambda *args: _host_results(callback, result_avals, args)
    return _lowered(ctx, call, operands, result_avals, ordered=ordered, effectful=True)


def _io_batch(axis_data, args, dims, *, ordered, **params):
    if ordered:
        raise ValueError("Cannot `vmap` ordered IO callback.")
    moved = [x if d is None else matchaxis(axis_data.size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    return _one_by_one(io_callback_p, moved, dims, 1, dict(params, ordered=ordered)), [0] * len(params["result_avals"])


io_callback_p = _define_callback(
    "io_callback",
    abstract_eval=_io_type,
    effectful=True,
    impl=_call_now,
    lower=_io_lower,
    jvp=_no_jvp("IO callbacks do not support JVP."),
    batch=None,
    batch_axis=_io_batch,
)


def io_callback(callback: Callable, result_shape_dtypes, *args, sharding=None, ordered: bool = False, **kwargs):
    """Call a Python function with side effects, also from compiled code: exactly once each time the program gets there.

    Args:
      callback: ``callback(*args, **kwargs)`` gets arrays and returns a pytree of arrays (None for nothing).
      result_shape_dtypes: a pytree of `ShapeDtypeStruct`: the types of the results.
      *args, **kwargs: pytrees of arrays.
      sharding: unused with one device.
      ordered: whether such calls run in program order.

    Returns:
      The results, of the declared structure.

    Raises:
      JaxRuntimeError: if the function raises (it is the cause), or returns other types than declared.
      ValueError: under differentiation, and under `vmap` if ordered.
    """
    avals, out_tree = _result_avals(result_shape_dtypes)
    flat, leaves = _flat_call(callback, args, kwargs)
    outs = io_callback_p.bind(*leaves, callback=flat, ordered=bool(ordered), result_avals=avals, sharding=sharding)
    return tree_unflatten(out_tree, outs)


# -- debugging -------------------------------------------------------------------------------------


class _EachExample(Record):
    """A callback that gets whole arrays (mapped ones with their axis in front) and calls another for each example."""

    callback: Callable
    mapped: tuple[bool, ...]
    size: int

    def __call__(self, *args):
        args = [np.asarray(x) if m else x for x, m in zip(args, self.mapped, strict=True)]
        for i in range(self.size):
            self.callback(*(as_array(x[i]) if m else x for x, m in zip(args, self.mapped, strict=True)))
        return []


def _drop_tangents(primitive: Callable[[], Primitive]) -> Callable:
    def rule(primals, tangents, **params):
        return primitive().bind(*primals, **params), []

    return rule


def _no_cotangents(cts, *args, **_):
    return [
        Zero(x.aval.to_tangent_aval()) if hasattr(x, "aval") and not isinstance(x, (ArrayImpl, Tracer)) else None
        for x in args
    ]


def _debug_lower(ctx, *operands, callback, effect, **_):
    def call(*args):
        callback(*args)
        return []

    return _lowered(ctx, call, operands, [], ordered=effect is ordered_debug_effect, effectful=True)


def _debug_batch(axis_data, args, dims, *, callback, **params):
    moved = [x if d is None else matchaxis(axis_data.size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    each = _EachExample(callback, tuple(d is not None for d in dims), axis_data.size)
    return debug_callback_p.bind(*moved, callback=each, **params), []


def _debug_now(*args, callback, **_):
    callback(*(as_array(x) for x in args))
    return []


debug_callback_p = _define_callback(
    "debug_callback",
    abstract_eval=lambda *avals, effect, **_: ([], frozenset({effect})),
    effectful=True,
    impl=_debug_now,
    lower=_debug_lower,
    jvp=_drop_tangents(lambda: debug_callback_p),
    batch=None,
    batch_axis=_debug_batch,
)
debug_callback_p.rules["transpose"] = _no_cotangents


class _Static(Record):
    """An argument of a debugging function that is no array, at its place."""

    value: Any


def _split_static(args, kwargs):
    """The arrays among the leaves of a call, and a function that puts them back: ``join(arrays) -> (args, kwargs)``."""
    leaves, tree = tree_flatten((args, kwargs))
    is_array = [_is_value(x) for x in leaves]
    statics = [None if a else x for x, a in zip(leaves, is_array, strict=True)]

    def join(arrays):
        given = iter(arrays)
        return tree_unflatten(tree, [next(given) if a else x for x, a in zip(statics, is_array, strict=True)])

    return [x for x, a in zip(leaves, is_array, strict=True) if a], join, tree, statics


def _is_value(x) -> bool:
    try:
        get_aval(x)
    except TypeError:
        return False
    return True


def debug_callback(callback: Callable, *args, ordered: bool = False, partitioned: bool = False, **kwargs) -> None:
    """See `velax.debug.callback`."""
    if not callable(callback):
        raise TypeError(
            f"first argument to debug.callback must be callable, but got an object of type {type(callback)}"
        )
    arrays, join, _, _ = _split_static(args, kwargs)

    def flat_callback(*values):
        call_args, call_kwargs = join(values)
        callback(*call_args, **call_kwargs)

    debug_callback_p.bind(
        *arrays,
        callback=flat_callback,
        effect=ordered_debug_effect if ordered else debug_effect,
        partitioned=partitioned,
    )


# -- printing --------------------------------------------------------------------------------------


class _Printer(Record):
    """Writes a line from values."""

    fmt: str
    in_tree: Any
    static_args: tuple
    np_printoptions: tuple
    logger: Any

    def __call__(self, *values):
        given = iter(values)
        leaves = [x.value if isinstance(x, _Static) else next(given) for x in self.static_args]
        args, kwargs = tree_unflatten(self.in_tree, leaves)
        with np.printoptions(**dict(self.np_printoptions)):
            line = self.fmt.format(*args, **kwargs)
        if self.logger is None:
            sys.stdout.write(line + "\n")
        else:
            self.logger.info(line)


def _printer(fmt, in_tree, static_args, np_printoptions, logging_record, **_) -> _Printer:
    return _Printer(fmt, in_tree, static_args, np_printoptions, logging_record)


def _print_effect(ordered):
    return ordered_debug_effect if ordered else debug_effect


def _print_lower(ctx, *operands, ordered, **params):
    return _debug_lower(ctx, *operands, callback=_printer(**params), effect=_print_effect(ordered))


def _print_batch(axis_data, args, dims, *, ordered, partitioned, **params):
    return _debug_batch(
        axis_data, args, dims, callback=_printer(**params), effect=_print_effect(ordered), partitioned=partitioned
    )


debug_print_p = _define_callback(
    "debug_print",
    abstract_eval=lambda *avals, ordered, **_: ([], frozenset({_print_effect(ordered)})),
    effectful=True,
    impl=lambda *args, **params: _debug_now(*args, callback=_printer(**params)),
    lower=_print_lower,
    jvp=_drop_tangents(lambda: debug_print_p),
    batch=None,
    batch_axis=_print_batch,
)
debug_print_p.rules["transpose"] = _no_cotangents


def debug_print(
    fmt: str, args, kwargs, *, ordered=False, partitioned=False, skip_format_check=False, logger=None
) -> None:
    """See `velax.debug.print`."""
    if not isinstance(fmt, str):
        raise TypeError(f"expected str, got {type(fmt).__name__}")
    from velax.lax import _debug_format  # its imports are of no use to programs that print nothing

    if not skip_format_check:
        _debug_format.check(fmt, args, kwargs)
    arrays, _, tree, statics = _split_static(args, kwargs)
    given = {id(x) for x in arrays}
    leaves = tree_flatten((args, kwargs))[0]
    places = tuple(None if id(x) in given else _Static(s) for x, s in zip(leaves, statics, strict=True))
    debug_print_p.bind(
        *arrays, fmt=fmt, ordered=bool(ordered), partitioned=bool(partitioned), in_tree=tree, static_args=places,
        np_printoptions=tuple(np.get_printoptions().items()), has_placeholders=_debug_format.has_placeholders(fmt),
        logging_record=logger,
    )  # fmt: skip
