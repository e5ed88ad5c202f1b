"""The examples in the docstrings of every module."""

import doctest
import importlib
import pkgutil
import sys

import pytest

import velax

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    names = [m.name for m in pkgutil.walk_packages(velax.__path__, "velax.")]
    return sorted(n for n in names if n not in ("velax.__main__", "velax._native"))


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed; they are printed above"


@pytest.fixture(autouse=True)
def _keep_imports():
    """One example installs the import alias, which must not outlive it: the other tests compare with the real JAX."""
    finders, loaded = (
        list(sys.meta_path),
        {n: m for n, m in sys.modules.items() if n.partition(".")[0] in ("jax", "jaxlib")},
    )
    hidden = {n: sys.modules.pop(n) for n in list(loaded)}
    yield
    sys.meta_path[:] = finders
    for n in [n for n in sys.modules if n.partition(".")[0] in ("jax", "jaxlib")]:
        del sys.modules[n]
    sys.modules.update(hidden)


def test_most_public_functions_have_an_example_that_runs():
    attempted = sum(
        len(test.examples)
        for name in modules()
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    )
    assert attempted > 400
