"""Functions with derivative rules of their own."""

from velax._transforms.custom_call import zero_from_primal as zero_from_primal
from velax._transforms.custom_jvp import custom_jvp as custom_jvp, custom_jvp_call_p as custom_jvp_call_p
from velax._transforms.custom_rules import (
    closure_convert as closure_convert,
    custom_gradient as custom_gradient,
    linear_call as linear_call,
)
from velax._transforms.custom_vjp import (
    CustomVJPPrimal as CustomVJPPrimal,
    custom_vjp as custom_vjp,
    custom_vjp_call_p as custom_vjp_call_p,
    custom_vjp_primal_tree_values as custom_vjp_primal_tree_values,
)
from velax._transforms.zero import SymbolicZero as SymbolicZero
