"""Functions of neural networks."""

from velax._lang.traceback import public_module as _public_module
from velax.nn import initializers as initializers
from velax.nn._attention import *
from velax.nn._functions import *
from velax.nn._normalization import *

_public_module(globals())
