"""`velax.core`: the types of the language that libraries subclass and inspect."""

from velax._lang.avals import AbstractValue as AbstractValue, ShapedArray as ShapedArray
from velax._lang.jaxpr import Atom as Atom
from velax._lang.trace import (
    Trace as Trace,
    Tracer as Tracer,
    ensure_compile_time_eval as ensure_compile_time_eval,
    eval_context as eval_context,
)
from velax._transforms.evaluate import eval_jaxpr as eval_jaxpr

ParamDict = dict
Value = object


def max_dim(d1, d2):
    """The larger of two dimensions."""
    return max(d1, d2)


def min_dim(d1, d2):
    """The smaller of two dimensions."""
    return min(d1, d2)
