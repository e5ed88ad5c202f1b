"""`velax.lax`: the primitives and their direct wrappers. They promote no dtypes and broadcast no ranks;
`velax.numpy` is built on them.
"""

from velax._lang.traceback import public_module as _public_module, public_rooms as _public_rooms
from velax.lax import _refs as _refs, _register as _register
from velax.lax._arithmetic import *
from velax.lax._associative import *
from velax.lax._callbacks import *
from velax.lax._collectives import *
from velax.lax._comparison import *
from velax.lax._cond import *
from velax.lax._contraction import *
from velax.lax._dynamic_slicing import *
from velax.lax._gather import *
from velax.lax._indexing import *
from velax.lax._reduce_general import *
from velax.lax._reductions import *
from velax.lax._scan import *
from velax.lax._scatter import *
from velax.lax._slicing import *
from velax.lax._sorting import *
from velax.lax._structural import *
from velax.lax._take import *
from velax.lax._transcendental import *
from velax.lax._while import *

_public_module(globals())
# made of the other operations: most programs do without
_public_rooms(globals(), {
    "_composed": (
        "approx_max_k", "approx_min_k", "broadcast_like", "broadcast_to_rank", "empty", "padtype_to_pads", "stack",
        "tile", "unstack",
    ),
    "_special": (
        "bessel_i0e", "bessel_i0e_p", "bessel_i1e", "bessel_i1e_p", "betainc", "igamma", "igamma_grad_a",
        "igamma_grad_a_p", "igamma_p", "igammac", "igammac_p", "polygamma", "polygamma_p", "random_gamma_grad",
        "random_gamma_grad_p", "regularized_incomplete_beta_p", "zeta", "zeta_p",
    ),
    "_solves": ("custom_linear_solve", "custom_linear_solve_p", "custom_root"),
})  # fmt: skip
