"""`velax.lax`: the primitives and their direct wrappers. They promote no dtypes and broadcast no ranks; `velax.numpy` is built on them."""

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
from velax.lax._indexing import *
from velax.lax._reduce_general import *
from velax.lax._reductions import *
from velax.lax._scan import *
from velax.lax._slicing import *
from velax.lax._sorting import *
from velax.lax._special import *
from velax.lax._structural import *
from velax.lax._take import *
from velax.lax._transcendental import *
from velax.lax._while import *

_public_module(globals())
