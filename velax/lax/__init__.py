"""`velax.lax`: the primitives and their direct wrappers. They promote no dtypes and broadcast no ranks;
`velax.numpy` is built on them.
"""

from velax._lang.traceback import public_module as _public_module
from velax.lax import _refs as _refs
from velax.lax import _register as _register
from velax.lax._arithmetic import *
from velax.lax._associative import *
from velax.lax._callbacks import *
from velax.lax._collectives import *
from velax.lax._comparison import *
from velax.lax._cond import *
from velax.lax._contraction import *
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

#: made of the other operations, in modules that most programs do without
_SPECIAL = frozenset({
    "bessel_i0e", "bessel_i0e_p", "bessel_i1e", "bessel_i1e_p", "betainc", "igamma", "igamma_grad_a", "igamma_grad_a_p",
    "igamma_p", "igammac", "igammac_p", "polygamma", "polygamma_p", "random_gamma_grad", "random_gamma_grad_p",
    "regularized_incomplete_beta_p", "zeta", "zeta_p",
})  # fmt: skip
_SOLVES = frozenset({"custom_linear_solve", "custom_linear_solve_p", "custom_root"})


def __getattr__(name):
    if name in _SPECIAL:
        from velax.lax import _special as module

        names = _SPECIAL
    elif name in _SOLVES:
        from velax.lax import _solves as module

        names = _SOLVES
    else:
        raise AttributeError(f"module 'velax.lax' has no attribute {name!r}")
    found = {key: getattr(module, key) for key in names} | {"__name__": __name__}
    _public_module(found)
    globals().update(found)
    return globals()[name]


def __dir__():
    return sorted({*globals(), *_SPECIAL, *_SOLVES})


_public_module(globals())
