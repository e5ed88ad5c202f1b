"""Pytrees: nested containers treated as a list of leaves plus a structure.

Tuples, lists, dicts, named tuples, ``OrderedDict``, ``defaultdict`` and ``None`` are nodes; other types become nodes by
registration; everything else is a leaf. Flattening and its inverse are native (``velax._native``); this module adds
registration, mapping and the errors that say where two trees differ.

>>> from velax import tree_util
>>> leaves, treedef = tree_util.tree_flatten({"b": [2, None], "a": 1})
>>> leaves, treedef
([1, 2], PyTreeDef({'a': *, 'b': [*, None]}))
>>> tree_util.tree_unflatten(treedef, [10, 20])
{'a': 10, 'b': [20, None]}
"""

from __future__ import annotations

import collections
import functools
import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from velax import _native
from velax._tree_prefix import (
    KeyEntry,
    KeyPath,
    broadcast_flattened_prefix_with_treedef as broadcast_flattened_prefix_with_treedef,
    equality_errors as equality_errors,
    equality_errors_pytreedef as equality_errors_pytreedef,
    flatten_axis_prefix as flatten_axis_prefix,
    flatten_one_level,
    flatten_one_level_with_keys,
    keystr,
    name_set,
    prefix_errors,
)

DictKey = _native.DictKey
FlattenedIndexKey = _native.FlattenedIndexKey
GetAttrKey = _native.GetAttrKey
SequenceKey = _native.SequenceKey
PyTreeDef = _native.PyTreeDef
PyTreeRegistry = _native.PyTreeRegistry
default_registry = _native.default_registry
none_leaf_registry = _native.none_leaf_registry

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "default_registry",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]

T = TypeVar("T")
Typ = TypeVar("Typ", bound=type[Any])
H = TypeVar("H", bound=Hashable)

# Both know the same registered types; in the second None is a leaf.
_registries: tuple[PyTreeRegistry, ...] = (default_registry, none_leaf_registry)


class Unspecified:
    """The type of the default that means "not given" where ``None`` is a value like others."""

    def __repr__(self) -> str:
        return "<unspecified>"


_unspecified = Unspecified()


# --- flattening and its inverse ---------------------------------------------------------------------------------------


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], PyTreeDef]:
    """Splits a pytree into its leaves and its structure.

    Args:
      tree: the pytree.
      is_leaf: called with every node before it is entered; where it returns ``True`` that node counts as a leaf.

    Returns:
      ``(leaves, treedef)``; ``tree_unflatten(treedef, leaves)`` gives the tree back. Dicts are
      flattened in the order of their sorted keys.

    Raises:
      ValueError: if the keys of a dict cannot be compared with each other.

    >>> tree_flatten((1, {"x": 2}))
    ([1, 2], PyTreeDef((*, {'x': *})))
    """
    return _native.tree_flatten(tree, is_leaf)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a pytree, in the order of :func:`tree_flatten`.

    >>> tree_leaves([1, (2, None), {"a": 3}])
    [1, 2, 3]
    """
    return _native.tree_leaves(tree, is_leaf)


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> PyTreeDef:
    """The structure of a pytree.

    >>> tree_structure([1, (2, None)])
    PyTreeDef([*, (*, None)])
    """
    return _native.tree_structure(tree, is_leaf)


def tree_unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """The pytree with the given structure and leaves.

    Args:
      treedef: the structure.
      leaves: as many leaves as the structure has, in the order of :func:`tree_flatten`.

    Raises:
      ValueError: if the number of leaves is another.

    >>> tree_unflatten(tree_structure([0, (0, None)]), "ab")
    ['a', ('b', None)]
    """
    return treedef.unflatten(leaves)


def all_leaves(iterable: Iterable[Any], is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether every element of an iterable is a leaf.

    >>> all_leaves([1, 2]), all_leaves([1, [2]])
    (True, False)
    """
    if is_leaf is None:
        return _native.all_leaves(default_registry, iterable)
    elements = list(iterable)
    leaves = tree_leaves(elements, is_leaf)
    return len(leaves) == len(elements) and all(a is b for a, b in zip(leaves, elements))


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees that have the given structures.

    >>> treedef_tuple([tree_structure(0), tree_structure([0, 0])])
    PyTreeDef((*, [*, *]))
    """
    return _native.treedef_tuple(default_registry, treedefs)


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """The structures of the root's children.

    >>> treedef_children(tree_structure([1, (2, 3)]))
    [PyTreeDef(*), PyTreeDef((*, *))]
    """
    return treedef.children()


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Whether a structure is a single node: a leaf, or a node without children.

    >>> treedef_is_leaf(tree_structure(1)), treedef_is_leaf(tree_structure([1]))
    (True, False)
    """
    return treedef.num_nodes == 1


def treedef_is_strict_leaf(treedef: PyTreeDef) -> bool:
    """Whether a structure is a single leaf (unlike :func:`treedef_is_leaf`, false for empty containers)."""
    return treedef.is_leaf()


def is_tree_node(typ: type) -> bool:
    """Whether objects of exactly this type are pytree nodes.

    >>> is_tree_node(dict), is_tree_node(int)
    (True, False)
    """
    return default_registry.is_node(typ)


# --- key paths --------------------------------------------------------------------------------------------------------


def _path_predicate(
    is_leaf: Callable[..., bool] | None, is_leaf_takes_path: bool
) -> Callable[[KeyPath, Any], bool] | None:
    if is_leaf is None or is_leaf_takes_path:
        return is_leaf
    return lambda _, node: is_leaf(node)


def tree_flatten_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Any]], PyTreeDef]:
    """Like :func:`tree_flatten`, with every leaf paired with its key path.

    Args:
      tree: the pytree.
      is_leaf: as in :func:`tree_flatten`.
      is_leaf_takes_path: if true, ``is_leaf`` is called with the key path and the node.

    Returns:
      ``([(key path, leaf), ...], treedef)``; a key path is a tuple of key entries, printed by :func:`keystr`.

    >>> tree_flatten_with_path({"a": [5]})[0]
    [((DictKey(key='a'), SequenceKey(idx=0)), 5)]
    """
    return default_registry.flatten_with_path(tree, _path_predicate(is_leaf, is_leaf_takes_path))


def tree_leaves_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> list[tuple[KeyPath, Any]]:
    """The ``(key path, leaf)`` pairs of a pytree.

    >>> [(keystr(path), leaf) for path, leaf in tree_leaves_with_path({"a": [5]})]
    [("['a'][0]", 5)]
    """
    return tree_flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


generate_key_paths = tree_leaves_with_path


# --- maps and folds ---------------------------------------------------------------------------------------------------


def _flatten_rest(name: str, treedef: PyTreeDef, tree: Any, rest: Sequence[Any], is_leaf: Any) -> list[list[Any]]:
    """The subtrees of every tree in `rest` at the leaves of `tree`; errors say where they do not
    match, `name` being what they call `tree`."""
    flat = []
    for other in rest:
        try:
            flat.append(treedef.flatten_up_to(other))
        except ValueError:
            errors = prefix_errors(tree, other, is_leaf)
            if not errors:
                raise
            raise errors[0](name) from None
    return flat


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Applies a function to the leaves of one or several pytrees.

    Args:
      f: called with one leaf of every tree.
      tree: the pytree whose structure the result has.
      *rest: further pytrees; ``tree``'s structure must be a prefix of theirs, so ``f`` may receive subtrees of them.
      is_leaf: as in :func:`tree_flatten`; applies to ``tree``.

    Returns:
      A pytree of the structure of ``tree`` that holds the results.

    Raises:
      ValueError: if a tree of ``rest`` does not match; the message names the key path.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": (2,)}, {"a": 10, "b": (20,)})
    {'a': 11, 'b': (22,)}
    """
    leaves, treedef = _native.tree_flatten(tree, is_leaf)
    # Lists rather than iterators: a StopIteration that `f` raises must not look like the end of the leaves.
    if not rest:
        return treedef.unflatten([f(leaf) for leaf in leaves])
    flat = _flatten_rest("tree_map tree", treedef, tree, rest, is_leaf)
    return treedef.unflatten([f(*args) for args in zip(leaves, *flat)])


def tree_map_with_path(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> Any:
    """Like :func:`tree_map`, with the key path as the first argument of ``f``.

    >>> tree_map_with_path(lambda path, x: f"{keystr(path)}={x}", {"a": [1, 2]})
    {'a': ["['a'][0]=1", "['a'][1]=2"]}
    """
    pairs, treedef = tree_flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    paths = [path for path, _ in pairs]
    leaves = [leaf for _, leaf in pairs]
    predicate = None if is_leaf_takes_path else is_leaf
    flat = _flatten_rest("tree_map_with_path tree", treedef, tree, rest, predicate)
    return treedef.unflatten([f(*args) for args in zip(paths, leaves, *flat)])


def tree_reduce(
    function: Callable[[T, Any], T],
    tree: Any,
    initializer: T | Unspecified = _unspecified,
    is_leaf: Callable[[Any], bool] | None = None,
) -> T:
    """Folds the leaves of a pytree from the left.

    Args:
      function: ``function(accumulated, leaf)``.
      tree: the pytree.
      initializer: the first accumulated value; if not given, the first leaf is.
      is_leaf: as in :func:`tree_flatten`.

    Raises:
      TypeError: if there is neither a leaf nor an initializer.

    >>> tree_reduce(lambda total, x: total + x, [1, (2, 3)])
    6
    """
    leaves = tree_leaves(tree, is_leaf)
    if isinstance(initializer, Unspecified):
        return functools.reduce(function, leaves)
    return functools.reduce(function, leaves, initializer)


def tree_reduce_associative(
    operation: Callable[[T, T], T],
    tree: Any,
    *,
    identity: T | Unspecified = _unspecified,
    is_leaf: Callable[[Any], bool] | None = None,
) -> T:
    """Combines the leaves of a pytree by an associative operation, in a balanced binary tree.

    The depth of the resulting computation is logarithmic in the number of leaves.

    Args:
      operation: associative and binary.
      tree: the pytree.
      identity: the result where there is no leaf.
      is_leaf: as in :func:`tree_flatten`.

    Raises:
      TypeError: if there is neither a leaf nor an identity.

    >>> tree_reduce_associative(lambda a, b: f"({a}{b})", [1, 2, 3, 4])
    '((12)(34))'
    """

    def combine(start: int, stop: int) -> Any:
        if stop - start == 1:
            return leaves[start]
        middle = (start + stop) // 2
        return operation(combine(start, middle), combine(middle, stop))

    leaves = tree_leaves(tree, is_leaf)
    if leaves:
        return combine(0, len(leaves))
    if isinstance(identity, Unspecified):
        raise TypeError(
            "tree_reduce_associative: the tree has no leaves; pass identity= to say what the result is then"
        )
    return identity


def tree_all(tree: Any, *, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether all leaves are true.

    >>> tree_all([True, {"a": False}]), tree_all(())
    (False, True)
    """
    return all(tree_leaves(tree, is_leaf))


def tree_transpose(outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any) -> Any:
    """Turns an outer structure of inner structures inside out.

    Args:
      outer_treedef: the structure outside in the argument, inside in the result.
      inner_treedef: the structure inside in the argument; ``None`` takes that of the first of its occurrences.
      pytree_to_transpose: the pytree.

    Raises:
      TypeError: if the tree does not have as many leaves as the two structures together.

    >>> tree_transpose(tree_structure([0, 0]), tree_structure({"a": 0}), [{"a": 1}, {"a": 2}])
    {'a': [1, 2]}
    """
    leaves, treedef = tree_flatten(pytree_to_transpose)
    if inner_treedef is None:
        parts = outer_treedef.flatten_up_to(pytree_to_transpose)
        if not parts:
            raise ValueError(
                "tree_transpose: inner_treedef=None takes the structure of the first leaf of outer_treedef, but "
                f"{outer_treedef} has no leaves; pass inner_treedef"
            )
        inner_treedef = tree_structure(parts[0])
    assert inner_treedef is not None
    inner_size, outer_size = inner_treedef.num_leaves, outer_treedef.num_leaves
    if treedef.num_leaves != inner_size * outer_size:
        raise TypeError(f"Mismatch\n{treedef}\n != \n{outer_treedef.compose(inner_treedef)}")
    columns = (outer_treedef.unflatten(leaves[i::inner_size]) for i in range(inner_size))
    return inner_treedef.unflatten(columns)


def tree_broadcast(prefix_tree: Any, full_tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Repeats the leaves of a prefix tree over the structure of a full tree.

    Args:
      prefix_tree: a pytree whose structure is a prefix of that of ``full_tree``.
      full_tree: the pytree whose structure the result has.
      is_leaf: as in :func:`tree_flatten`; applies to ``prefix_tree``.

    Raises:
      ValueError: if ``prefix_tree`` is not a prefix; the message names the key path.

    >>> tree_broadcast([1, 2], [{"a": 0, "b": 0}, 0])
    [{'a': 1, 'b': 1}, 2]
    """
    leaves = broadcast_prefix(prefix_tree, full_tree, is_leaf)
    return tree_structure(full_tree).unflatten(leaves)


def broadcast_prefix(prefix_tree: Any, full_tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a prefix tree, each repeated for every leaf of the full tree below it.

    >>> broadcast_prefix([1, 2], [("x", "y"), "z"])
    [1, 1, 2]
    """
    leaves, treedef = _native.tree_flatten(prefix_tree, is_leaf)
    (subtrees,) = _flatten_rest("broadcast_prefix prefix_tree", treedef, prefix_tree, [full_tree], is_leaf)
    result: list[Any] = []
    for leaf, subtree in zip(leaves, subtrees):
        result += [leaf] * len(_native.tree_leaves(subtree))
    return result


# --- registration -----------------------------------------------------------------------------------------------------


def register_pytree_node(
    nodetype: type[T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Hashable]],
    unflatten_func: Callable[[Any, Iterable[Any]], T],
    flatten_with_keys_func: Callable[[T], tuple[Iterable[tuple[Any, Any]], Hashable]] | None = None,
) -> None:
    """Makes a type a pytree node.

    Args:
      nodetype: the type; subclasses are not included.
      flatten_func: ``flatten_func(node) -> (children, auxiliary data)``. The data must be comparable and, to be part of
        a ``jit`` signature, should be hashable.
      unflatten_func: ``unflatten_func(auxiliary data, children) -> node``. The children may be any objects, so it
        should not inspect them.
      flatten_with_keys_func: ``flatten_with_keys_func(node) -> ([(key, child), ...], auxiliary data)``, for key paths.

    Raises:
      ValueError: if the type is a node already.

    >>> class Pair:
    ...     def __init__(self, x, y):
    ...         self.x, self.y = x, y
    >>> register_pytree_node(Pair, lambda p: ((p.x, p.y), None), lambda _, children: Pair(*children))
    >>> tree_leaves([Pair(1, 2), 3])
    [1, 2, 3]
    """
    for registry in _registries:
        registry.register_node(nodetype, flatten_func, unflatten_func, flatten_with_keys_func)


def register_pytree_with_keys(
    nodetype: type[T],
    flatten_with_keys: Callable[[T], tuple[Iterable[tuple[Any, Any]], Any]],
    unflatten_func: Callable[[Any, Iterable[Any]], T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]] | None = None,
):
    """Makes a type a pytree node whose children have keys.

    Args:
      nodetype: the type; subclasses are not included.
      flatten_with_keys: ``flatten_with_keys(node) -> ([(key, child), ...], auxiliary data)``.
      unflatten_func: ``unflatten_func(auxiliary data, children) -> node``.
      flatten_func: the same as ``flatten_with_keys`` without the keys, if that can be had faster.

    Raises:
      ValueError: if the type is a node already.

    >>> class Point:
    ...     def __init__(self, x):
    ...         self.x = x
    >>> register_pytree_with_keys(
    ...     Point, lambda p: (((GetAttrKey("x"), p.x),), None), lambda _, children: Point(*children))
    >>> keystr(tree_leaves_with_path(Point(1))[0][0])
    '.x'
    """

    def without_keys(node: T) -> tuple[Iterable[Any], Any]:
        pairs, data = flatten_with_keys(node)
        return [child for _, child in pairs], data

    register_pytree_node(nodetype, flatten_func or without_keys, unflatten_func, flatten_with_keys)


def register_pytree_node_class(cls: Typ) -> Typ:
    """Class decorator: makes a class with ``tree_flatten`` and ``tree_unflatten`` a pytree node.

    >>> @register_pytree_node_class
    ... class Box:
    ...     def __init__(self, value):
    ...         self.value = value
    ...     def tree_flatten(self):
    ...         return (self.value,), None
    ...     @classmethod
    ...     def tree_unflatten(cls, data, children):
    ...         return cls(*children)
    >>> tree_map(lambda x: x + 1, Box(1)).value
    2
    """
    register_pytree_node(cls, operator.methodcaller("tree_flatten"), cls.tree_unflatten)
    return cls


def register_pytree_with_keys_class(cls: Typ) -> Typ:
    """Class decorator: makes a class with ``tree_flatten_with_keys`` and ``tree_unflatten`` a pytree node with keys.

    A method ``tree_flatten``, if there is one, is used where keys are not wanted.

    >>> @register_pytree_with_keys_class
    ... class Named:
    ...     def __init__(self, value):
    ...         self.value = value
    ...     def tree_flatten_with_keys(self):
    ...         return ((GetAttrKey("value"), self.value),), None
    ...     @classmethod
    ...     def tree_unflatten(cls, data, children):
    ...         return cls(*children)
    >>> tree_leaves(Named(1))
    [1]
    """
    flatten = operator.methodcaller("tree_flatten") if hasattr(cls, "tree_flatten") else None
    flatten_with_keys = operator.methodcaller("tree_flatten_with_keys")
    register_pytree_with_keys(cls, flatten_with_keys, cls.tree_unflatten, flatten)
    return cls


def register_static(cls: type[H]) -> type[H]:
    """Class decorator: makes a class a pytree node without leaves, so that its objects are part of the structure.

    The class must be hashable and comparable.

    >>> @register_static
    ... class Mode(str):
    ...     pass
    >>> tree_leaves([Mode("fast"), 1])
    [1]
    """
    register_pytree_node(cls, lambda node: ((), node), lambda node, _: node, lambda node: ((), node))
    return cls


def register_dataclass(
    nodetype: Typ,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> Typ:
    """Makes a dataclass a pytree node by the names of its fields. Also a class decorator.

    Args:
      nodetype: the class. Objects are rebuilt by calling it with all fields as keywords.
      data_fields: the fields that are children. Of a dataclass, by default those not marked as static.
      meta_fields: the fields that are part of the structure; their values must be hashable and comparable. Of a
        dataclass, by default those declared by ``tree.static()`` or ``field(metadata={"static": True})``.
      drop_fields: fields of a dataclass with a default that are left to that default.

    Returns:
      ``nodetype``.

    Raises:
      ValueError: if the fields do not cover those of the constructor, or the class is a node already.
      TypeError: if fields are missing that cannot be found out.

    >>> import dataclasses
    >>> @register_dataclass
    ... @dataclasses.dataclass
    ... class Scale:
    ...     factor: float
    ...     mode: str = dataclasses.field(default="linear", metadata={"static": True})
    >>> tree_flatten(Scale(2.0))
    ([2.0], PyTreeDef(CustomNode(Scale[('linear',)], [*])))
    """
    is_dataclass = hasattr(nodetype, "__dataclass_fields__")
    if is_dataclass:
        import dataclasses  # whoever made one has imported it
    if data_fields is None and meta_fields is None:
        if not is_dataclass:
            raise TypeError(
                "register_dataclass: data_fields and meta_fields are required when nodetype is not a dataclass. "
                f"Got {nodetype=}."
            )
        fields = [f for f in dataclasses.fields(nodetype) if f.name not in drop_fields]
        data_fields = [f.name for f in fields if not f.metadata.get("static", False)]
        meta_fields = [f.name for f in fields if f.metadata.get("static", False)]
    elif data_fields is None or meta_fields is None:
        raise TypeError(
            "register_dataclass: data_fields and meta_fields must both be specified when either is specified. "
            f"Got {data_fields=} {meta_fields=}."
        )
    data_fields, meta_fields = tuple(data_fields), tuple(meta_fields)
    if overlapping := set(data_fields) & set(meta_fields):
        raise ValueError(f"data_fields and meta_fields must not overlap. Overlapping fields: {name_set(overlapping)}.")
    if is_dataclass:
        expected = {f.name for f in dataclasses.fields(nodetype) if f.init} - set(drop_fields)
        given = {*data_fields, *meta_fields}
        if given != expected:
            message = "data_fields and meta_fields must include all dataclass fields with ``init=True`` and only them."
            if missing := expected - given:
                message += f" Missing fields: {name_set(missing)}. Add them to drop_fields to suppress this error."
            if unexpected := given - expected:
                message += f" Unexpected fields: {name_set(unexpected)}."
            raise ValueError(message)
    for registry in _registries:
        registry.register_dataclass_node(nodetype, data_fields, meta_fields)
    return nodetype


def _register_mapping(cls: type, data: Callable[[Any], Any], keys: Callable[[Any], tuple], make: Callable) -> None:
    register_pytree_node(
        cls,
        lambda d: ([d[k] for k in keys(d)], data(d)),
        make,
        lambda d: ([(DictKey(k), d[k]) for k in keys(d)], data(d)),
    )


def _sorted_keys(mapping: Any) -> tuple:
    return tuple(sorted(mapping))


_register_mapping(
    collections.OrderedDict, tuple, tuple, lambda keys, values: collections.OrderedDict(zip(keys, values))
)
_register_mapping(
    collections.defaultdict,
    lambda d: (d.default_factory, _sorted_keys(d)),
    _sorted_keys,
    lambda data, values: collections.defaultdict(data[0], zip(data[1], values)),
)


# --- Partial ----------------------------------------------------------------------------------------------------------


class _CallableShim:
    """Keeps a partial object from being merged into the partial object made of it; equal where the wrapped are."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.fun = fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fun(*args, **kwargs)

    def __hash__(self) -> int:
        return hash(self.fun)

    def __eq__(self, other: object) -> bool:
        return self.fun == other.fun if isinstance(other, _CallableShim) else self.fun == other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fun!r})"


class Partial(functools.partial):
    """``functools.partial`` as a pytree: the arguments are children, the function is part of the structure.

    So a function together with arrays can be passed to, and returned from, transformed functions. Two structures are
    equal only if the functions are: make a ``Partial`` of a named function, not of a new lambda each time.

    Args:
      func: the function.
      *args: its first positional arguments, pytrees.
      **kw: its keyword arguments, pytrees.

    >>> add = Partial(lambda x, y: x + y, 1)
    >>> add(2), tree_leaves(add)
    (3, [1])
    """

    def __new__(cls, func: Callable[..., Any], *args: Any, **kw: Any) -> Partial:
        # functools.partial flattens nested partial objects, which would turn arguments held by the inner one, part of
        # its identity, into leaves of the outer one.
        if isinstance(func, functools.partial):
            func = _CallableShim(func)
        return super().__new__(cls, func, *args, **kw)


register_pytree_node(
    Partial,
    lambda p: ((p.args, p.keywords), p.func),
    lambda func, children: Partial(func, *(parts := tuple(children))[0], **parts[1]),
)
