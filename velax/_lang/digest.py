"""BLAKE2b for keys of caches.

``hashlib`` loads OpenSSL first, which takes longer than all the hashing of a small program.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # an implementation of Python without CPython's own module of it
    from hashlib import blake2b

__all__ = ["blake2b"]
