"""The functions of :mod:`velax.tree_util` under short names.

>>> from velax import tree
>>> tree.map(lambda x: 2 * x, {"a": [1, 2]})
{'a': [2, 4]}
"""

from __future__ import annotations

from typing import Any

from velax.tree_util import (
    tree_all as all,
    tree_broadcast as broadcast,
    tree_flatten as flatten,
    tree_flatten_with_path as flatten_with_path,
    tree_leaves as leaves,
    tree_leaves_with_path as leaves_with_path,
    tree_map as map,
    tree_map_with_path as map_with_path,
    tree_reduce as reduce,
    tree_reduce_associative as reduce_associative,
    tree_structure as structure,
    tree_transpose as transpose,
    tree_unflatten as unflatten,
)

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "static",
    "structure",
    "transpose",
    "unflatten",
]


def static(**kwargs: Any) -> Any:
    """Declares a dataclass field that is part of the structure, for :func:`velax.tree_util.register_dataclass`.

    Args:
      **kwargs: those of ``dataclasses.field``.

    >>> import dataclasses
    >>> from velax import tree_util
    >>> @tree_util.register_dataclass
    ... @dataclasses.dataclass
    ... class Layer:
    ...     weight: float
    ...     activation: str = static(default="relu")
    >>> leaves(Layer(0.5))
    [0.5]
    """
    import dataclasses  # not needed by the rest of the package

    metadata = {"static": True, **(kwargs.pop("metadata", None) or {})}
    return dataclasses.field(metadata=metadata, **kwargs)
