"""Functions of neural networks."""

from velax.nn import initializers as initializers
from velax.nn._attention import *
from velax.nn._functions import *
from velax.nn._normalization import *
