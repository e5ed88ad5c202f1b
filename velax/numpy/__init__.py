"""`velax.numpy`: NumPy's functions on immutable arrays, traceable, differentiable, compiled."""

from velax.numpy._creation import *
from velax.numpy._indexing import *
from velax.numpy._joining import *
from velax.numpy._reductions import *
from velax.numpy._scalars import *
from velax.numpy._selecting import *
from velax.numpy._shaping import *
from velax.numpy._ufuncs import *
