"""Running programs that say ``import jax``: the import alias.

`install_as_jax` makes ``jax`` and its submodules importable as Velax's, ahead of an installed JAX and without touching
the file system. Submodules are Velax's own module objects. ``jax`` itself is a small module of its own, since its
version is that of the JAX whose interface Velax has.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types

__all__ = ["JAX_VERSION", "install_as_jax"]

#: the release of JAX whose public interface this is
JAX_VERSION = "0.10.2"

_ALIASES = {"jax": "velax"}


class _JaxModule(types.ModuleType):
    """``jax``: every attribute is Velax's, but for the version."""

    def __init__(self, name):
        super().__init__(name, "Velax under JAX's name.")
        self.__version__ = JAX_VERSION
        self.__version_info__ = tuple(map(int, JAX_VERSION.split(".")))

    def __getattr__(self, name):
        return getattr(importlib.import_module("velax"), name)

    def __dir__(self):
        return sorted({*super().__dir__(), *dir(importlib.import_module("velax"))})


class _Loader(importlib.abc.Loader):
    """Gives the Velax module of an alias; it is loaded already."""

    def __init__(self, target: str):
        self._target = target
        self._saved: tuple = ()

    def create_module(self, spec):
        if spec.name == "jax":
            return _JaxModule("jax")
        if self._target == "velax._compat.jaxlib":
            return _jaxlib_module(spec.name)
        module = importlib.import_module(self._target)
        self._saved = (module.__spec__, module.__loader__, module.__package__)
        return module

    def exec_module(self, module):
        if self._saved:  # the import system has just written the alias's over them
            module.__spec__, module.__loader__, module.__package__ = self._saved


def _jaxlib_module(name: str) -> types.ModuleType:
    """``jaxlib`` and ``jaxlib.version``: only a version; there is no XLA behind Velax."""
    module = types.ModuleType(name, "Stands in for jaxlib: a version, and nothing else.")
    vars(module).update(__version__=JAX_VERSION, __path__=[])
    return module


class _Distribution(importlib.metadata.Distribution):
    """What package metadata says of ``jax`` where no JAX is installed."""

    def __init__(self, name: str):
        self._name = name

    def read_text(self, filename):
        if filename in ("METADATA", "PKG-INFO"):
            return f"Metadata-Version: 2.1\nName: {self._name}\nVersion: {JAX_VERSION}\n"
        return None

    def locate_file(self, path):
        raise FileNotFoundError(path)


class _HandedDown:
    """Pickles as a call of `install_as_jax`."""

    def __reduce__(self):
        return install_as_jax, ()


def _hand_down(spawn: types.ModuleType) -> None:
    """Let processes that `multiprocessing` starts afresh have the alias, too, before they import the program.

    They read what the parent prepared for them first of all; reading this part of it installs the alias.
    """
    prepare = spawn.get_preparation_data

    @functools.wraps(prepare)
    def get_preparation_data(name):
        data = prepare(name)
        return {**data, "velax": _HandedDown()} if _finder in sys.meta_path else data

    spawn.get_preparation_data = get_preparation_data


class _SpawnLoader(importlib.machinery.SourceFileLoader):
    """Loads ``multiprocessing.spawn``, which few programs need and which is slow to import."""

    def exec_module(self, module):
        super().exec_module(module)
        _hand_down(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "multiprocessing.spawn":
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                spec.loader = _SpawnLoader(spec.loader.name, spec.loader.path)
            return spec
        root, _, rest = fullname.partition(".")
        if root == "jaxlib":
            if rest in ("", "version"):
                return importlib.machinery.ModuleSpec(fullname, _Loader("velax._compat.jaxlib"), is_package=True)
            return None
        if root != "jax":
            return None
        if not rest:
            origin = importlib.import_module("velax").__file__
            spec = importlib.machinery.ModuleSpec("jax", _Loader("velax"), origin=origin, is_package=True)
            spec.has_location = True
            return spec
        private = rest == "_src" or rest.startswith("_src.")
        name = f"velax._compat.src{rest[4:]}" if private else f"velax.{rest}"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as e:
            if e.name is not None and name.startswith(e.name):
                message = f"No module named {fullname!r}: Velax has no {name!r}"
                raise ModuleNotFoundError(message, name=fullname) from None
            raise
        return importlib.machinery.ModuleSpec(fullname, _Loader(name), is_package=hasattr(module, "__path__"))

    def find_distributions(self, context=None):
        """Metadata of jax and jaxlib, for libraries that ask for their versions."""
        wanted = getattr(context, "name", None)
        return [_Distribution(n) for n in ("jax", "jaxlib") if wanted == n]


_finder = _Finder()


def install_as_jax() -> None:
    """Make ``import jax`` give Velax in this process, submodules included, and in those that `multiprocessing` starts.

    Raises:
      RuntimeError: if the real JAX has been imported already.

    Example:
      >>> import velax
      >>> velax.install_as_jax()
      >>> import jax
      >>> float(jax.grad(lambda x: x**2)(3.0))
      6.0
    """
    if _finder in sys.meta_path:
        return
    loaded = sys.modules.get("jax")
    if loaded is not None and not isinstance(loaded, _JaxModule):
        raise RuntimeError(
            f"install_as_jax: JAX is imported already, from {getattr(loaded, '__file__', loaded)}; "
            "call install_as_jax first"
        )
    sys.meta_path.insert(0, _finder)
    if "multiprocessing.spawn" in sys.modules:
        _hand_down(sys.modules["multiprocessing.spawn"])
