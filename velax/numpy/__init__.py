"""`velax.numpy`: NumPy's functions on immutable arrays, traceable, differentiable, compiled."""

from velax.numpy._creation import *
from velax.numpy._indexing import *
from velax.numpy._ufuncs import *
