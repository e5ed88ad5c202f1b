"""Where compiled programs are kept on disk."""

from __future__ import annotations

import os

from velax._compiler.cache import forget_open_cache
from velax._lang.config import config

__all__ = ["reset_cache", "set_cache_dir"]


def set_cache_dir(path: str | os.PathLike) -> None:
    """Keep compiled programs in the folder `path` from here on: sets the option ``jax_compilation_cache_dir``.

    Machine code is loaded from the folder, so it must belong to the user, and nobody else may write into it.

    Args:
      path: made if it does not exist.

    Example:
      >>> import tempfile, velax
      >>> from velax.experimental.compilation_cache import compilation_cache
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   compilation_cache.set_cache_dir(folder)
      ...   velax.config.jax_compilation_cache_dir == folder
      True
      >>> velax.config.update("jax_compilation_cache_dir", None)
    """
    config.update("jax_compilation_cache_dir", path)


def reset_cache() -> None:
    """Have the folder opened anew at the next compilation. What is stored in it stays.

    Example:
      >>> from velax.experimental.compilation_cache import compilation_cache
      >>> compilation_cache.reset_cache()
    """
    forget_open_cache()
