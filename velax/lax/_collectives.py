"""Collectives: operations between the examples of a `vmap` with an axis name.

A collective is staged as it is; the batching trace of the axis it names turns it into an ordinary
operation over that axis. Under the batching trace of another axis it is batched like any operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import Tracer, get_aval
from velax._transforms.batching import axis_size as _bound_size, matchaxis
from velax._transforms.zero import Zero, ops
from velax.lax._arithmetic import add, div, mul
from velax.lax._loop_tools import flatten_values
from velax.lax._reductions import reduce_max, reduce_min, reduce_sum
from velax.lax._rules import linear_jvp
from velax.lax._slicing import concatenate, index_in_dim, slice_in_dim
from velax.lax._structural import canonical_axis, convert_element_type, expand_dims, iota, reshape, squeeze
from velax.tree_util import tree_unflatten

__all__ = [
    "all_gather", "all_gather_p", "all_to_all", "all_to_all_p", "axis_index", "axis_index_p", "axis_size",
    "pbroadcast", "pmax", "pmax_p", "pmean",
    "pmin", "pmin_p", "ppermute", "ppermute_p", "pshuffle", "psum", "psum_p", "psum_scatter", "pswapaxes",
    "reduce_scatter_p",
]  # fmt: skip


def axis_size(axis_name) -> int:
    """The number of examples along a named axis, a Python integer.

    Args:
      axis_name: a name bound by ``vmap(..., axis_name=...)``, or a tuple of names (their product).

    Raises:
      NameError: if the name is not bound.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.vmap(lambda x: x / velax.lax.axis_size("i"), axis_name="i")(jnp.ones(4)).tolist()
      [0.25, 0.25, 0.25, 0.25]
    """
    if isinstance(axis_name, (tuple, list)):
        return math.prod(map(_bound_size, axis_name))
    return _bound_size(axis_name)


def _unbound(what: str):
    def lower(ctx, *_, axes=None, axis_name=None, **__):
        names = axes if axes is not None else axis_name
        name = names[0] if isinstance(names, tuple) else names
        raise NameError(f"Found an unbound axis name: {name}. {what} works inside vmap(..., axis_name={name!r}).")

    return lower


def _no_groups(groups) -> None:
    if groups is not None:
        raise NotImplementedError(
            "axis_index_groups not supported in vmap collectives. Give each group an axis name of its own: reshape the "
            "mapped axis to (groups, members) and map both."
        )


# -- reductions ----------------------------------------------------------------------------------


def _define_reduction(name, reduce, of_unmapped, linear):
    """``name`` over ``axes``; ``of_unmapped(x, size)`` is the result for a value that is the same in every example."""

    def batch(axis_data, args, dims, *, axes, axis_index_groups):
        (x,), (d,) = args, dims
        if axis_data.name not in axes:
            return p.bind(x, axes=axes, axis_index_groups=axis_index_groups), d
        x = of_unmapped(x, axis_data.size) if d is None else reduce(x, (d,))
        rest = tuple(a for a in axes if a != axis_data.name)
        return (p.bind(x, axes=rest, axis_index_groups=axis_index_groups) if rest else x), None

    p = define(
        name,
        abstract_eval=lambda x, *, axes, axis_index_groups: x,
        lower=_unbound(name),
        jvp=linear_jvp(lambda: p) if linear else None,
        transpose=(lambda ct, x, **params: [ct if type(ct) is Zero else p.bind(ct, **params)]) if linear else None,
        batch=None,
        batch_axis=batch,
        linear_in=(0,) if linear else None,
    )
    return p


psum_p = _define_reduction("psum", reduce_sum, lambda x, size: mul(x, get_aval(x).dtype.type(size)), linear=True)
pmax_p = _define_reduction("pmax", reduce_max, lambda x, size: x, linear=False)
pmin_p = _define_reduction("pmin", reduce_min, lambda x, size: x, linear=False)


def _reduce(primitive, positional, x, axis_name, axis_index_groups):
    """One leaf of a reduction over named axes and positional ones."""
    axes = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    if len(set(axes)) != len(axes):
        raise ValueError(f"duplicate value in 'axes' of reduction: {axes}")
    numbers = tuple(a for a in axes if isinstance(a, int))
    names = tuple(a for a in axes if not isinstance(a, int))
    size = axis_size(names)
    if numbers:
        ndim = get_aval(x).ndim
        for a in numbers:
            if not -ndim <= a < ndim:
                raise ValueError(f"axis {a} is out of bounds for array of dimension {ndim}")
        x = positional(x, tuple(a % ndim for a in numbers))
    if not names:
        return x
    if not isinstance(x, Tracer) and primitive is psum_p and not get_aval(x).shape:
        # the same in every example and known now, so the sum is a number: psum(1, name) gives the size
        size = size if axis_index_groups is None else len(axis_index_groups[0])
        return x * size if isinstance(x, (int, float, complex)) else mul(x, get_aval(x).dtype.type(size))
    _no_groups(axis_index_groups)
    return primitive.bind(x, axes=names, axis_index_groups=None)


def _over_leaves(f, x):
    leaves, tree = flatten_values(x)
    return tree_unflatten(tree, [f(leaf) for leaf in leaves])


def _countable(x):
    """Booleans as integers: their sum is a count."""
    return convert_element_type(x, np.dtype(np.int32)) if get_aval(x).dtype == np.bool_ else x


def psum(x, axis_name, *, axis_index_groups=None):
    """The sum over the examples along named axes.

    Args:
      x: a pytree of arrays; booleans are counted.
      axis_name: a name, or a tuple of names; integers in it are axes of ``x``.
      axis_index_groups: not supported under `vmap`.

    Returns:
      The sums, the same in every example.

    Raises:
      NameError: if a name is not bound.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.vmap(lambda x: x / velax.lax.psum(x, "i"), axis_name="i")(jnp.array([1.0, 3.0])).tolist()
      [0.25, 0.75]
    """
    return _over_leaves(lambda leaf: _reduce(psum_p, reduce_sum, _countable(leaf), axis_name, axis_index_groups), x)


def pmean(x, axis_name, *, axis_index_groups=None):
    """The mean over the examples along named axes; see `psum`."""
    axes = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)

    _no_groups(axis_index_groups)

    def mean(leaf):
        total = psum(leaf, axis_name)
        shape = get_aval(leaf).shape
        n = axis_size([a for a in axes if not isinstance(a, int)]) * math.prod(
            shape[a] for a in axes if isinstance(a, int)
        )
        dtype = get_aval(total).dtype
        if not dtypes.is_inexact(dtype):
            dtype = dtypes.default_float_dtype()
            total = float(total) if isinstance(total, int) else convert_element_type(total, dtype)
        return total / n if isinstance(total, (float, complex)) else div(total, dtype.type(n))

    return _over_leaves(mean, x)


def pmax(x, axis_name, *, axis_index_groups=None):
    """The maximum over the examples along named axes; see `psum`."""
    return _over_leaves(lambda leaf: _reduce(pmax_p, reduce_max, leaf, axis_name, axis_index_groups), x)


def pmin(x, axis_name, *, axis_index_groups=None):
    """The minimum over the examples along named axes; see `psum`."""
    return _over_leaves(lambda leaf: _reduce(pmin_p, reduce_min, leaf, axis_name, axis_index_groups), x)


# -- axis_index ----------------------------------------------------------------------------------


def _axis_index_batch(axis_data, args, dims, *, axis_name):
    return iota(np.dtype(np.int32), axis_data.size), 0


axis_index_p = define(
    "axis_index",
    abstract_eval=lambda *, axis_name: shaped_array((), np.dtype(np.int32)),
    lower=_unbound("axis_index"),
    jvp=None,
    transpose=None,
    batch=None,
    batch_axis=_axis_index_batch,
)


def axis_index(axis_name):
    """The position of the example along a named axis, an int32.

    Args:
      axis_name: a name, or a tuple of names (row-major position along these).

    Raises:
      NameError: if a name is not bound.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.vmap(lambda x: x + velax.lax.axis_index("i"), axis_name="i")(jnp.zeros(3)).tolist()
      [0.0, 1.0, 2.0]
    """
    if not isinstance(axis_name, (tuple, list)):
        axis_size(axis_name)
        return axis_index_p.bind(axis_name=axis_name)
    position = np.int32(0)
    for name in axis_name:
        position = add(mul(position, np.int32(axis_size(name))), axis_index(name))
    return position


# -- moving data ---------------------------------------------------------------------------------


def _one_name(what: str, axis_name):
    """The single name that a collective is over."""
    if isinstance(axis_name, (tuple, list)):
        if len(axis_name) != 1:
            raise NotImplementedError(
                f"{what} over several axes at once ({axis_name}); apply it to one after the other"
            )
        (axis_name,) = axis_name
    axis_size(axis_name)
    return axis_name


def _names(axis_data, axis_name) -> bool:
    return axis_data.name in (axis_name if isinstance(axis_name, tuple) else (axis_name,))


def _merge(x, axis):
    """Axes ``axis`` and ``axis + 1`` as one."""
    shape = get_aval(x).shape
    return reshape(x, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _all_gather_type(x, *, all_gather_dimension, axis_size, tiled, **_):
    shape = list(x.shape)
    if tiled:
        shape[all_gather_dimension] *= axis_size
    else:
        shape.insert(all_gather_dimension, axis_size)
    return shaped_array(tuple(shape), x.dtype, x.weak_type)


def _all_gather_batch(axis_data, args, dims, *, all_gather_dimension, axis_name, tiled, **params):
    (x,), (d,) = args, dims
    if not _names(axis_data, axis_name):
        x = matchaxis(axis_data.size, d, 0, x)
        return all_gather_p.bind(
            x, all_gather_dimension=all_gather_dimension + 1, axis_name=axis_name, tiled=tiled, **params
        ), 0
    x = matchaxis(axis_data.size, d, all_gather_dimension, x)
    return (_merge(x, all_gather_dimension) if tiled else x), None


all_gather_p = define(
    "all_gather",
    abstract_eval=_all_gather_type,
    lower=_unbound("all_gather"),
    jvp=linear_jvp(lambda: all_gather_p),
    transpose=lambda ct, x, *, all_gather_dimension, **params: [
        ct if type(ct) is Zero else reduce_scatter_p.bind(ct, scatter_dimension=all_gather_dimension, **params)
    ],
    batch=None,
    batch_axis=_all_gather_batch,
    linear_in=(0,),
)


def all_gather(x, axis_name, *, axis_index_groups=None, axis: int = 0, tiled: bool = False):
    """The values of all examples along a named axis.

    Args:
      x: a pytree of arrays.
      axis_name: the name.
      axis: where the examples go in the results.
      tiled: whether they are concatenated along ``axis`` rather than stacked as a new one.

    Returns:
      The gathered arrays, the same in every example.
    """
    _no_groups(axis_index_groups)
    name = _one_name("all_gather", axis_name)
    size = axis_size(name)

    def gather(leaf):
        return all_gather_p.bind(
            leaf,
            all_gather_dimension=canonical_axis(axis, get_aval(leaf).ndim + (not tiled), "all_gather"),
            axis_index_groups=None,
            axis_name=(name,),
            axis_size=size,
            tiled=tiled,
        )

    return _over_leaves(gather, x)


def _reduce_scatter_type(x, *, scatter_dimension, axis_size, tiled, **_):
    shape = list(x.shape)
    if tiled:
        if shape[scatter_dimension] % axis_size:
            raise ValueError(
                f"tiled reduce_scatter operand scatter dimension size {shape[scatter_dimension]} must "
                f"be divisible by shard_count {axis_size}"
            )
        shape[scatter_dimension] //= axis_size
    else:
        if shape[scatter_dimension] != axis_size:
            raise ValueError(
                f"reduce_scatter operand scatter dimension size {shape[scatter_dimension]} must match "
                f"shard_count {axis_size}"
            )
        del shape[scatter_dimension]
    return shaped_array(tuple(shape), x.dtype, x.weak_type)


def _reduce_scatter_batch(axis_data, args, dims, *, scatter_dimension, axis_name, tiled, **params):
    (x,), (d,) = args, dims
    if not _names(axis_data, axis_name):
        x = matchaxis(axis_data.size, d, 0, x)
        return reduce_scatter_p.bind(
            x, scatter_dimension=scatter_dimension + 1, axis_name=axis_name, tiled=tiled, **params
        ), 0
    x = mul(x, get_aval(x).dtype.type(axis_data.size)) if d is None else reduce_sum(x, (d,))
    if tiled:
        shape = get_aval(x).shape
        n = shape[scatter_dimension] // axis_data.size
        x = reshape(x, (*shape[:scatter_dimension], axis_data.size, n, *shape[scatter_dimension + 1 :]))
    return x, scatter_dimension


reduce_scatter_p = define(
    "reduce_scatter",
    abstract_eval=_reduce_scatter_type,
    lower=_unbound("psum_scatter"),
    jvp=linear_jvp(lambda: reduce_scatter_p),
    transpose=lambda ct, x, *, scatter_dimension, **params: [
        ct if type(ct) is Zero else all_gather_p.bind(ct, all_gather_dimension=scatter_dimension, **params)
    ],
    batch=None,
    batch_axis=_reduce_scatter_batch,
    linear_in=(0,),
)


def psum_scatter(x, axis_name, *, scatter_dimension: int = 0, axis_index_groups=None, tiled: bool = False):
    """The sum over the examples along a named axis, of which each example gets its part.

    Args:
      x: a pytree of arrays.
      axis_name: the name.
      scatter_dimension: the axis of ``x`` that is divided among the examples.
      tiled: whether that axis stays, with each example's share; otherwise it has one entry an example and is removed.

    Raises:
      ValueError: if the sizes do not fit.
    """
    _no_groups(axis_index_groups)
    name = _one_name("psum_scatter", axis_name)
    size = axis_size(name)

    def scatter(leaf):
        aval = get_aval(leaf)
        params = dict(
            axis_index_groups=None,
            axis_name=(name,),
            axis_size=size,
            scatter_dimension=canonical_axis(scatter_dimension, aval.ndim, "psum_scatter"),
            tiled=tiled,
        )
        _reduce_scatter_type(aval, **params)  # eager code has no other place that checks sizes
        return reduce_scatter_p.bind(leaf, **params)

    return _over_leaves(scatter, x)


def _ppermute_batch(axis_data, args, dims, *, axis_name, perm):
    (x,), (d,) = args, dims
    if not _names(axis_data, axis_name):
        return ppermute_p.bind(x, axis_name=axis_name, perm=perm), d
    x = matchaxis(axis_data.size, d, 0, x)
    source = dict((to, fro) for fro, to in perm)
    aval = get_aval(x)
    missing = ops.full(shaped_array((1, *aval.shape[1:]), aval.dtype), 0) if len(source) < axis_data.size else None
    rows = [slice_in_dim(x, source[i], source[i] + 1) if i in source else missing for i in range(axis_data.size)]
    return concatenate(rows, 0), 0


def _ppermute_transpose(ct, x, *, axis_name, perm):
    return [
        ct if type(ct) is Zero else ppermute_p.bind(ct, axis_name=axis_name, perm=tuple((to, fro) for fro, to in perm))
    ]


ppermute_p = define(
    "ppermute",
    abstract_eval=lambda x, **_: x,
    lower=_unbound("ppermute"),
    jvp=linear_jvp(lambda: ppermute_p),
    transpose=_ppermute_transpose,
    batch=None,
    batch_axis=_ppermute_batch,
    linear_in=(0,),
)


def ppermute(x, axis_name, perm: Sequence[tuple[int, int]]):
    """Send each example's value along a named axis to another example.

    Args:
      x: a pytree of arrays.
      axis_name: the name.
      perm: pairs ``(source, destination)``, with no source and no destination twice; examples that
        nothing is sent to get zeros.

    Raises:
      ValueError: if ``perm`` is no partial permutation of the axis.
    """
    name = _one_name("ppermute", axis_name)
    perm = tuple((int(fro), int(to)) for fro, to in perm)
    size = axis_size(name)
    for what, ends in (("sources", [a for a, _ in perm]), ("destinations", [b for _, b in perm])):
        if len(set(ends)) != len(ends) or not all(0 <= a < size for a in ends):
            raise ValueError(f"ppermute sources and destinations must be unique and in [0, {size}), got {what} {ends}")
    return _over_leaves(lambda leaf: ppermute_p.bind(leaf, axis_name=(name,), perm=perm), x)


def pshuffle(x, axis_name, perm: Sequence[int]):
    """`ppermute` with ``perm[i]`` the source of example ``i``."""
    if sorted(perm) != list(range(len(perm))) or len(perm) != axis_size(axis_name):
        raise ValueError(f"`perm` does not represent a permutation: {perm}")
    return ppermute(x, axis_name, [(fro, to) for to, fro in enumerate(perm)])


def pbroadcast(x, axis_name, source: int):
    """The value of example ``source`` along a named axis, in every example."""
    gathered = all_gather(x, axis_name)
    return _over_leaves(lambda leaf: index_in_dim(leaf, source, 0, keepdims=False), gathered)


def _all_to_all_type(x, *, split_axis, concat_axis, axis_name, **_):
    size = axis_size(axis_name)
    shape = list(x.shape)
    shape[split_axis] //= size
    shape[concat_axis] *= size
    return shaped_array(tuple(shape), x.dtype, x.weak_type)


def _all_to_all_batch(axis_data, args, dims, *, split_axis, concat_axis, axis_name, **params):
    (x,), (d,) = args, dims
    if not _names(axis_data, axis_name):
        x = matchaxis(axis_data.size, d, 0, x)
        return all_to_all_p.bind(
            x, split_axis=split_axis + 1, concat_axis=concat_axis + 1, axis_name=axis_name, **params
        ), 0
    n = axis_data.size
    x = matchaxis(n, d, 0, x)
    shape = get_aval(x).shape[1:]
    # cut the split axis in n parts, which become the mapped axis; the mapped axis becomes the major
    # part of the concatenated one
    x = reshape(x, (n, *shape[:split_axis], n, shape[split_axis] // n, *shape[split_axis + 1 :]))
    x = ops.moveaxis(x, split_axis + 1, 0)  # (new mapped, old mapped, *shape with the split axis cut)
    x = ops.moveaxis(x, 1, concat_axis + 1)
    return _merge(x, concat_axis + 1), 0


def _all_to_all_transpose(ct, x, *, split_axis, concat_axis, **params):
    return [ct if type(ct) is Zero else all_to_all_p.bind(ct, split_axis=concat_axis, concat_axis=split_axis, **params)]


all_to_all_p = define(
    "all_to_all",
    abstract_eval=_all_to_all_type,
    lower=_unbound("all_to_all"),
    jvp=linear_jvp(lambda: all_to_all_p),
    transpose=_all_to_all_transpose,
    batch=None,
    batch_axis=_all_to_all_batch,
    linear_in=(0,),
)


def all_to_all(x, axis_name, split_axis: int, concat_axis: int, *, axis_index_groups=None, tiled: bool = False):
    """Cut each example's array in parts, one for each example along a named axis, and send them there.

    Args:
      x: a pytree of arrays.
      axis_name: the name.
      split_axis: the axis that is cut; of the size of the named axis unless ``tiled``.
      concat_axis: where the received parts go.
      tiled: whether the parts are blocks of ``split_axis`` and are concatenated along
        ``concat_axis``; otherwise they are entries, and stacked.

    Raises:
      ValueError: if the sizes do not fit.
    """
    _no_groups(axis_index_groups)
    name = _one_name("all_to_all", axis_name)
    size = axis_size(name)

    def exchange(leaf):
        shape = get_aval(leaf).shape
        split, concat = (canonical_axis(a, len(shape), "all_to_all") for a in (split_axis, concat_axis))
        params = dict(axis_name=name, axis_index_groups=None, tiled=tiled)
        if tiled:
            if shape[split] % size:
                raise ValueError(
                    f"all_to_all with tiled=True requires the size of split_axis, {shape[split]}, "
                    f"to be divisible by that of {name!r}, {size}"
                )
            return all_to_all_p.bind(leaf, split_axis=split, concat_axis=concat, **params)
        if shape[split] != size:
            raise ValueError(
                "all_to_all requires the size of the mapped axis axis_name to equal x.shape[split_axis], "
                f"but they are {size} and {shape[split]} respectively."
            )
        # a new axis receives the parts, and the cut axis is left with one entry
        split, concat = (split + 1, concat) if concat < split else (split, concat + 1)
        leaf = expand_dims(leaf, (concat,))
        return squeeze(all_to_all_p.bind(leaf, split_axis=split, concat_axis=concat, **params), (split,))

    return _over_leaves(exchange, x)


def pswapaxes(x, axis_name, axis: int, *, axis_index_groups=None):
    """Exchange a named axis with an axis of the same size."""
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)
