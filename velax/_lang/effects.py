"""Effects: what an equation does besides computing its results.

An equation and a jaxpr carry a frozenset of effects. An effect's class says what may be done with it; the
sets below are of classes, and a class belongs to a set with all its subclasses. Ordered effects are threaded
through a token, so that the program performs them in the order written; unordered ones only keep their
equation alive.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "DebugEffect",
    "Effect",
    "EffectTypeSet",
    "Effects",
    "IOEffect",
    "JaxprInputEffect",
    "OrderedDebugEffect",
    "OrderedIOEffect",
    "control_flow_allowed_effects",
    "custom_derivatives_allowed_effects",
    "debug_effect",
    "io_effect",
    "lowerable_effects",
    "no_effects",
    "ordered_debug_effect",
    "ordered_effects",
    "ordered_io_effect",
    "partial_eval_kept_effects",
    "remat_allowed_effects",
    "shardable_ordered_effects",
]


class Effect:
    """The base of effects. Effects are hashable values; an effect without fields is one object a class."""

    __slots__ = ()
    keeps_equation = True  #: whether an equation with it stays although nothing reads its results


Effects = frozenset[Effect]
no_effects: Effects = frozenset()


class JaxprInputEffect(Effect):
    """An effect on one input of a jaxpr, such as reading from or writing to a reference.

    Args:
      input_index: the position among the inputs of the equation or jaxpr that carries the effect.
    """

    __slots__ = ("input_index",)

    def __init__(self, input_index: int):
        self.input_index = input_index

    def replace(self, *, input_index: int | None = None) -> JaxprInputEffect:
        """The same effect on another input."""
        return type(self)(self.input_index if input_index is None else input_index)

    def __eq__(self, other):
        return type(self) is type(other) and self.input_index == other.input_index

    def __hash__(self):
        return hash((type(self), self.input_index))

    def __repr__(self):
        return f"{type(self).__name__}({self.input_index})"


class EffectTypeSet:
    """A set of effect classes, open to additions. A class in the set brings its subclasses with it."""

    __slots__ = ("_types",)

    def __init__(self):
        self._types: tuple[type[Effect], ...] = ()

    def add_type(self, effect_type: type[Effect]) -> None:
        """Adds a class of effects."""
        if effect_type not in self._types:
            self._types = (*self._types, effect_type)

    def contains(self, effect: Effect) -> bool:
        """Whether the class of `effect` is in the set."""
        return isinstance(effect, self._types)

    __contains__ = contains

    def filter_in(self, effects: Iterable[Effect]) -> list[Effect]:
        """The effects whose classes are in the set."""
        return [e for e in effects if isinstance(e, self._types)]

    def filter_not_in(self, effects: Iterable[Effect]) -> list[Effect]:
        """The effects whose classes are not in the set."""
        return [e for e in effects if not isinstance(e, self._types)]

    def __repr__(self):
        return f"EffectTypeSet({', '.join(t.__name__ for t in self._types)})"


#: Effects that the compiler knows how to perform.
lowerable_effects = EffectTypeSet()
#: Effects that are performed in program order.
ordered_effects = EffectTypeSet()
#: Ordered effects that are allowed in programs over several devices.
shardable_ordered_effects = EffectTypeSet()
#: Effects allowed in the bodies of loops and conditionals.
control_flow_allowed_effects = EffectTypeSet()
#: Effects allowed in functions with custom derivative rules.
custom_derivatives_allowed_effects = EffectTypeSet()
#: Effects allowed in rematerialised functions.
remat_allowed_effects = EffectTypeSet()
#: Effects whose equations stay in the known part of a partial evaluation even when no result is used.
partial_eval_kept_effects = EffectTypeSet()


class IOEffect(Effect):
    """Calling back into Python, in any order."""

    __slots__ = ()

    def __repr__(self):
        return "IO"


class OrderedIOEffect(Effect):
    """Calling back into Python, in program order."""

    __slots__ = ()

    def __repr__(self):
        return "OrderedIO"


class DebugEffect(Effect):
    """Printing and inspecting values, in any order. Transformations may repeat or drop it."""

    __slots__ = ()

    def __repr__(self):
        return "Debug"


class OrderedDebugEffect(Effect):
    """Printing and inspecting values, in program order."""

    __slots__ = ()

    def __repr__(self):
        return "OrderedDebug"


io_effect = IOEffect()
ordered_io_effect = OrderedIOEffect()
debug_effect = DebugEffect()
ordered_debug_effect = OrderedDebugEffect()

for _type in (IOEffect, OrderedIOEffect, DebugEffect, OrderedDebugEffect):
    lowerable_effects.add_type(_type)
    control_flow_allowed_effects.add_type(_type)
for _type in (OrderedIOEffect, OrderedDebugEffect):
    ordered_effects.add_type(_type)
    shardable_ordered_effects.add_type(_type)
for _type in (DebugEffect, OrderedDebugEffect):
    custom_derivatives_allowed_effects.add_type(_type)
    remat_allowed_effects.add_type(_type)
    partial_eval_kept_effects.add_type(_type)
