"""``jax._src.core``."""

from velax._lang.avals import *
from velax._lang.check import *
from velax._lang.effects import *
from velax._lang.jaxpr import *
from velax._lang.primitive import CallPrimitive as CallPrimitive, Primitive as Primitive
from velax._lang.trace import *
from velax._lang.trace import get_aval as get_aval
from velax._transforms.evaluate import eval_jaxpr as eval_jaxpr, jaxpr_as_fun as jaxpr_as_fun
