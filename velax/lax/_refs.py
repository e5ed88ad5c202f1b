"""References to arrays: boxes that are read and written in place.

In eager code a reference is a `Ref` that holds an array. While tracing, reads and writes are
equations, which `velax._transforms.discharge` turns into values before anything is compiled. Under
differentiation a reference goes with one for its tangent, under `vmap` it holds the whole batch.
"""

from __future__ import annotations

import functools

from velax import _native
from velax._lang import dtypes
from velax._lang.avals import AbstractRef, ShapedArray, aval_factories
from velax._lang.effects import JaxprInputEffect, control_flow_allowed_effects
from velax._lang.jaxpr import DropVar
from velax._lang.pretty import concat, text
from velax._lang.primitive import define
from velax._lang.printer import _atom, _vars, register_eqn_printer
from velax._lang.trace import Tracer, as_array, get_aval
from velax._transforms.batching import batch_flat, matchaxis
from velax._transforms.discharge import MakesRef, makes_ref
from velax._transforms.jit import jit
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import Zero, instantiate_zeros, ops, zeros_like_aval
from velax.lax._dynamic_slicing import dynamic_update_slice
from velax.lax._index_parts import make_window, read_part, read_part_call, write_part
from velax.lax._index_plan import ADVANCED, make_plan
from velax.lax._rules import linear_jvp
from velax.lax._structural import convert_type, squeeze

__all__ = ["AccumEffect", "ReadEffect", "Ref", "WriteEffect", "addupdate_p", "freeze_p", "get_p", "new_ref_p", "swap_p"]


class ReadEffect(JaxprInputEffect):
    """Reading the reference at an input."""

    __slots__ = ()
    keeps_equation = False


class WriteEffect(JaxprInputEffect):
    """Writing the reference at an input."""

    __slots__ = ()


class AccumEffect(JaxprInputEffect):
    """Adding to the reference at an input."""

    __slots__ = ()


for _effect in (ReadEffect, WriteEffect, AccumEffect, MakesRef):
    control_flow_allowed_effects.add_type(_effect)


class _RefMeta(type):
    """Tracers of references are instances of `Ref` too."""

    def __instancecheck__(cls, x):
        return type(x) is Ref or (isinstance(x, Tracer) and isinstance(x.aval, AbstractRef))


class Ref(metaclass=_RefMeta):
    """A mutable reference to an array: ``ref[index]`` reads, ``ref[index] = value`` writes.

    Made by `new_ref`. Transformed and compiled functions may close over references and take them as
    arguments, and their writes are seen by the caller; they cannot return them.

    Attributes:
      shape, dtype, ndim, size, weak_type: those of the array it holds.
    """

    __slots__ = ("__weakref__", "_aval", "_value")

    def __init__(self, aval: AbstractRef, value):
        self._aval, self._value = aval, value

    aval = property(lambda self: self._aval)
    shape = property(lambda self: self._aval.shape)
    dtype = property(lambda self: self._aval.dtype)
    ndim = property(lambda self: self._aval.ndim)
    size = property(lambda self: self._aval.size)
    weak_type = property(lambda self: self._aval.weak_type)
    sharding = property(lambda self: self._value.sharding)

    def __getitem__(self, index):
        return ref_get(self, index)

    def __setitem__(self, index, value):
        ref_set(self, index, value)

    def get(self):
        """The array it holds."""
        return ref_get(self, ...)

    def set(self, value):
        """Put another array of the same type in it."""
        ref_set(self, ..., value)

    def swap(self, value):
        """Put another array in it and return the one it held."""
        return ref_swap(self, ..., value)

    def addupdate(self, x, idx=()):
        """Add ``x`` to it, or to a part of it."""
        ref_addupdate(self, idx, x)

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    __iter__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a reference is no array: read it with ref[...]")

    def __repr__(self):
        return "Ref" + repr(self._value).removeprefix("Array")


aval_factories[Ref] = lambda ref: ref._aval


def _is_full(plan) -> bool:
    return all(item == "full" for item in plan)


def _select(x, operands, plan):
    """``x[index]`` of a value."""
    if _is_full(plan):
        return x
    return read_part(x, tuple(operands), (plan, False, False, None, None))


def _store(x, operands, plan, value, op="set"):
    """``x.at[index].set(value)`` of a value, or ``add``."""
    if _is_full(plan):
        return value if op == "set" else ops.add(x, value)
    window = make_window(get_aval(x).shape, plan, operands)
    if window is None:
        return write_part(x, tuple(operands), value, (op, plan, False, False, None))
    if op == "add":
        value = ops.add(_select(x, operands, plan), value)
    if window.new:
        value = squeeze(value, window.new)
    if window.dropped:
        value = ops.reshape(value, tuple(window.sizes))
    return dynamic_update_slice(x, value, window.starts, allow_negative_indices=window.wraps)


def _selected_aval(ref: AbstractRef, operand_avals, plan) -> ShapedArray:
    return ref.inner_aval if _is_full(plan) else _part_aval(ref.inner_aval, tuple(operand_avals), plan)


@functools.lru_cache(maxsize=4096)
def _part_aval(aval, operand_avals, plan) -> ShapedArray:
    return trace_to_jaxpr(lambda x, *given: [_select(x, given, plan)], [aval, *operand_avals]).out_avals[0]


def _check_ref(name, ref) -> None:
    if not isinstance(ref, AbstractRef):
        raise TypeError(f"{name} must be called on a reference, but got a value of type {ref}. Make one with new_ref.")


# -- making and freezing ---------------------------------------------------------------------------


def _new_ref_type(x, *, memory_space, kind):
    return [AbstractRef(x, memory_space, kind)], frozenset({makes_ref})


def _has_tangent(aval) -> bool:
    return dtypes.tangent_dtype(aval.dtype) != dtypes.float0


def _new_ref_jvp(primals, tangents, **params):
    refs = new_ref_p.bind(*primals, **params)
    if not _has_tangent(get_aval(refs[0])):
        return refs, [Zero.from_primal_value(refs[0])]
    return refs, new_ref_p.bind(instantiate_zeros(tangents[0]), **params)


def _new_ref_linearize(nonzeros, x, **params):
    aval = get_aval(x)
    refs = new_ref_p.bind(x, **params)
    if not _has_tangent(aval):
        return refs, [False], lambda *_: []

    def linear(*tangents):
        return new_ref_p.bind(
            tangents[0] if tangents else zeros_like_aval(aval.to_tangent_aval().strip_weak_type()), **params
        )

    return refs, [True], linear


def _new_ref_batch(axis_data, args, dims, **params):
    # also of a value that is the same in every example, as what is written later may not be
    return new_ref_p.bind(matchaxis(axis_data.size, dims[0], 0, args[0]), **params), [0]


new_ref_p = define(
    "new_ref",
    abstract_eval=_new_ref_type,
    effectful=True,
    impl=lambda x, *, memory_space, kind: [Ref(AbstractRef(get_aval(x), memory_space, kind), as_array(x))],
    lower=None,
    jvp=_new_ref_jvp,
    linearize=_new_ref_linearize,
    transpose=None,
    batch=None,
    batch_axis=_new_ref_batch,
    multiple_results=True,
    discharge=lambda in_avals, out_avals, x, **_: ([None], [x]),
)
new_ref_p.ref_primitive = True


freeze_p = define(
    "freeze",
    abstract_eval=lambda ref: (ref.inner_aval, frozenset({ReadEffect(0)})),
    effectful=True,
    impl=lambda ref: ref._value,
    lower=None,
    jvp=linear_jvp(lambda: freeze_p),
    transpose=None,
    batch=lambda args, dims: (freeze_p.bind(*args), dims[0]),
    discharge=lambda in_avals, out_avals, x: ([None], [x]),
)


def new_ref(init_val, *, memory_space=None, kind: str | None = None) -> Ref:
    """A mutable reference that starts with a value.

    Args:
      init_val: an array.
      memory_space, kind: None for the device's memory; recorded in the type.

    Returns:
      A `Ref`: ``ref[...]`` reads it, ``ref[index] = value`` writes it, also in compiled functions
      that close over it or take it as an argument.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> count = velax.new_ref(jnp.zeros(()))
      >>> @velax.jit
      ... def f(x):
      ...     count[...] += 1
      ...     return x * 2
      >>> _ = f(1.0), f(2.0)
      >>> float(count[...])
      2.0
    """
    if isinstance(get_aval(init_val), AbstractRef):
        raise ValueError("cannot make a reference to a reference; pass its value, ref[...]")
    return new_ref_p.bind(init_val, memory_space=memory_space, kind=kind)[0]


def freeze(ref):
    """The value of a reference that is not written any more."""
    _check_ref("freeze", get_aval(ref))
    return freeze_p.bind(ref)


# -- get -------------------------------------------------------------------------------------------


def _get_type(ref, *operands, plan):
    _check_ref("get", ref)
    return _selected_aval(ref, operands, plan), frozenset({ReadEffect(0)})


def _get_jvp(primals, tangents, *, plan):
    ref, *operands = primals
    out = get_p.bind(ref, *operands, plan=plan)
    t = tangents[0]
    return out, Zero.from_primal_value(out) if type(t) is Zero else get_p.bind(t, *operands, plan=plan)


def _full_plan(aval):
    return ("full",) * aval.ndim


def _whole(ref):
    return get_p.bind(ref, plan=_full_plan(get_aval(ref)))


def _get_batch(axis_data, args, dims, *, plan):
    ref, *operands = args
    (out,), (d,) = batch_flat(lambda x, *given: [_select(x, given, plan)], axis_data, [_whole(ref), *operands], dims)
    return out, d


def _get_now(ref, *operands, plan):
    if _is_full(plan):
        return ref._value
    return read_part_call(ref._value, tuple(operands), (plan, False, False, None, None))


get_p = define(
    "get",
    abstract_eval=_get_type,
    effectful=True,
    impl=_get_now,
    lower=None,
    jvp=_get_jvp,
    transpose=None,
    batch=None,
    batch_axis=_get_batch,
    discharge=lambda in_avals, out_avals, x, *operands, plan: ([None], [_select(x, operands, plan)]),
)


# -- swap and addupdate ----------------------------------------------------------------------------


def _check_value(name, ref, value, operands, plan) -> ShapedArray:
    _check_ref(name, ref)
    expected = _selected_aval(ref, operands, plan)
    if value.shape != expected.shape:
        raise ValueError(
            f"Invalid shape for `{name}`. Ref shape: {ref.shape}. Expected shape: {expected.shape}. "
            f"Value shape: {value.shape}. Broadcast the value."
        )
    if value.dtype != expected.dtype:
        raise ValueError(
            f"Invalid dtype for `{name}`. Ref dtype: {ref.dtype}. Value dtype: {value.dtype}. Convert "
            "the value with astype."
        )
    return expected


def _swap_type(ref, value, *operands, plan):
    return _check_value("swap", ref, value, operands, plan), frozenset({WriteEffect(0)})


def _undifferentiated(ref) -> ValueError:
    return ValueError(
        f"a value that is differentiated is written to a mutable array reference of type {get_aval(ref).str_short()} "
        "that is not: it was made outside of the "
        "differentiated function. Write stop_gradient(value), make the reference inside, or pass it as an argument "
        "to differentiate."
    )


def _swap_jvp(primals, tangents, *, plan):
    ref, _, *operands = primals
    t_ref, t, *_ = tangents
    if type(t_ref) is Zero:
        if type(t) is not Zero and _has_tangent(get_aval(ref)):
            raise _undifferentiated(ref)
        out = swap_p.bind(*primals, plan=plan)
        return out, Zero.from_primal_value(out)
    return swap_p.bind(*primals, plan=plan), swap_p.bind(t_ref, instantiate_zeros(t), *operands, plan=plan)


def _check_batched(ref, dims):
    if dims[0] is None:
        raise ValueError(
            "performing a set/swap operation with vmapped value on an unbatched array reference of type "
            f"{get_aval(ref).str_short()}. Move the array reference to be an argument to the vmapped function?"
        )


def _swap_batch(axis_data, args, dims, *, plan):
    ref, value, *operands = args
    _check_batched(ref, dims)
    update = lambda x, v, *given: [_select(x, given, plan), _store(x, given, plan, v)]
    (old, new), (d_old, d_new) = batch_flat(update, axis_data, [_whole(ref), value, *operands], dims)
    _put_whole(ref, matchaxis(axis_data.size, d_new, dims[0], new))
    return old, d_old


def _put_whole(ref, value):
    swap_p.bind(ref, value, plan=_full_plan(get_aval(ref)))


def _swap_now(ref, value, *operands, plan):
    _check_value("swap", ref._aval, get_aval(value), [get_aval(x) for x in operands], plan)
    old = _get_now(ref, *operands, plan=plan)
    _write_now(ref, value, operands, plan)
    return old


def _write_now(ref, value, operands, plan, op="set"):
    if _is_full(plan):
        new = as_array(value if op == "set" else ops.add(ref._value, value))
        # what is stored has the reference's type: whether a number was weak says nothing any more
        ref._value = new if new.weak_type == ref.weak_type else convert_type(new, new.dtype, ref.weak_type)
        return
    ref._value = _store_call(ref._value, tuple(operands), value, plan, op)


_store_call = jit(lambda x, operands, value, plan, op: _store(x, operands, plan, value, op), static_argnums=(3, 4))


swap_p = define(
    "swap",
    abstract_eval=_swap_type,
    effectful=True,
    impl=_swap_now,
    lower=None,
    jvp=_swap_jvp,
    transpose=None,
    batch=None,
    batch_axis=_swap_batch,
    discharge=lambda in_avals, out_avals, x, value, *operands, plan: (
        [_store(x, operands, plan, value), None],
        [_select(x, operands, plan)],
    ),
)


def _addupdate_type(ref, value, *operands, plan):
    _check_value("addupdate", ref, value, operands, plan)
    return [], frozenset({AccumEffect(0)})


def _addupdate_jvp(primals, tangents, *, plan):
    ref, _, *operands = primals
    t_ref, t, *_ = tangents
    if type(t_ref) is Zero and type(t) is not Zero and _has_tangent(get_aval(ref)):
        raise _undifferentiated(ref)
    addupdate_p.bind(*primals, plan=plan)
    if type(t_ref) is not Zero and type(t) is not Zero:
        addupdate_p.bind(t_ref, t, *operands, plan=plan)
    return [], []


def _addupdate_batch(axis_data, args, dims, *, plan):
    ref, value, *operands = args
    _check_batched(ref, dims)
    (new,), (d,) = batch_flat(
        lambda x, v, *given: [_store(x, given, plan, v, "add")], axis_data, [_whole(ref), value, *operands], dims
    )
    _put_whole(ref, matchaxis(axis_data.size, d, dims[0], new))
    return [], []


def _addupdate_now(ref, value, *operands, plan):
    _check_value("addupdate", ref._aval, get_aval(value), [get_aval(x) for x in operands], plan)
    _write_now(ref, value, operands, plan, "add")
    return []


addupdate_p = define(
    "addupdate",
    abstract_eval=_addupdate_type,
    effectful=True,
    impl=_addupdate_now,
    lower=None,
    jvp=_addupdate_jvp,
    transpose=None,
    batch=None,
    batch_axis=_addupdate_batch,
    multiple_results=True,
    discharge=lambda in_avals, out_avals, x, value, *operands, plan: (
        [_store(x, operands, plan, value, "add"), None],
        [],
    ),
)


# -- indexing --------------------------------------------------------------------------------------


def _planned(ref, index):
    """The plan and operands of an index into a reference.

    Raises:
      ValueError: for integers out of bounds.
    """
    shape = ref.shape
    if index is None or index is Ellipsis:
        return ("full",) * len(shape), []
    plan, operands = make_plan(shape, index)
    axis, given = 0, iter(operands)
    for item in plan:
        operand = next(given) if item in ADVANCED or isinstance(item, tuple) else None
        if isinstance(operand, int) and item in ("at", "wrap") and not -shape[axis] <= operand < shape[axis]:
            raise ValueError(f"Out of bound indexer: idx={operand}, dim={shape[axis]}.")
        axis += item not in ("new", "gap", "flag")
    return plan, operands


def _stored_value(ref, value):
    """A value as it is stored: a weak one takes part in no promotion any more. Numbers stay literals."""
    aval = get_aval(ref)
    if (
        isinstance(value, Tracer)
        and isinstance(value.aval, ShapedArray)
        and value.weak_type
        and not aval.weak_type
        and value.dtype == aval.dtype
    ):
        return convert_type(value, value.dtype, False)
    return value


def ref_get(ref, idx=None):
    """``ref[idx]``: the part of the array that a reference holds.

    Args:
      ref: the reference.
      idx: as of arrays; None for all of it.
    """
    _check_ref("get", get_aval(ref))
    plan, operands = _planned(ref, idx)
    return get_p.bind(ref, *operands, plan=plan)


def ref_swap(ref, idx, value):
    """Write ``value`` to a part of the array and return what was there.

    Args:
      ref: the reference.
      idx: as of arrays; None for all of it.
      value: of exactly that part's shape and dtype.

    Raises:
      ValueError: if shape or dtype differ.
    """
    _check_ref("swap", get_aval(ref))
    plan, operands = _planned(ref, idx)
    return swap_p.bind(ref, _stored_value(ref, value), *operands, plan=plan)


def ref_set(ref, idx, value) -> None:
    """``ref[idx] = value``; see `ref_swap`."""
    _check_ref("set", get_aval(ref))
    plan, operands = _planned(ref, idx)
    if type(ref) is Ref and _native.get_trace() is None and not isinstance(value, Tracer):
        _check_value("swap", ref._aval, get_aval(value), [get_aval(x) for x in operands], plan)
        _write_now(ref, value, operands, plan)
    else:
        swap_p.bind(ref, _stored_value(ref, value), *operands, plan=plan)


def ref_addupdate(ref, idx, x) -> None:
    """Add ``x`` to a part of the array; see `ref_swap`."""
    _check_ref("addupdate", get_aval(ref))
    plan, operands = _planned(ref, idx)
    addupdate_p.bind(ref, _stored_value(ref, x), *operands, plan=plan)


ops.ref_get = lambda ref: ref_get(ref, ...)
ops.ref_set = lambda ref, value: ref_set(ref, ..., value)
AbstractRef._getitem = staticmethod(ref_get)
AbstractRef._setitem = staticmethod(ref_set)


# -- text ------------------------------------------------------------------------------------------


def _index_text(eqn, context, first: int) -> str:
    """The indexed reference of an equation: ``ref[i,1:]``."""
    ref, plan = eqn.invars[0], eqn.params["plan"]
    name = context.name(ref)
    if _is_full(plan):
        return f"{name}[...]"
    given = iter(eqn.invars[first:])
    show = lambda atom: _atom(atom, context).split(":")[0] if hasattr(atom, "val") else context.name(atom)
    parts, axis = [], 0
    for item in plan:
        if item == "full":
            parts.append(":")
        elif item == "new":
            parts.append("None")
        elif item in ADVANCED:
            parts.append(show(next(given)))
        elif isinstance(item, tuple):
            start, (_, n, step) = next(given), item
            known = getattr(start, "val", None)
            if known is None:
                parts.append(f"{show(start)}:{show(start)}+{n}" + (f":{step}" if step != 1 else ""))
            else:
                stop = known + (n - 1) * step + 1
                parts.append(
                    f"{known or ''}:{'' if stop >= ref.aval.shape[axis] else stop}" + (f":{step}" if step != 1 else "")
                )
        axis += item not in ("new", "gap", "flag")
    return f"{name}[{','.join(parts)}]"


def _print_get(eqn, context, settings):
    return concat([_vars(eqn.outvars, context, settings), text(" <- "), text(_index_text(eqn, context, 1))])


def _print_swap(eqn, context, settings):
    target, value = _index_text(eqn, context, 2), _atom(eqn.invars[1], context)
    if isinstance(eqn.outvars[0], DropVar):
        return text(f"{target} <- {value}")
    return concat([_vars(eqn.outvars, context, settings), text(f", {target} <- {target}, {value}")])


def _print_addupdate(eqn, context, settings):
    return text(f"{_index_text(eqn, context, 2)} += {_atom(eqn.invars[1], context)}")


register_eqn_printer("get", _print_get)
register_eqn_printer("swap", _print_swap)
register_eqn_printer("addupdate", _print_addupdate)
