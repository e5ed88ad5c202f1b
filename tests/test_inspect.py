"""`velax.inspect`; memory of donated arguments; source locations of equations."""

import doctest
import gc
import threading
import warnings
import weakref

import jax
import numpy as np
import pytest

import velax
import velax.inspect
import velax.numpy as jnp
from velax import lax
from velax._compiler import driver
from velax._lang import source

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


# -- records -------------------------------------------------------------------------------------


def test_a_record_of_each_compilation(no_disk):
    @velax.jit
    def polynomial(x):
        return x * x * 3.0 + x

    with velax.inspect.compile_log() as log:
        polynomial(X)
        polynomial(X)
        velax.jit(lambda x: x * x * 3.0 + x)(X)
    assert [(r.name, r.n_equations, r.source) for r in log] == [
        ("polynomial", 3, "compiled"),
        ("<lambda>", 3, "memory"),
    ]
    first, second = log
    assert len(first.kernels) == 1 and first.compiled == first.kernels
    assert second.compiled == [] and second.kernels == first.kernels
    assert {"key", "graph", "passes", "codegen", "load"} <= set(first.seconds)
    assert all(s >= 0 for s in first.seconds.values()) and first.total == pytest.approx(sum(first.seconds.values()))


def test_a_log_ends_with_its_block(no_disk):
    before = list(driver.on_compile)
    with velax.inspect.compile_log() as outer:
        velax.jit(lambda x: x + 1)(X)
        with velax.inspect.compile_log() as inner:
            velax.jit(lambda x: x + 2)(X)
        velax.jit(lambda x: x + 3)(X)
    velax.jit(lambda x: x + 4)(X)
    assert (len(outer), len(inner)) == (3, 1)
    with pytest.raises(ZeroDivisionError), velax.inspect.compile_log():
        1 / 0  # noqa: B018
    assert driver.on_compile == before


def test_summary(no_disk):
    with velax.inspect.compile_log() as log:
        for k in range(4):
            velax.jit(lambda x, k=k: jnp.exp(x) + k)(X)
    header, *rows, total = velax.inspect.summary(log, limit=3).splitlines()
    assert header.split() == ["function", "equations", "kernels", "new", "ms"]
    assert len(rows) == 3 and all(row.startswith("<lambda>") for row in rows)
    assert total.startswith("4 programs, 4 kernels, ") and "codegen" in total
    assert velax.inspect.summary([]).splitlines()[-1] == "0 programs, 0 kernels, 0 ms ()"


def test_the_examples_run():
    result = doctest.testmod(velax.inspect)
    assert result.attempted and not result.failed


# -- donation ------------------------------------------------------------------------------------


def donate(fun, *args, argnums=0):
    """Call ``fun`` jitted with donation; ``(result, whether it lies where the first argument was)``."""
    where = args[0].unsafe_buffer_pointer()
    out = velax.jit(fun, donate_argnums=argnums)(*args)
    assert args[0].is_deleted()
    return out, out.unsafe_buffer_pointer() == where


def test_elementwise_results_take_donated_memory():
    out, reused = donate(lambda x: jnp.sin(x) * 2, jnp.arange(1000.0))
    assert reused
    np.testing.assert_allclose(out, np.sin(np.arange(1000, dtype=np.float32)) * 2, rtol=1e-5, atol=1e-5)


def test_updates_are_in_place():
    x = np.arange(4096, dtype=np.float32)
    expected = x.copy()
    expected[7] = -1
    out, reused = donate(lambda x: x.at[7].set(-1.0), jnp.asarray(x.copy()))
    assert reused
    np.testing.assert_array_equal(out, expected)


def test_updates_in_a_loop_are_in_place():
    def fill(x):
        return lax.fori_loop(0, 10, lambda i, c: c.at[i].set(i * 1.0), x)

    out, reused = donate(fill, jnp.full((1 << 16,), 9.0))
    assert reused
    np.testing.assert_array_equal(out[:12], [*range(10), 9, 9])


def test_a_training_step_keeps_its_memory():
    w = jnp.ones((64, 32))
    x = jnp.ones((8, 64))
    out, reused = donate(lambda w, x: w - 0.01 * velax.grad(lambda w: ((x @ w) ** 2).mean())(w), w, x)
    assert reused and not x.is_deleted()
    np.testing.assert_allclose(out, 1 - 0.01 * 2 * 64 * 8 / (8 * 32), rtol=1e-5)


@pytest.mark.parametrize(
    ("fun", "unusable"),
    [
        (lambda x, y: x.sum(), ["float32[4]"]), (lambda x, y: x + y, ["float32[4]"]), (lambda x, y: (x + y, y), []),
        (lambda x, y: x.reshape(2, 2), []), (lambda x, y: x.astype("int32"), []), (lambda x, y: np.zeros(3), []),
        (lambda x, y: x.sum() + y[:2], ["float32[4]", "float32[4]"]),
    ],
)  # fmt: skip
def test_donation_of_no_use_is_warned_of_once(fun, unusable):
    for lib in (velax, jax):
        f = lib.jit(fun, donate_argnums=(0, 1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                f(lib.numpy.ones(4), lib.numpy.ones(4))
        messages = [str(w.message) for w in caught]
        assert len(messages) == bool(unusable), (lib, messages)
        for message in messages:
            assert message.startswith(f"Some donated buffers were not usable: {', '.join(unusable)}."), (lib, message)
        assert lib is jax or all(w.filename == __file__ for w in caught)


def test_stages_warn_of_it_where_they_compile():
    lowered = velax.jit(lambda x: x.sum(), donate_argnums=0).lower(jnp.ones(4))
    lowered.as_text()
    with pytest.warns(UserWarning, match="Some donated buffers were not usable") as caught:
        lowered.compile()
    assert [w.filename for w in caught] == [__file__]


def test_without_donation_nothing_is_overwritten():
    x = jnp.arange(100.0)
    out = velax.jit(lambda x: x.at[0].set(5.0))(x)
    assert out.unsafe_buffer_pointer() != x.unsafe_buffer_pointer() and not x.is_deleted()
    np.testing.assert_array_equal(x, np.arange(100))


def test_memory_that_somebody_looks_at_is_not_taken():
    x = jnp.arange(100.0) + 0
    view = np.asarray(x)
    out = velax.jit(lambda x: x + 1, donate_argnums=0)(x)
    np.testing.assert_array_equal(view, np.arange(100))
    np.testing.assert_array_equal(out, np.arange(100) + 1)


def test_a_swap_of_donated_arrays():
    a, b = jnp.arange(1000.0), -jnp.arange(1000.0)
    x, y = velax.jit(lambda a, b: (b * 1.0, a * 1.0), donate_argnums=(0, 1))(a, b)
    np.testing.assert_array_equal(x, -np.arange(1000))
    np.testing.assert_array_equal(y, np.arange(1000))


def test_donation_by_name():
    x = jnp.arange(64.0)
    where = x.unsafe_buffer_pointer()
    out = velax.jit(lambda *, state: state * 2, donate_argnames="state")(state=x)
    assert x.is_deleted() and out.unsafe_buffer_pointer() == where


# -- source locations ----------------------------------------------------------------------------


def here():
    return source.current()


def test_locations_are_of_the_users_line():
    def f(x):
        y = jnp.sin(x)
        return lax.cond(
            y > 0,
            lambda v: jnp.where(v > 0, v, 1.0),
            lambda v: v, y)  # fmt: skip

    first = f.__code__.co_firstlineno
    jaxpr = velax.make_jaxpr(f)(1.0).jaxpr
    lines = {e.primitive.name: e.source_info.line - first for e in jaxpr.eqns}
    assert lines["sin"] == 1 and lines["gt"] == 3
    assert all(__file__ in str(e.source_info) for e in jaxpr.eqns)
    branch = next(e for e in jaxpr.eqns if e.primitive.name == "cond").params["branches"][1].jaxpr
    assert {e.source_info.line - first for e in branch.eqns} == {4}


def test_locations_hold_no_frames():
    class Witness:
        pass

    def trace():
        witness = Witness()
        velax.make_jaxpr(lambda x: (witness, jnp.sin(x))[1])(1.0)
        location = source.current()
        return location, weakref.ref(witness)

    location, witness = trace()
    gc.collect()
    assert witness() is None and location.code is trace.__code__


def test_excluded_code_is_skipped(monkeypatch):
    monkeypatch.setattr(source, "_excluded", list(source._excluded))
    names = {}
    exec(compile("def through(f):\n    return f()\n", "/somewhere/layers/core.py", "exec"), names)
    through = names["through"]
    assert through(source.current).code is through.__code__
    source.register_exclusion("/somewhere/layers/")
    assert through(source.current).code is test_excluded_code_is_skipped.__code__
    monkeypatch.undo()
    source.register_exclusion("/nothing/here/")  # answers are given anew
    assert through(source.current).code is through.__code__
    source._excluded.remove("/nothing/here/")


def test_locations_of_threads():
    seen = {}

    def work(k):
        with source.name_scope(f"t{k}"):
            seen[k] = here()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {k: i.name_stack for k, i in seen.items()} == {k: f"t{k}" for k in range(4)}
    assert all(i.code is here.__code__ for i in seen.values())
    assert here().name_stack == ""


def test_code_made_at_run_time():
    for k in range(3):  # a new code object each time, perhaps where an old one was
        names = {"current": source.current}
        exec(compile(f"{'pass;' * k}location = current()", f"<made {k}>", "exec"), names)
        assert names["location"].code.co_filename == f"<made {k}>"
