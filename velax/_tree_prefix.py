"""Prefix trees: specifications spread over the trees they are about, and messages that say where two trees differ.

One tree is a prefix of another if it becomes the other by replacing leaves with subtrees. Functions
such as ``vmap`` take prefix trees (``in_axes``); :mod:`velax.tree_util` offers most of what is here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from velax import _native

KeyEntry = TypeVar("KeyEntry", bound=Hashable)
KeyPath = tuple[KeyEntry, ...]

# --- nodes and key paths ----------------------------------------------------------------------------------------------


def flatten_one_level(tree: Any) -> tuple[Iterable[Any], Hashable]:
    """The children and the auxiliary data of one node.

    Raises:
      ValueError: if the object is a leaf.

    >>> from velax.tree_util import flatten_one_level
    >>> flatten_one_level({"b": 1, "a": 2})
    ((2, 1), ('a', 'b'))
    """
    result = _native.default_registry.flatten_one_level(tree)
    if result is None:
        raise ValueError(f"can't tree-flatten type: {type(tree)}")
    return result


def flatten_one_level_with_keys(tree: Any) -> tuple[Iterable[tuple[Any, Any]], Hashable]:
    """Like :func:`flatten_one_level`, with every child paired with its key.

    >>> from velax.tree_util import flatten_one_level_with_keys
    >>> flatten_one_level_with_keys([7])
    (((SequenceKey(idx=0), 7),), None)
    """
    result = _native.default_registry.flatten_one_level_with_keys(tree)
    if result is None:
        raise ValueError(f"can't tree-flatten type: {type(tree)}")
    return result


def _simple_entry(key: Any) -> str:
    match key:
        case (
            _native.DictKey(key=value)
            | _native.FlattenedIndexKey(key=value)
            | _native.SequenceKey(idx=value)
            | _native.GetAttrKey(name=value)
        ):
            return str(value)
        case _:
            return str(key)


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """Prints a key path.

    Args:
      keys: the key path.
      simple: print the bare key, index or name of every entry instead of the Python spelling.
      separator: what stands between entries.

    >>> from velax.tree_util import DictKey, GetAttrKey, SequenceKey, keystr
    >>> path = (DictKey("layers"), SequenceKey(0), GetAttrKey("bias"))
    >>> keystr(path), keystr(path, simple=True, separator="/")
    ("['layers'][0].bias", 'layers/0/bias')
    """
    return separator.join(map(_simple_entry if simple else str, keys))


# --- spreading a prefix over a tree ----------------------------------------------------------------------------------


def broadcast_flattened_prefix_with_treedef(
    prefix_leaves: Sequence[Any], prefix_treedef: _native.PyTreeDef, full_treedef: _native.PyTreeDef
) -> list[Any]:
    """Like :func:`broadcast_prefix`, from the leaves and structure of the prefix and the structure of the full tree.

    >>> from velax.tree_util import tree_structure
    >>> full = tree_structure([(0, 0), 0])
    >>> broadcast_flattened_prefix_with_treedef([1, 2], tree_structure([0, 0]), full)
    [1, 1, 2]
    """
    counts = prefix_treedef.leaf_counts_in(full_treedef)
    return [leaf for leaf, count in zip(prefix_leaves, counts, strict=True) for _ in range(count)]


def flatten_axis_prefix(
    name: str, treedef: _native.PyTreeDef, axis_tree: Any, *, kws: bool = False, tupled_args: bool = False
) -> list[Any]:
    """The entries of a specification such as ``in_axes``, one for every leaf of the value it is about.

    Args:
      name: what the specification is called in errors.
      treedef: the structure of the value; with ``kws``, of ``(args, kwargs)``.
      axis_tree: a prefix tree in which ``None`` is a leaf.
      kws: whether ``treedef`` includes keyword arguments, which errors then leave out.
      tupled_args: whether the value is an argument list, which errors then mention.

    Raises:
      ValueError: if ``axis_tree`` is not a prefix of the structure.

    >>> from velax.tree_util import tree_structure
    >>> flatten_axis_prefix("in_axes", tree_structure((0, {"a": 0, "b": 0})), (0, None))
    [0, None, None]
    """
    axes, axes_treedef = _native.none_leaf_registry.flatten(axis_tree)
    try:
        return broadcast_flattened_prefix_with_treedef(axes, axes_treedef, treedef)
    except ValueError:
        pass
    if kws:
        treedef = treedef.children()[0]
        if isinstance(axis_tree, tuple) and len(axis_tree) == 2:
            axis_tree = axis_tree[0]
    hint = ""
    if tupled_args:
        hint = (
            f" Note that {name} that are non-trivial pytrees should always be wrapped in a tuple representing the "
            "argument list."
        )
        if axes_treedef.node_data() is not None and len(axes) == 1:
            hint += f" In particular, {name} for a function of one argument is {name}=({axis_tree!r},)."
    dummy = treedef.unflatten([_Leaf()] * treedef.num_leaves)
    details = [str(make(name)) for make in prefix_errors(axis_tree, dummy, lambda node: node is None)]
    found = "\n".join(textwrap.indent(d, "  ") for d in details)
    raise ValueError(
        f"{name} specification must be a tree prefix of the corresponding value;{hint}"
        f"\n  Mismatch details ({len(details)} found):\n{found}"
    )


class _Leaf:
    """Stands for a leaf where only a structure is known."""

    def __repr__(self) -> str:
        return "*"


# --- where two trees differ -------------------------------------------------------------------------------------------


def _key_names(tree: Any) -> tuple[KeyPath, Any]:
    """The keys of a node's children, and its auxiliary data."""
    pairs, data = flatten_one_level_with_keys(tree)
    return tuple(key for key, _ in pairs), data


def _children(tree: Any) -> list[Any]:
    return list(flatten_one_level(tree)[0])


def _is_leaf(tree: Any, is_leaf: Callable[[Any], bool] | None) -> bool:
    return (is_leaf is not None and is_leaf(tree)) or _native.default_registry.flatten_one_level(tree) is None


def _same_type(a: Any, b: Any) -> bool:
    return type(a) is type(b)


def _diff(a: Any, b: Any) -> str:
    import difflib  # only errors need it

    return "\n".join(difflib.ndiff(str(a).splitlines(), str(b).splitlines()))


def prefix_errors(
    prefix_tree: Any, full_tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> list[Callable[[str], ValueError]]:
    """Where one tree is not a prefix of another.

    Args:
      prefix_tree: the tree that should be the prefix.
      full_tree: the tree it should be a prefix of.
      is_leaf: as in :func:`tree_flatten`; applies to ``prefix_tree``.

    Returns:
      For every place a function that takes the name of the prefix tree and makes the exception; empty for a prefix.

    >>> [make_error] = prefix_errors([1, (2, 3)], [1, (2,)])
    >>> print(str(make_error("in_axes")).splitlines()[1].strip())
    in_axes[1]
    """
    return list(_prefix_errors((), prefix_tree, full_tree, is_leaf))


def _prefix_errors(
    path: KeyPath, prefix: Any, full: Any, is_leaf: Callable[[Any], bool] | None
) -> Iterator[Callable[[str], ValueError]]:
    if _is_leaf(prefix, is_leaf):
        return

    def error(summary: str, details: str) -> Callable[[str], ValueError]:
        def make(name: str) -> ValueError:
            return ValueError(
                f"pytree structure error: {summary} at key path\n    {name}{keystr(path)}\n" + details.format(name=name)
            )

        return make

    kind = type(prefix)
    if not _same_type(prefix, full):
        yield error(
            "different types",
            f"There, {{name}} has a node of type\n    {_braces(kind)}\n"
            "where the tree it must be a prefix of has "
            + ("a leaf." if isinstance(full, _Leaf) else f"an object of type\n    {_braces(type(full))}."),
        )
        return
    if kind in (list, tuple) and len(prefix) != len(full):
        yield error(
            f"different lengths of {kind.__name__}",
            f"There, {{name}} has a {kind.__name__} of length {len(prefix)}, but the tree it must be a prefix of "
            f"has one of length {len(full)}.",
        )
        return
    prefix_keys, prefix_data = _key_names(prefix)
    full_keys, full_data = _key_names(full)
    if len(prefix_keys) != len(full_keys):
        difference = sorted({_simple_entry(k) for k in {*prefix_keys} ^ {*full_keys}})
        yield error(
            "different numbers of pytree children",
            f"There, {{name}} has a node of type\n    {_braces(kind)}\nwith {len(prefix_keys)} child keys\n    "
            f"{_braces(' '.join(map(_simple_entry, prefix_keys)))}\nwhere the tree it must be a prefix of has "
            f"{len(full_keys)} child keys\n    {_braces(' '.join(map(_simple_entry, full_keys)))}\n"
            f"Only one of them has\n    {_braces(' '.join(difference))}",
        )
        return
    if prefix_data != full_data:
        diff = textwrap.indent(_diff(prefix_data, full_data), "    ")
        yield error(
            "different pytree metadata",
            f"There, {{name}} has a node of type\n    {_braces(kind)}\nwith metadata\n    {_braces(prefix_data)}\n"
            f"where the tree it must be a prefix of has a node of that type with metadata\n    {_braces(full_data)}\n"
            f"The difference is\n{_braces(diff)}",
        )
        return
    for key, prefix_child, full_child in zip(prefix_keys, _children(prefix), _children(full)):
        yield from _prefix_errors((*path, key), prefix_child, full_child, is_leaf)


def _braces(value: Any) -> str:
    """Text for a template that is formatted once more."""
    return str(value).replace("{", "{{").replace("}", "}}")


def equality_errors(
    tree1: Any, tree2: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Iterable[tuple[KeyPath, str, str, str]]:
    """Where the structures of two trees differ.

    Args:
      tree1: a pytree.
      tree2: another.
      is_leaf: as in :func:`tree_flatten`; applies to both.

    Yields:
      ``(key path, what the first has there, what the second has, why they do not match)``.

    >>> list(equality_errors([1, 2], [1]))
    [((), 'list of length 2', 'list of length 1', 'the lengths do not match')]
    """
    yield from _equality_errors((), tree1, tree2, is_leaf)


def name_set(names: set[str]) -> str:
    """A set of names as Python prints it, in a stable order."""
    return "{" + ", ".join(map(repr, sorted(names))) + "}"


def _count_children(n: int) -> str:
    return "1 child" if n == 1 else f"{n} children"


def _equality_errors(
    path: KeyPath, tree1: Any, tree2: Any, is_leaf: Callable[[Any], bool] | None
) -> Iterator[tuple[KeyPath, str, str, str]]:
    leaf1, leaf2 = _is_leaf(tree1, is_leaf), _is_leaf(tree2, is_leaf)
    if leaf1 and leaf2:
        return
    type1, type2 = type(tree1), type(tree2)
    if leaf1 or leaf2 or type1 is not type2:
        yield path, str(type1), str(type2), "their Python types differ"
        return
    if type1 in (list, tuple) and len(tree1) != len(tree2):
        name = type1.__name__
        lengths = f"{name} of length {len(tree1)}", f"{name} of length {len(tree2)}"
        yield path, *lengths, "the lengths do not match"
        return
    keys1, data1 = _key_names(tree1)
    keys2, data2 = _key_names(tree2)
    if len(keys1) != len(keys2):
        difference = {_simple_entry(k) for k in {*keys1} ^ {*keys2}}
        yield (
            path,
            f"{type1} with {_count_children(len(keys1))}",
            f"{type2} with {_count_children(len(keys2))}",
            f"the numbers of children do not match, with the symmetric difference of key sets: {name_set(difference)}",
        )
        return
    if data1 != data2:
        yield (
            path,
            f"{type1} with pytree metadata {data1}",
            f"{type2} with pytree metadata {data2}",
            "the pytree node metadata does not match",
        )
        return
    for key, child1, child2 in zip(keys1, _children(tree1), _children(tree2)):
        yield from _equality_errors((*path, key), child1, child2, is_leaf)


def equality_errors_pytreedef(
    tree1: _native.PyTreeDef, tree2: _native.PyTreeDef
) -> Iterable[tuple[KeyPath, str, str, str]]:
    """Where two structures differ; see :func:`equality_errors`.

    >>> from velax.tree_util import tree_structure
    >>> list(equality_errors_pytreedef(tree_structure([1]), tree_structure((1,))))
    [((), "<class 'list'>", "<class 'tuple'>", 'their Python types differ')]
    """
    leaf = _Leaf()
    return equality_errors(tree1.unflatten([leaf] * tree1.num_leaves), tree2.unflatten([leaf] * tree2.num_leaves))
