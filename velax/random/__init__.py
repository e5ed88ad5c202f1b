"""Random numbers from explicit keys.

A key is made of a seed (`key`), new ones are derived from it (`split`, `fold_in`), and a function of this module draws from one: the same key gives the same
numbers, on every machine. Use each key once.
"""

from velax.random._discrete import *
from velax.random._keys import *
from velax.random._keys_array import PRNGKeyArray as PRNGKeyArray
from velax.random._samplers import *
