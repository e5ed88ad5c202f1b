"""Random numbers from explicit keys.

A key is made of a seed (`key`), new ones are derived from it (`split`, `fold_in`), and a function of this
module draws from one: the same key gives the same numbers, on every machine. Use each key once.
"""

from velax._lang.traceback import public_module as _public_module
from velax.random._binomial import *
from velax.random._discrete import *
from velax.random._gamma import *
from velax.random._keys import *
from velax.random._matrices import *
from velax.random._poisson import *
from velax.random._samplers import *

_public_module(globals())
