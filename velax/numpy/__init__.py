"""`velax.numpy`: NumPy's functions on immutable arrays, traceable, differentiable, compiled."""

from velax._lang.traceback import public_module as _public_module
from velax.numpy import _methods as _methods  # operators and methods of arrays
from velax.numpy._arithmetic import *
from velax.numpy._creation import *
from velax.numpy._cumulative import *
from velax.numpy._einsum import *
from velax.numpy._float_functions import *
from velax.numpy._functional import *
from velax.numpy._histograms import *
from velax.numpy._index_tricks import *
from velax.numpy._indexing import *
from velax.numpy._joining import *
from velax.numpy._linear import *
from velax.numpy._logaddexp import *
from velax.numpy._logic import *
from velax.numpy._number_parts import *
from velax.numpy._padding import *
from velax.numpy._ranges import *
from velax.numpy._reductions import *
from velax.numpy._reordering import *
from velax.numpy._scalars import *
from velax.numpy._selecting import *
from velax.numpy._sets import *
from velax.numpy._shaping import *
from velax.numpy._sorting_searching import *
from velax.numpy._statistics import *
from velax.numpy._ufunc import *


def __getattr__(name):
    if name == "linalg":  # imported when first used
        import importlib

        return importlib.import_module("velax.numpy.linalg")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_public_module(globals())
