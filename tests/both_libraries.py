"""Running one function on Velax and on JAX and comparing everything that users see: structure, values,
dtypes, shapes and weak types.
"""

import os

# the oracle only has to be right: XLA's optimizations are most of what compiling it costs
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import jax.extend
import jax.numpy
import numpy as np

import velax
import velax.numpy
from velax._lang.check import check_jaxpr

LIBRARIES = (velax, jax)


def host(x):
    """A result as a NumPy array that NumPy's comparisons read (narrow floats widened)."""
    x = np.asarray(x)
    narrow = x.dtype.kind == "V" or x.dtype.name.startswith("float8")  # one of which NumPy takes for its own
    return x.astype(np.float32) if narrow and x.dtype != jax.dtypes.float0 else x


def signature(lib, x):
    """What a leaf looks like from outside: shape, dtype and weak type."""
    aval = lib.typeof(x)
    return aval.shape, np.dtype(aval.dtype).name, bool(aval.weak_type)


def assert_same(ours, theirs, rtol=1e-5, atol=1e-5, weak=True, what="", oracle=True):
    """Both results have one structure, equal types and close values."""
    our_leaves, our_tree = velax.tree_util.tree_flatten(ours)
    their_leaves, their_tree = (jax if oracle else velax).tree_util.tree_flatten(theirs)
    assert str(our_tree) == str(their_tree), f"{what}: {our_tree} against {their_tree}"
    for i, (x, y) in enumerate(zip(our_leaves, their_leaves, strict=True)):
        ours_is, theirs_is = signature(velax, x), signature(jax if oracle else velax, y)
        assert ours_is[: 3 if weak else 2] == theirs_is[: 3 if weak else 2], (
            f"{what}, leaf {i}: {ours_is} against {theirs_is}"
        )
        if ours_is[1] != "void" and np.dtype(getattr(y, "dtype", float)) != jax.dtypes.float0:
            np.testing.assert_allclose(host(x), host(y), rtol=rtol, atol=atol, err_msg=f"{what}, leaf {i}")


def compare(f, rtol=1e-5, atol=1e-5, weak=True):
    """``f(library)`` gives the same in both libraries."""
    assert_same(f(velax), f(jax), rtol, atol, weak)


class Cases:
    """Functions of the library, registered by decoration. The oracle's results of all of them come from one
    compiled program, since starting XLA for each would take most of the time of the tests."""

    def __init__(self):
        self.functions = {}
        self._expected = None
        self._failed = {}

    def __call__(self, f):
        assert f.__name__ not in self.functions, f"two cases are named {f.__name__}"
        self.functions[f.__name__] = f
        return f

    def add(self, name, f):
        assert name not in self.functions, f"two cases are named {name}"
        self.functions[name] = f

    def names(self):
        return sorted(self.functions)

    def check(self, name, rtol=1e-5, atol=1e-5, weak=True):
        assert_same(self.functions[name](velax), self.expected(name), rtol, atol, weak, name)

    def expected(self, name):
        """What JAX gives."""
        if self._expected is None:
            self._run_oracle()
        if name in self._failed:
            raise self._failed[name]
        return self._expected[name]

    def _run_oracle(self):
        traced = {}
        for name, f in self.functions.items():
            try:
                traced[name] = jax.make_jaxpr(lambda f=f: f(jax), return_shape=True)()
            except Exception as e:
                self._failed[name] = e
        run = lambda: {name: jax.extend.core.jaxpr_as_fun(closed)() for name, (closed, _) in traced.items()}
        flat = jax.jit(run)()
        self._expected = {
            name: jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(traced[name][1]), x)
            for name, x in flat.items()
        }

    def check_staged(self, name, rtol=1e-5, atol=1e-5, weak=True):
        """The case traced into one program: the jaxpr is well typed and gives the same."""
        f = self.functions[name]
        check_jaxpr(velax.make_jaxpr(lambda: f(velax))())
        assert_same(velax.jit(lambda: f(velax))(), self.expected(name), rtol, atol, weak, name)


def both_raise(f, kind, lead, ours=()):
    """``f(library)`` raises an error of class name ``kind`` whose message begins with ``lead`` in both;
    Velax's also contains the phrases ``ours``.
    """
    for lib in LIBRARIES:
        try:
            f(lib)
        except Exception as e:
            text = str(e)
            assert kind in {c.__name__ for c in type(e).__mro__}, f"{lib.__name__} raised {type(e).__name__}: {text}"
            assert lead in text, f"{lib.__name__}: {text}"
            if lib is velax:
                for phrase in (ours,) if isinstance(ours, str) else ours:
                    assert phrase in text, f"{phrase!r} is not in: {text}"
        else:
            raise AssertionError(f"{lib.__name__} raised nothing")


def agree(call, rtol=0):
    """``call(numpy, package)`` gives the same with Velax's modules as with JAX's, or an error of the same class."""
    ours, theirs = (_outcome(lambda lib=lib: call(lib.numpy, lib)) for lib in LIBRARIES)
    _assert_alike(ours, theirs, rtol)


def _outcome(f):
    """What a call gives, or the class name of its error."""
    try:
        return f()
    except Exception as e:
        return type(e).__name__


def _assert_alike(ours, theirs, rtol):
    """Equal structure of sequences, shapes, dtypes, weak types and values; what is no array is of one type and equal."""
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            _assert_alike(x, y, rtol)
    elif hasattr(theirs, "dtype"):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert getattr(ours, "weak_type", None) == getattr(theirs, "weak_type", None)
        np.testing.assert_allclose(host(ours), host(theirs), rtol=rtol)
    else:
        assert type(ours) is type(theirs) and ours == theirs
