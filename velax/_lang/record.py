"""Records: small classes of named fields, cheap to define.

The standard library's dataclasses compile several methods for every class when it is defined: half a
millisecond each, which the compiler's many node types would add to every first call. A record's ``__init__``
is compiled when there are more than a few instances; the rest is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

__all__ = ["Record", "factory", "replace"]

_R = TypeVar("_R", bound="Record")


class _Factory:
    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]):
        self.make = make


def factory(make: Callable[[], Any]) -> Any:
    """The default of a field that each instance gets a value of its own for: ``kernels: list = factory(list)``."""
    return _Factory(make)


@dataclass_transform(field_specifiers=(factory,))
class _RecordType(type):
    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcs, name, bases, namespace, eq: bool = True, frozen: bool = False):
        annotations = namespace.get("__annotations__", {})
        own = tuple([f for f, kind in annotations.items() if not str(kind).startswith("ClassVar")])
        fields, defaults = own, {f: namespace.pop(f) for f in own if f in namespace}
        for base in reversed(bases):
            if isinstance(base, _RecordType):
                fields, defaults = base._fields + fields, base._defaults | defaults
        namespace["__slots__"] = own
        namespace["_fields"] = namespace["__match_args__"] = fields
        namespace["_defaults"] = defaults
        namespace["__init__"] = _first_init
        if not eq:
            namespace["__eq__"], namespace["__hash__"] = object.__eq__, object.__hash__
        if frozen:
            namespace["__setattr__"] = namespace["__delattr__"] = _refuse
        return type.__new__(mcs, name, bases, namespace)


def _refuse(self, name, value=None):
    raise AttributeError(f"a {type(self).__name__} cannot be changed; make another one instead of setting {name!r}")


#: instances after which a class gets an ``__init__`` of its own, and how many there are of those that have none
_FEW = 6
_instances: dict[type, int] = {}


def _first_init(self, *args, **kwargs):
    """The ``__init__`` of the first few instances of any class, which cost less than compiling another.

    Threads may be in here together, also after one of them has compiled the class's own: each fills its instance.
    """
    cls = self.__class__
    number = _instances[cls] = _instances.get(cls, 0) + 1
    fields, defaults = cls._fields, cls._defaults
    values = dict(zip(fields, args))
    wrong = len(args) > len(fields) or (
        kwargs and not (kwargs.keys() <= set(fields) and values.keys().isdisjoint(kwargs))
    )
    if number > _FEW or wrong:
        _instances.pop(cls, None)
        cls.__init__ = _compile_init(cls)  # it says what is wrong with the arguments, too
        cls.__init__(self, *args, **kwargs)
        return
    values |= kwargs
    for f in fields:
        if f in values:
            value = values[f]
        elif f in defaults:
            value = defaults[f]
            if type(value) is _Factory:
                value = value.make()
        else:
            _compile_init(cls)(self, *args, **kwargs)  # raises the error that names what is missing
        object.__setattr__(self, f, value)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()


def _compile_init(cls):
    parameters, lines, scope = ["self"], [], {"_missing": _Factory, "_set": object.__setattr__}
    frozen = cls.__setattr__ is _refuse
    for f in cls._fields:
        default = cls._defaults.get(f, _Factory)
        value = f
        if type(default) is _Factory:
            scope[f"_make_{f}"] = default.make
            parameters.append(f"{f}=_missing")
            value = f"_make_{f}() if {f} is _missing else {f}"
        elif default is _Factory:
            parameters.append(f)
        else:
            scope[f"_default_{f}"] = default
            parameters.append(f"{f}=_default_{f}")
        lines.append(f"    _set(self, {f!r}, {value})" if frozen else f"    self.{f} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or ["    pass"]), scope)
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


class Record(metaclass=_RecordType):
    """Base of records. The annotated names of a subclass are its fields, in order, those of its base first; a
    value assigned to one is its default, `factory` makes one a new value for each instance. ``__post_init__``
    is called if there is one; there is no other ``__init__`` than the one that sets the fields.

    Records compare and hash by their fields; those of a class defined with ``eq=False``, by identity. They
    are not to be changed once made, but for classes that say so; one defined with ``frozen=True`` enforces
    it, at some cost.
    """

    def __eq__(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, f) == getattr(other, f) for f in self._fields)

    def __hash__(self):
        return hash((self.__class__, *(getattr(self, f) for f in self._fields)))

    def __repr__(self):
        return f"{self.__class__.__qualname__}({', '.join(f'{f}={getattr(self, f)!r}' for f in self._fields)})"

    def __reduce__(self):
        return self.__class__, tuple(getattr(self, f) for f in self._fields)


def replace(record: _R, **changes) -> _R:
    """A copy of ``record`` with other values of the fields named in ``changes``."""
    return type(record)(**{f: getattr(record, f) for f in record._fields} | changes)
