"""Options that add or drop checks, and the record of what `checkpoint` keeps: compared with JAX."""

import logging
import re

import jax.ad_checkpoint  # noqa: F401 (named as lib.ad_checkpoint)
import numpy as np
import pytest
from both_libraries import LIBRARIES, compare

import velax
import velax.ad_checkpoint
import velax.extend
from velax._lang.check import JaxprTypeError

X = np.arange(3, dtype=np.float32)


def outcome(lib, f, *args):
    """The result, or the kind of error with its first words."""
    try:
        return np.asarray(f(lib, *args), np.float32).tolist()
    except (IndexError, ValueError) as error:
        return type(error).__name__, str(error).split(")")[0].split(" in ")[0]


INDICES = {
    "inside": lambda x: x[1, -3],
    "beyond": lambda x: x[2],
    "negative": lambda x: x[-3, 7],
    "in the second axis": lambda x: x[:, 3],
    "after an ellipsis": lambda x: x[..., -4],
    "after a new axis": lambda x: x[None, 2],
    "beside an array": lambda x: x[np.array([0, 5]), 3],
    "beside a mask": lambda x: x[np.array([True, False]), 3],
    "of NumPy": lambda x: x[np.int64(2)],
    "a scalar array": lambda x: x[np.array(2)],
    "an array": lambda x: x[np.array([2])],
    "a slice": lambda x: x[1:7, 2:],
    "that does not wrap": lambda x: x.at[-1].get(wrap_negative_indices=False),
    "that is promised": lambda x: x.at[2].get(mode="promise_in_bounds"),
    "that clips": lambda x: x.at[2].get(mode="clip"),
    "that fills": lambda x: x.at[2].get(mode="fill", fill_value=7),
    "that writes": lambda x: x.at[2].set(1.0),
}


@pytest.mark.parametrize("name", INDICES)
def test_static_indices(update_both, name):
    index = INDICES[name]
    traced = lambda lib: lib.jit(index)(lib.numpy.arange(6.0).reshape(2, 3))
    eager = lambda lib: index(lib.numpy.arange(6.0).reshape(2, 3))
    compare(traced)
    compare(eager)
    update_both("jax_check_static_indices", True)
    for way in (traced, eager):
        found = [outcome(lib, way) for lib in LIBRARIES]
        assert found[0] == found[1]


def test_static_indices_of_at(update_both):
    update_both("jax_check_static_indices", True)
    for lib in LIBRARIES:
        x = lib.numpy.arange(3.0)
        with pytest.raises(
            IndexError, match=r"index 5 out of bounds for axis 0 with size 3 \(normalize_indices=True\)"
        ):
            x.at[5].get()


def h(lib):
    return lib.numpy.ones((2, 3), "float16")


SUMS = {
    "a sum": lambda lib: lib.lax.reduce_sum(h(lib), axes=(0,)),
    "of bfloat16": lambda lib: lib.lax.reduce_sum(h(lib).astype("bfloat16"), axes=(0,)),
    "of float32": lambda lib: lib.lax.reduce_sum(h(lib).astype("float32"), axes=(0,)),
    "over no axes": lambda lib: lib.lax.reduce_sum(h(lib), axes=()),
    "by reduce": lambda lib: lib.lax.reduce(h(lib), np.float16(0), lib.lax.add, (0,)),
    "compiled": lambda lib: lib.jit(lambda x: lib.lax.reduce_sum(x, axes=(1,)))(h(lib)),
    "as a derivative": lambda lib: lib.grad(lambda a: (a * h(lib)).astype("float32").sum())(np.float16(1)),
    "in float32": lambda lib: lib.numpy.sum(h(lib)),
    "a mean": lambda lib: lib.numpy.mean(h(lib)),
    "a product": lambda lib: lib.lax.reduce_prod(h(lib), axes=(0,)),
    "a maximum": lambda lib: lib.lax.reduce_max(h(lib), axes=(0,)),
    "a matrix product": lambda lib: h(lib) @ h(lib).T,
    "a cumulative sum": lambda lib: lib.lax.cumsum(h(lib)),
    "a softmax": lambda lib: lib.nn.softmax(h(lib)),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_16_bit_floats(name):
    f = SUMS[name]
    found = []
    for lib in LIBRARIES:
        before = outcome(lib, f)
        with lib.allow_f16_reductions(False):
            found.append(outcome(lib, f))
        assert outcome(lib, f) == before and not isinstance(before, tuple)
    if isinstance(found[1], tuple):
        assert found[0][1].startswith(found[1][1]), found
    else:
        np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


BACKWARD = {
    "what it should": lambda lib, x, y, g: (g, y),
    "another shape": lambda lib, x, y, g: (lib.numpy.ones(2), y),
    "what would broadcast": lambda lib, x, y, g: (g, lib.numpy.ones(())),
    "nothing": lambda lib, x, y, g: (None, None),
    "another structure": lambda lib, x, y, g: (g,),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_backward_checks(update_both, name):
    def gradients(lib):
        @lib.custom_vjp
        def f(x, y):
            return x * y.sum()

        f.defvjp(lambda x, y: (f(x, y), (x, y)), lambda res, g: BACKWARD[name](lib, *res, g))
        out = lib.jit(lib.grad(f, argnums=(0, 1)))(2.0, lib.numpy.arange(3.0))
        return [np.asarray(x).tolist() for x in out]

    def both():
        found = []
        for lib in LIBRARIES:
            try:
                found.append(gradients(lib))
            except (TypeError, ValueError) as error:
                found.append((type(error), str(error).split(". ")[0][:80]))
        assert found[0] == found[1]
        return found[0]

    checked = both()
    update_both("jax_disable_bwd_checks", True)
    unchecked = both()
    assert isinstance(unchecked, tuple) == (name == "another structure")
    assert isinstance(checked, tuple) == (name not in ("what it should", "nothing"))


def test_every_jaxpr_is_checked():
    """A type rule that says something else each time is found out when the jaxpr is checked."""

    def lying():
        p = velax.extend.core.Primitive("lying")
        sizes = iter(range(2, 9))
        p.def_abstract_eval(lambda x, *, unhashable: velax.core.ShapedArray((next(sizes),), x.dtype))
        return lambda x: p.bind(x, unhashable=[]) * 1

    velax.make_jaxpr(lying())(1.0)
    with velax.enable_checks(True):
        with pytest.raises(JaxprTypeError, match=r"lying gives float32\[3\] but the variable has type float32\[2\]"):
            velax.make_jaxpr(lying())(1.0)
        compare(lambda lib: lib.jit(lib.vmap(lib.grad(lambda x: (x * lib.numpy.tanh(x)).sum())))(np.eye(3, dtype="f")))
        compare(lambda lib: lib.grad(lambda x: lib.lax.scan(lambda c, a: (c * lib.numpy.sin(a), c), x, x)[0].sum())(X))


CHECKPOINTED = {
    "only arguments": (None, lambda lib, w: lambda x: lib.numpy.sin(lib.numpy.cos(x))),
    "what it closes over": (None, lambda lib, w: lambda x: lib.numpy.sin(w @ lib.numpy.cos(x))),
    "products": ("dots_saveable", lambda lib, w: lambda x: lib.numpy.sin(w @ lib.numpy.cos(w @ x))),
    "a name": (
        "named",
        lambda lib, w: lambda x: lib.numpy.sin(lib.ad_checkpoint.checkpoint_name(lib.numpy.cos(x), "c")),
    ),
    "nothing": (None, lambda lib, w: lambda x: x * 2),
}


@pytest.mark.parametrize("name", CHECKPOINTED)
@pytest.mark.parametrize("compiled", [False, True])
def test_log_of_residuals(update_both, caplog, name, compiled):
    policy, f = CHECKPOINTED[name]
    update_both("jax_log_checkpoint_residuals", True)
    texts = []
    for lib in LIBRARIES:
        policies = lib.checkpoint_policies
        how = policies.save_only_these_names("c") if policy == "named" else policy and getattr(policies, policy)
        g = lib.grad(lambda x, lib=lib, how=how: lib.checkpoint(f(lib, lib.numpy.eye(3)), policy=how)(x).sum())
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            (lib.jit(g) if compiled else g)(lib.numpy.arange(3.0))
        (record,) = (r for r in caplog.records if "remat" in r.message)
        assert record.name.split(".")[0] == lib.__name__
        texts.append(re.sub(r"(\.py:\d+)(:\d+)?", r"\1", record.message))
    assert texts[0] == texts[1]
