"""What the tests of pytrees share: node types registered with both libraries, and trees of them."""

import collections
import dataclasses

import jax.tree_util as jtu
import pytest
from hypothesis import strategies as st

from velax import tree_util as vtu

Point = collections.namedtuple("Point", ["x", "y"])
Empty = collections.namedtuple("Empty", [])


class Pair:
    """Registered without keys; the children come from a generator."""

    def __init__(self, *children, tag=None):
        self.children, self.tag = children, tag

    def __repr__(self):
        return f"Pair{self.children}"


class Keyed:
    def __init__(self, a, b, name):
        self.a, self.b, self.name = a, b, name


@dataclasses.dataclass
class Layer:
    weight: object
    bias: object
    activation: str = dataclasses.field(default="relu", metadata={"static": True})


class Mode(str):
    pass


class Uncomparable:
    """An object that refuses to be ordered or compared."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        raise RuntimeError("no comparison")


for tu in (vtu, jtu):
    tu.register_pytree_node(
        Pair, lambda p: ((c for c in p.children), p.tag), lambda tag, children: Pair(*children, tag=tag)
    )
    tu.register_pytree_with_keys(
        Keyed,
        lambda k, tu=tu: (((tu.GetAttrKey("a"), k.a), ("b!", k.b)), k.name),
        lambda name, children: Keyed(*children, name),
    )
    tu.register_dataclass(Layer)
    tu.register_static(Mode)


def trees(leaves=None, max_leaves=12):
    leaves = st.integers(-5, 5) | st.text("ab", max_size=2) if leaves is None else leaves
    keys = st.text("abc\udc80é", max_size=3) | st.just("long key")

    def extend(children):
        return st.one_of(
            st.lists(children, max_size=4),
            st.lists(children, max_size=4).map(tuple),
            st.dictionaries(keys, children, max_size=4),
            st.dictionaries(st.integers(-3, 3) | st.booleans(), children, max_size=3),
            st.dictionaries(st.tuples(st.integers(0, 3), keys), children, max_size=3),
            st.dictionaries(keys, children, max_size=3).map(collections.OrderedDict),
            st.dictionaries(keys, children, max_size=3).map(lambda d: collections.defaultdict(int, d)),
            st.builds(Point, children, children),
            st.just(Empty()),
            st.builds(Layer, children, children, st.sampled_from(["relu", "tanh"])),
            st.lists(children, max_size=3).map(lambda c: Pair(*c, tag=len(c))),
            st.builds(Keyed, children, children, st.sampled_from(["n", 3, None])),
            st.text("xy", max_size=2).map(Mode),
        )

    return st.recursive(leaves | st.none(), extend, max_leaves=max_leaves)


def message(f, error=ValueError):
    with pytest.raises(error) as info:
        f()
    return str(info.value)
