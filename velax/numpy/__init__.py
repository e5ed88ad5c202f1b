"""`velax.numpy`: NumPy's functions on immutable arrays, traceable, differentiable, compiled."""

from velax._lang.traceback import public_module as _public_module, public_rooms as _public_rooms
from velax.numpy import _methods as _methods  # operators and methods of arrays
from velax.numpy._arithmetic import *
from velax.numpy._creation import *
from velax.numpy._cumulative import *
from velax.numpy._einsum import *
from velax.numpy._float_functions import *
from velax.numpy._index_tricks import *
from velax.numpy._indexing import *
from velax.numpy._joining import *
from velax.numpy._linear import *
from velax.numpy._logaddexp import *
from velax.numpy._logic import *
from velax.numpy._number_parts import *
from velax.numpy._ranges import *
from velax.numpy._reductions import *
from velax.numpy._reordering import *
from velax.numpy._scalars import *
from velax.numpy._selecting import *
from velax.numpy._shaping import *
from velax.numpy._sorting_searching import *
from velax.numpy._ufunc import *

_public_module(globals())
# what few programs use, and all would wait for
_public_rooms(globals(), {
    "_bit_packing": ("packbits", "unpackbits"),
    "_correlation": ("convolve", "correlate", "corrcoef", "cov"),
    "_files": (
        "array_repr", "array_str", "fromfile", "get_printoptions", "load", "printoptions", "save", "savez",
        "set_printoptions",
    ),
    "_functional": ("apply_along_axis", "apply_over_axes", "vectorize"),
    "_histograms": ("bincount", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd"),
    "_padding": ("pad",),
    "_polynomials": (
        "poly", "polyadd", "polyder", "polydiv", "polyint", "polymul", "polysub", "unwrap", "vander",
    ),
    "_sets": (
        "intersect1d", "isin", "setdiff1d", "setxor1d", "union1d", "unique", "unique_all", "unique_counts",
        "unique_inverse", "unique_values",
    ),
    "_statistics": (
        "median", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin",
        "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar", "percentile", "quantile",
    ),
    "_windows": ("bartlett", "blackman", "hamming", "hanning", "i0", "kaiser"),
    "linalg": (),
})  # fmt: skip
