"""`velax.ops` against JAX, and the small modules that libraries import."""

import numpy as np
import pytest
from both_libraries import compare

import velax
from velax import monitoring
from velax.extend import linear_util as lu

DATA = np.random.default_rng(0).integers(-9, 9, (12, 3))
IDS = np.array([0, 2, 2, 5, 0, -1, 7, 1, 5, 5, 3, 2])


@pytest.mark.parametrize("name", ["segment_sum", "segment_prod", "segment_max", "segment_min"])
def test_segment_reductions(name):
    def values(lib):
        reduce = getattr(lib.ops, name)
        dtypes = ["float32", "int32", "int8", "uint8", "bfloat16"]
        dtypes.append("bool" if name[-3:] in ("max", "min") else "complex64")
        sorted_ids = np.sort(np.abs(IDS))
        return {
            "dtypes": [reduce(lib.numpy.asarray(DATA).astype(d), IDS, 6) for d in dtypes],
            "number from the ids": reduce(lib.numpy.asarray(DATA), IDS),
            "buckets": [reduce(lib.numpy.asarray(DATA).astype(d), IDS, 6, bucket_size=5) for d in ("float32", "int8")],
            "clipped": reduce(lib.numpy.asarray(DATA), IDS, 4, mode="clip"),
            "sorted": reduce(lib.numpy.asarray(DATA), sorted_ids, 8, indices_are_sorted=True),
            "compiled": lib.jit(lambda x, i: reduce(x, i, 6))(DATA, IDS),
            "mapped": lib.vmap(lambda x, i: reduce(x, i, 3))(DATA.reshape(3, 4, 3), IDS.reshape(3, 4)),
        }

    compare(values, rtol=1e-5)


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_min"])
def test_gradients_of_segment_reductions(name):
    def gradient(lib):
        def f(x):
            return (getattr(lib.ops, name)(x, np.abs(IDS), 8)[lib.numpy.array([0, 2, 7])] ** 2).sum()

        return lib.grad(f)(DATA[:, 0] + np.linspace(0.1, 0.5, 12, dtype=np.float32))

    compare(gradient)


def test_segment_errors():
    x, ids = velax.numpy.asarray(DATA), velax.numpy.asarray(IDS)
    with pytest.raises(ValueError, match="num_segments must be non-negative, got -1"):
        velax.ops.segment_sum(x, ids, -1)
    with pytest.raises(TypeError, match=r"segment_ids must be integers, got an array of type float32\[12\]"):
        velax.ops.segment_max(x, ids.astype("float32"), 3)
    with pytest.raises(velax.errors.ConcretizationTypeError, match="give it as num_segments"):
        velax.jit(velax.ops.segment_sum)(x, ids)
    with pytest.raises(ValueError, match="give the number of segments"):
        velax.ops.segment_min(x[:0], ids[:0])
    with pytest.raises(TypeError, match="segment_sum requires ndarray or scalar arguments"):
        velax.ops.segment_sum([1, 2], ids, 3)


def test_generator_transformations():
    @lu.transformation_with_aux
    def counted(step, *args):
        out = yield (*args, step), {}
        yield out * 10, len(args)

    f, count = counted(lu.wrap_init(lambda x, y: x - y), 3)
    with pytest.raises(Exception, match="has not run yet"):
        count()
    assert f.call_wrapped(5) == 20 and count() == 1


def test_flat_functions():
    for flatten, args, call in [
        (velax.api_util.flatten_fun, ((1, [2]), {"c": 3}), lambda a, b, c: {"r": (a, b[0] + c)}),
        (velax.api_util.flatten_fun_nokwargs, (1, [5]), lambda a, b: {"r": (a, b[0])}),
    ]:
        leaves, tree = velax.tree.flatten(args)
        flat, out_tree = flatten(lu.wrap_init(call), tree)
        out = flat.call_wrapped(*leaves)
        assert velax.tree.unflatten(out_tree(), out) == {"r": (1, 5)}


def test_monitoring():
    heard = []

    def hear(*args, **about):
        heard.append((*args, about))
        monitoring.unregister_event_listener(hear)

    monitoring.register_event_listener(hear)
    monitoring.register_scalar_listener(lambda *args, **about: heard.append((*args, about)))
    monitoring.record_event("/first", n=1)
    monitoring.record_event("/unheard")
    monitoring.record_scalar("/loss", 0.5)
    monitoring.clear_event_listeners()
    monitoring.record_scalar("/loss", 0.4)
    assert heard == [("/first", {"n": 1}), ("/loss", 0.5, {})]
    with pytest.raises(ValueError, match="not a registered listener of durations"):
        monitoring.unregister_event_duration_listener(hear)
