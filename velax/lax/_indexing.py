"""What gather and scatter share: dimension numbers, modes, and their checks.

Both take *dimension numbers*. The last axis of the index array holds index vectors, one for each
position along its other axes. A vector gives the start of a window in the operand along the axes
``start_index_map`` (0 along the others). Of the window's axes, those in ``collapsed_slice_dims``
(size 1) are dropped, and the rest become the axes ``offset_dims`` of the result; the result's other
axes are those of the index array, without the last. Along ``operand_batching_dims`` the window is
the element at the position's own index along ``start_indices_batching_dims``. Scatter is the same
map with the updates in place of the result.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from velax._lang import dtypes

__all__ = ["GatherDimensionNumbers", "GatherScatterMode", "ScatterDimensionNumbers"]


class GatherDimensionNumbers(NamedTuple):
    """Which axes of operand, indices and result correspond in `gather`.

    Attributes:
      offset_dims: axes of the result that come from the windows; increasing.
      collapsed_slice_dims: axes of the operand, of window size 1, that the result does not have;
        increasing.
      start_index_map: the operand axis that each component of an index vector addresses.
      operand_batching_dims: axes of the operand that run along with axes of the indices;
        increasing.
      start_indices_batching_dims: those axes of the indices.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


class ScatterDimensionNumbers(NamedTuple):
    """Which axes of operand, indices and updates correspond in `scatter` and its kin.

    Attributes:
      update_window_dims: axes of the updates that are the windows'; increasing.
      inserted_window_dims: axes of the operand, of window size 1, that the updates do not have;
        increasing.
      scatter_dims_to_operand_dims: the operand axis that each component of an index vector
        addresses.
      operand_batching_dims: axes of the operand that run along with axes of the indices;
        increasing.
      scatter_indices_batching_dims: those axes of the indices.
    """

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    scatter_indices_batching_dims: tuple[int, ...] = ()


class GatherScatterMode(enum.Enum):
    """What happens to windows that do not lie inside the operand.

    ``CLIP`` moves them inside; ``FILL_OR_DROP`` gathers a fill value, or writes nothing;
    ``PROMISE_IN_BOUNDS`` says that there are none (if there are, the result is unspecified, but
    nothing outside the arrays is touched).
    """

    CLIP = 1
    FILL_OR_DROP = 2
    PROMISE_IN_BOUNDS = 3
    ONE_HOT = 4

    @staticmethod
    def from_any(mode: str | GatherScatterMode | None) -> GatherScatterMode:
        """A mode from its name (``'clip'``, ``'fill'`` or ``'drop'``, ``'promise_in_bounds'``);
        None is ``FILL_OR_DROP``.
        """
        if isinstance(mode, GatherScatterMode):
            return mode
        found = _MODES.get(mode)
        if found is None:
            raise ValueError(f'Unknown gather mode "{mode}"')
        return found


_MODES = {
    "clip": GatherScatterMode.CLIP, None: GatherScatterMode.FILL_OR_DROP, "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP, "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
    "one_hot": GatherScatterMode.ONE_HOT,
}  # fmt: skip


def plain_dims(dims):
    """Dimension numbers with tuples of Python integers."""
    return type(dims)(*(tuple(int(d) for d in field) for field in dims))


def check_mode(name: str, mode: GatherScatterMode) -> None:
    if mode is GatherScatterMode.ONE_HOT:
        raise NotImplementedError(
            f"{name}: the mode 'one_hot' is not implemented; use 'clip', 'fill' or "
            "'promise_in_bounds', or write the product with one-hot vectors"
        )


# -- checks of dimension numbers -------------------------------------------------------------------


def increasing(dims, op: str, field: str) -> None:
    if list(dims) != sorted(dims):
        raise TypeError(f"{field} in {op} op must be sorted; got {tuple(dims)}")
    distinct(dims, op, field)


def distinct(dims, op: str, field: str) -> None:
    if len(set(dims)) != len(dims):
        raise TypeError(f"{field} in {op} op must not repeat; got: {tuple(dims)}.")


def inside(dims, bound: int, op: str, field: str) -> None:
    for d in dims:
        if not 0 <= d < bound:
            raise TypeError(f"Invalid {field} set in {op} op; valid range is [0, {bound}); got: {d}.")


def disjoint(a, b, op: str, fields: str) -> None:
    if set(a) & set(b):
        raise TypeError(f"{fields} in {op} op must be disjoint; got: {tuple(a)} and {tuple(b)}.")


def check_batching(
    op: str,
    name: str,
    operand_shape,
    indices_shape,
    operand_dims,
    indices_dims,
    collapsed,
    collapsed_name: str,
    mapped,
    mapped_name: str,
):
    """What gather and scatter ask of their batching dimensions."""
    increasing(operand_dims, op, "operand_batching_dims")
    inside(operand_dims, len(operand_shape), op, "operand_batching_dims")
    disjoint(collapsed, operand_dims, op, f"{collapsed_name} and operand_batching_dims")
    disjoint(mapped, operand_dims, op, f"{mapped_name} and operand_batching_dims")
    distinct(indices_dims, op, name)
    inside(indices_dims, len(indices_shape), op, name)
    title = op.capitalize()
    if len(indices_shape) - 1 in indices_dims:
        raise TypeError(
            f"{title} op cannot have the index vector dimension as a batching dimension; got {tuple(indices_dims)}."
        )
    if len(operand_dims) != len(indices_dims):
        raise TypeError(
            f"{title} op requires equal numbers of operand_batching_dims and {name}, got "
            f"{tuple(operand_dims)} and {tuple(indices_dims)}."
        )
    sizes = tuple(operand_shape[d] for d in operand_dims), tuple(indices_shape[d] for d in indices_dims)
    if sizes[0] != sizes[1]:
        raise TypeError(
            f"{title} op requires operand batching dimensions and indices batching "
            f"dimensions to have the same shape, got {sizes[0]} and {sizes[1]}."
        )


def check_index_type(op: str, indices) -> None:
    if not dtypes.is_integer(indices.dtype):
        raise ValueError(f"indices must have an integer type in {op}, got {indices.str_short()}")


def check_indices(op: str, indices, mapped, field: str, operand_rank: int) -> None:
    if not indices.shape:
        raise TypeError(
            f"{op.capitalize()} op requires indices of rank at least 1, whose last axis "
            "holds the index vectors; got a scalar"
        )
    if len(mapped) != indices.shape[-1]:
        raise TypeError(
            f"{op.capitalize()} op has {len(mapped)} elements in {field} and the bound "
            f"of dimension index_vector_dim={len(indices.shape) - 1} of "
            f"indices is {indices.shape[-1]}. These two numbers must be equal."
        )
    for i, d in enumerate(mapped):
        if not 0 <= d < operand_rank:
            noun = f"{field} mapping" if op == "scatter" else field
            raise TypeError(f"Invalid {noun}; domain is [0, {operand_rank}), got: {i}->{d}.")
    distinct(mapped, op, field)


def shift(dims) -> tuple[int, ...]:
    """Axes after a new leading one."""
    return tuple(d + 1 for d in dims)
