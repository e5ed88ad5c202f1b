"""Mutable references to arrays, usable in transformed and compiled functions."""

from velax._lang.avals import AbstractRef as AbstractRef, shaped_array as _shaped_array
from velax._lang.trace import get_aval as _get_aval
from velax._transforms.zero import zeros_like_aval as _zeros_like_aval
from velax.lax._refs import (
    Ref as Ref,
    freeze as freeze,
    new_ref as new_ref,
    ref_addupdate as addupdate,
    ref_get as get,
    ref_set as set,
    ref_swap as swap,
)

__all__ = ["AbstractRef", "Ref", "addupdate", "empty_ref", "free_ref", "freeze", "get", "new_ref", "set", "swap"]


def empty_ref(ty, memory_space=None) -> Ref:
    """A reference whose first value does not matter.

    Args:
      ty: a shape and dtype, such as a `ShapeDtypeStruct`.
      memory_space: as of `new_ref`.
    """
    return new_ref(_zeros_like_aval(_shaped_array(tuple(ty.shape), ty.dtype)), memory_space=memory_space)


def free_ref(ref: Ref) -> None:
    """Say that a reference is not used any more. Memory is freed when nothing refers to it, so this only
    checks its argument.
    """
    if not isinstance(_get_aval(ref), AbstractRef):
        raise TypeError(f"free_ref takes a reference, got a value of type {_get_aval(ref)}")
