"""The canonical form of a jaxpr: bytes that are equal for programs that compile to the same thing.

Variables become numbers in the order of their binding, and every value of a parameter is written with a tag
for its type and its length, so that no two different jaxprs have the same bytes. There are no addresses and
no names of functions in it: a parameter that holds a function is either declared irrelevant to the compiled
program by its primitive (``Primitive.irrelevant_params``) or makes the jaxpr one that cannot be stored.

Captured arrays are arguments of the compiled program, so that their values are not part of the form; which of
them are one object is, since each object is one argument. Captured scalars of Python and NumPy are literals
of the program, and their values are part of the form. Source locations, debugging names and the variables'
own identities are not.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from velax._lang import avals as _avals
from velax._lang.avals import AbstractRef, AbstractToken, ShapedArray
from velax._lang.devices import Device
from velax._lang.digest import blake2b
from velax._lang.dtypes import ExtendedDType, all_dtypes
from velax._lang.effects import Effect
from velax._lang.jaxpr import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from velax._lang.meshes import AbstractMesh, Mesh
from velax._lang.primitive import Primitive
from velax._lang.record import Record
from velax._lang.shardings import UNCONSTRAINED, NamedSharding, PartitionSpec, SingleDeviceSharding

__all__ = ["NotCanonicalError", "canonical_bytes", "canonical_hash", "register_canonical"]

# Written in front of every form; a change of the encoding changes it.
_VERSION = b"velax-jaxpr-1"


class NotCanonicalError(TypeError):
    """A jaxpr holds a value without a canonical form (a Python callable, an object of an unknown type)."""


_rules: dict[type, Callable[[Any], Any]] = {}


def register_canonical(t: type, rule: Callable[[Any], Any]) -> None:
    """Gives values of type `t` a canonical form: that of ``rule(value)``, a value which has one."""
    _rules[t] = rule


def canonical_bytes(jaxpr: ClosedJaxpr | Jaxpr) -> bytes:
    """The canonical form of a jaxpr.

    Args:
      jaxpr: the program.

    Raises:
      NotCanonicalError: a parameter holds a value that has no canonical form; the message names
        primitive and parameter.
    """
    encoder = _Encoder()
    encoder.out.append(_VERSION)
    encoder.root(jaxpr)
    return b"".join(encoder.out)


def canonical_hash(jaxpr: ClosedJaxpr | Jaxpr) -> str:
    """A hash of the canonical form, as 32 hexadecimal digits. Raises what `canonical_bytes` raises."""
    return blake2b(canonical_bytes(jaxpr), digest_size=16).hexdigest()


_texts: dict[str, bytes] = {}
_pack_int = struct.Struct("<q").pack
_pack_float = struct.Struct("<d").pack
_pack_length = struct.Struct("<I").pack


class _Encoder:
    """Writes one jaxpr. Nested jaxprs and avals are encoded once."""

    def __init__(self):
        self.out: list[bytes] = []
        self._digests: dict[Jaxpr, bytes] = {}
        self._seen_consts: dict[int, int] = {}  # by identity; the jaxprs being written keep the constants alive
        self._atoms: dict[Var, bytes] = {}
        self._avals: dict[Any, bytes] = {}
        self._primitives: dict[Primitive, bytes] = {}

    def root(self, program: Jaxpr | ClosedJaxpr) -> None:
        """Writes the program."""
        self._body(program.jaxpr)
        self._consts(program)

    def nested(self, value: Jaxpr | ClosedJaxpr) -> None:
        """Writes the digest of a jaxpr and, of a closed one, its constants.

        Nested jaxprs have no free variables, so that what they say does not depend on where they stand. A
        digest makes it irrelevant whether equal ones are one object.
        """
        jaxpr = value.jaxpr
        digest = self._digests.get(jaxpr)
        if digest is None:
            outer = self.out, self._atoms
            self.out, self._atoms = [], {}
            self._body(jaxpr)
            digest = self._digests[jaxpr] = b"J" + blake2b(b"".join(self.out), digest_size=32).digest()
            self.out, self._atoms = outer
        self.out.append(digest)
        self._consts(value)

    def _consts(self, value: Jaxpr | ClosedJaxpr) -> None:
        if isinstance(value, Jaxpr):
            return
        self.out.append(_pack_length(len(value.consts)))
        for const in value.consts:
            if isinstance(const, bool | int | float | complex | np.generic):
                self.out.append(_value(const, self))
            else:
                number = self._seen_consts.setdefault(id(const), len(self._seen_consts))
                self.out.append(b"C" + _pack_length(number))

    def _body(self, jaxpr: Jaxpr) -> None:
        self._bind(jaxpr.constvars)
        self._bind(jaxpr.invars)
        self.out.append(_pack_length(len(jaxpr.eqns)))
        for eqn in jaxpr.eqns:
            self._eqn(eqn)
        self._read(jaxpr.outvars)
        self.out.append(self._effects(jaxpr.effects))

    def _bind(self, variables: list[Var]) -> None:
        out, atoms, avals = self.out, self._atoms, self._avals
        out.append(_pack_length(len(variables)))
        for v in variables:
            atoms[v] = b"v" + _pack_length(len(atoms))
            aval = avals.get(v.aval)
            out.append(self._aval(v.aval) if aval is None else aval)

    def _read(self, operands: list) -> None:
        out, atoms = self.out, self._atoms
        out.append(_pack_length(len(operands)))
        for atom in operands:
            if type(atom) is Literal:
                out.append(b"l")
                out.append(self._aval(atom.aval))
                out.append(_value(atom.val, self))
            else:
                out.append(atoms[atom])

    def _eqn(self, eqn: JaxprEqn) -> None:
        out = self.out
        primitive = eqn.primitive
        out.append(self.primitive(primitive))
        params = eqn.params
        if params:
            self._eqn_params(primitive, params)
        out.append(b";")
        self._read(eqn.invars)
        self._bind(eqn.outvars)
        if eqn.effects:
            out.append(self._effects(eqn.effects))

    def primitive(self, primitive: Primitive) -> bytes:
        """The name of a primitive.

        A stored program is found by these names. That is safe for the primitives of this package, whose
        lowerings change only with its version; those of programs and other libraries, and replaced lowerings,
        may change at any time.
        """
        encoded = self._primitives.get(primitive)
        if encoded is None:
            rule = primitive.rule("lower")
            if rule is not primitive.defined_lower or not (rule is None or _belongs_here(rule)):
                raise NotCanonicalError(
                    f"the primitive {primitive.name!r} is lowered by a function from outside of Velax"
                )
            # One without a lowering compiles to nothing, so it must not pass for one of the same name that has one.
            encoded = self._primitives[primitive] = (
                _text(primitive.name) if rule is not None else b"?" + _text(primitive.name)
            )
        return encoded

    def _eqn_params(self, primitive: Primitive, params: dict[str, Any]) -> None:
        skipped = primitive.irrelevant_params
        for name in sorted(params):
            if name in skipped:
                continue
            self.out.append(_text(name))
            value = params[name]
            if isinstance(value, Jaxpr | ClosedJaxpr):
                self.nested(value)
                continue
            try:
                self.out.append(_value(value, self))
            except NotCanonicalError as e:
                raise NotCanonicalError(
                    f"the parameter {name!r} of the primitive {primitive.name!r} has no canonical form: {e}"
                ) from None

    def nested_bytes(self, value: Jaxpr | ClosedJaxpr) -> bytes:
        """The encoding of a jaxpr inside of another value, in place."""
        outer, self.out = self.out, []
        try:
            self.nested(value)
            return b"".join(self.out)
        finally:
            self.out = outer

    def _effects(self, effects: frozenset[Effect]) -> bytes:
        if not effects:
            return b"e\0\0\0\0"
        names = sorted(f"{type(e).__module__}.{type(e).__qualname__}/{getattr(e, 'input_index', '')}" for e in effects)
        return b"e" + _pack_length(len(names)) + b"".join(map(_text, names))

    def _aval(self, aval: Any) -> bytes:
        encoded = self._avals.get(aval)
        if encoded is None:
            encoded = self._avals[aval] = _aval_bytes(aval, self)
        return encoded


def _aval_bytes(aval: Any, encoder: _Encoder) -> bytes:
    if type(aval) is ShapedArray:
        placed = b"" if aval.sharding is None and aval.memory_space is None else (
            b"s" + _value(aval.sharding, encoder) + _value(aval.memory_space, encoder))  # fmt: skip
        weak = b"w" if aval.weak_type else b"a"
        return weak + _value(aval.dtype, encoder) + _value(aval.shape, encoder) + placed
    if isinstance(aval, AbstractToken):
        return b"k"
    if isinstance(aval, AbstractRef):
        return b"r" + _aval_bytes(aval.inner_aval, encoder) + _value((aval.memory_space, aval.kind), encoder)
    return b"x" + _value(aval, encoder)


def _belongs_here(rule: Callable | None) -> bool:
    while isinstance(rule, functools.partial):
        rule = rule.func
    module = getattr(rule, "__module__", None) or type(rule).__module__
    return rule is not None and module.partition(".")[0] == __name__.partition(".")[0]


def _text(s: str) -> bytes:
    encoded = _texts.get(s)
    if encoded is None:
        raw = s.encode()
        encoded = b"S" + _pack_length(len(raw)) + raw
        if len(_texts) < 65536:
            _texts[s] = encoded
    return encoded


def _value(value: Any, encoder: _Encoder) -> bytes:
    """One value, with a tag for its type. Equal values of different types (1, 1.0, True) have different encodings."""
    rule = _ENCODERS.get(type(value))
    if rule is not None:
        return rule(value, encoder)
    return _other_value(value, encoder)


def _int(value: int, _) -> bytes:
    if -(1 << 63) <= value < 1 << 63:
        return b"i" + _pack_int(value)
    raw = str(value).encode()
    return b"I" + _pack_length(len(raw)) + raw


def _sequence(tag: bytes):
    def encode(values, encoder: _Encoder) -> bytes:
        return tag + _pack_length(len(values)) + b"".join([_value(v, encoder) for v in values])

    return encode


def _dict(value: dict, encoder: _Encoder) -> bytes:
    items = sorted((_value(k, encoder), k) for k in value)
    return b"D" + _pack_length(len(items)) + b"".join([encoded + _value(value[k], encoder) for encoded, k in items])


def _set(value: set | frozenset, encoder: _Encoder) -> bytes:
    return b"F" + _pack_length(len(value)) + b"".join(sorted(_value(v, encoder) for v in value))


def _bytes(value: bytes, _) -> bytes:
    return b"B" + _pack_length(len(value)) + value


def _array(value: np.ndarray, encoder: _Encoder) -> bytes:
    if value.dtype == object:
        raise NotCanonicalError("an array of Python objects")
    contents = np.ascontiguousarray(value).tobytes()
    digest = contents if len(contents) <= 64 else blake2b(contents, digest_size=32).digest()
    return b"A" + _value(value.dtype, encoder) + _value(value.shape, encoder) + _bytes(digest, encoder)


def _dtype(value: np.dtype, _) -> bytes:
    found = _dtypes.get(value)
    if found is None:
        found = b"d" + _text(value.name if value.names is None else str(value.descr))
        if value.names is None:
            _dtypes[value] = found
    return found


#: those that were used: a name takes NumPy long to make
_dtypes: dict[np.dtype, bytes] = {}


_ENCODERS: dict[type, Callable[[Any, _Encoder], bytes]] = {
    type(None): lambda v, _: b"N",
    type(...): lambda v, _: b"E",
    bool: lambda v, _: b"T" if v else b"f",
    int: _int,
    # Bit patterns: -0.0 differs from 0.0, and NaNs with different payloads differ.
    float: lambda v, _: b"g" + _pack_float(v),
    complex: lambda v, _: b"c" + _pack_float(v.real) + _pack_float(v.imag),
    str: lambda v, _: _text(v),
    bytes: _bytes,
    tuple: _sequence(b"t"),
    list: _sequence(b"L"),
    dict: _dict,
    set: _set,
    frozenset: _set,
    slice: lambda v, e: b"h" + _value((v.start, v.stop, v.step), e),
    np.ndarray: _array,
    Jaxpr: lambda v, e: e.nested_bytes(v),
    ClosedJaxpr: lambda v, e: e.nested_bytes(v),
    Literal: lambda v, e: b"l" + _aval_bytes(v.aval, e) + _value(v.val, e),
    ShapedArray: lambda v, e: b"a" + _aval_bytes(v, e),
    AbstractRef: lambda v, e: b"a" + _aval_bytes(v, e),
    AbstractToken: lambda v, e: b"a" + _aval_bytes(v, e),
    Primitive: lambda v, e: b"p" + e.primitive(v),
    **{type(d): _dtype for d in all_dtypes},
    _avals.ShapeDtypeStruct: lambda v, e: b"z" + _value((v.shape, v.dtype, v.sharding, v.weak_type), e),
}


def _named(t: type) -> bytes:
    return _text(f"{t.__module__}.{t.__qualname__}")


def _other_value(value: Any, encoder: _Encoder) -> bytes:
    """Values that are recognised by a base class or by a registered rule."""
    for t in type(value).__mro__:
        rule = _rules.get(t)
        if rule is not None:
            return b"R" + _named(t) + _value(rule(value), encoder)
    if isinstance(value, np.dtype):
        return _dtype(value, encoder)
    if isinstance(value, ExtendedDType):
        return b"X" + _named(type(value)) + _text(value.name) + _value(value.base_shape, encoder)
    if isinstance(value, enum.Enum):
        return b"n" + _named(type(value)) + _text(value.name)
    if isinstance(value, np.generic):
        return b"G" + _array(np.asarray(value), encoder)
    if isinstance(value, type):
        return _type(value)
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return b"V" + _array(np.asarray(value), encoder)
    if isinstance(value, Primitive):
        return b"p" + encoder.primitive(value)
    if isinstance(value, Record) and type(value).__eq__ is Record.__eq__:
        fields = [(f, getattr(value, f)) for f in value._fields]
        return b"o" + _named(type(value)) + _value(fields, encoder)
    if hasattr(type(value), "__dataclass_fields__"):
        import dataclasses  # whoever made one has imported it

        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare]
        return b"o" + _named(type(value)) + _value(fields, encoder)
    if isinstance(value, tuple):  # named tuples: the type tells the meaning of the positions
        return b"u" + _named(type(value)) + _value(tuple(value), encoder)
    if isinstance(value, int | float | complex | str | bytes):
        base = next(t for t in (int, float, complex, str, bytes) if isinstance(value, t))
        return b"y" + _named(type(value)) + _value(base(value), encoder)
    kind = "a Python callable" if callable(value) else "an object"
    raise NotCanonicalError(f"{value!r} is {kind} of type {type(value).__module__}.{type(value).__qualname__}")


def _type(value: type) -> bytes:
    # Scalar types and the like, by their address in a module; classes made inside of functions have none.
    if "<locals>" in value.__qualname__:
        raise NotCanonicalError(f"{value!r} is a class made inside a function")
    return b"q" + _named(value)


# Placements by what they say; a device by its number, which means the same in the next process.
register_canonical(Device, lambda d: (d.platform, d.device_kind, d.id))
register_canonical(Mesh, lambda m: (m.abstract_mesh, tuple(m.devices.flat)))
register_canonical(AbstractMesh, lambda m: (m.shape_tuple, m.axis_types, m.abstract_device))
register_canonical(PartitionSpec, lambda p: (p.partitions, p.unreduced, p.reduced))
register_canonical(type(UNCONSTRAINED), repr)
register_canonical(NamedSharding, lambda s: (s.mesh, s.spec, s.memory_kind))
register_canonical(SingleDeviceSharding, lambda s: (s._device_assignment, s.memory_kind))
