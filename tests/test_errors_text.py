"""What errors say, and the tracebacks that users see."""

import os
import pickle
import re
import traceback

import jax
import jax.errors
import jax.numpy as jnp
import numpy as np
import pytest

import velax.errors as public
from velax._lang import config, errors, source, traceback as tracebacks
from velax._lang.avals import ShapedArray


class Traced:
    """What the errors ask of a tracer."""

    def __init__(self, shape=(), dtype="float32", origin=True):
        self.aval = ShapedArray(shape, dtype)
        self._origin = origin

    def _error_repr(self):
        return f"traced array with shape {self.aval.str_short()}"

    def _origin_msg(self):
        if not self._origin:
            return ""
        return (
            "The error occurred while tracing the function f at file.py:3 for jit. This concrete value was not "
            "available in "
            "Python because it depends on the value of the argument x."
        )


X = Traced()
CASES = [
    (
        errors.ConcretizationTypeError(X, "The problem arose with the `float` function."),
        "Abstract tracer value encountered where concrete value is expected: traced array with shape float32[]",
        ["`float` function", "static_argnums"],
    ),
    (
        errors.TracerBoolConversionError(Traced(dtype="bool")),
        "Attempted boolean conversion of traced array with shape bool[].",
        ["jnp.where(condition, a, b)", "lax.cond", "lax.while_loop", "jnp.logical_and", "static_argnames"],
    ),
    (
        errors.TracerArrayConversionError(X),
        "The numpy.ndarray conversion method __array__() was called on traced array with shape float32[]",
        ["velax.numpy", "jnp.asarray(table)[i]", "velax.pure_callback"],
    ),
    (
        errors.TracerIntegerConversionError(Traced(dtype="int32")),
        "The __index__() method was called on traced array with shape int32[]",
        ["jnp.asarray(values)[i]", "lax.switch", "lax.fori_loop", "static_argnums"],
    ),
    (
        errors.NonConcreteBooleanIndexError(Traced((3,), "bool")),
        "Array boolean indices must be concrete; got bool[3]",
        ["jnp.where(mask, x, fill)", "where=mask", "jnp.nonzero(mask, size=n"],
    ),
]


@pytest.mark.parametrize(
    "error, lead, advice", CASES, ids=lambda c: type(c).__name__ if isinstance(c, Exception) else ""
)
def test_messages(error, lead, advice):
    message = str(error)
    assert message.startswith(lead)
    assert "depends on the value of the argument x" in message
    for text in advice:
        assert text in message
    assert "\n\n" not in message and not message.endswith("\n")


@pytest.mark.parametrize("error", [case[0] for case in CASES], ids=lambda e: type(e).__name__)
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)


def test_values_of_unknown_origin():
    assert str(errors.TracerBoolConversionError(Traced(origin=False))).count("\n") == 1
    assert "static_argnums" not in str(errors.ConcretizationTypeError(Traced(origin=False)))


def test_leads_are_those_of_jax():
    def lead_of(f, *args):
        with pytest.raises((TypeError, IndexError)) as raised:
            jax.jit(f)(*args)
        return str(raised.value).splitlines()[0].rstrip(".")

    theirs = {
        "ConcretizationTypeError": lead_of(float, 1.0),
        "TracerBoolConversionError": lead_of(lambda x: 1 if x > 0 else 2, 1.0),
        "TracerArrayConversionError": lead_of(lambda x: np.sin(x), 1.0),
        "TracerIntegerConversionError": lead_of(lambda i: [1, 2][i], 0),
        "NonConcreteBooleanIndexError": lead_of(lambda x: x[x > 0], jnp.ones(3)),
    }
    assert {type(error).__name__: lead.rstrip(".") for error, lead, _ in CASES} == theirs


def test_unexpected_tracers():
    message = str(errors.UnexpectedTracerError("It came from f."))
    assert message.startswith("Encountered an unexpected tracer. It came from f.\n")
    assert "velax.checking_leaks()" in message
    assert str(errors.UnexpectedTracerError("Encountered an unexpected tracer. X")).count("Encountered") == 1


def test_leaks():
    message = str(errors.LeakedTracerError("the function f at a.py:1 for jit", ["float32[3]", "int32[]"]))
    assert message.startswith(
        "Leaked 2 traced values from the function f at a.py:1 for jit:\n  float32[3]\n  int32[]\n"
    )
    assert "Return such values instead" in message


def test_the_hierarchy_is_that_of_jax():
    for name in public.__all__:
        ours, theirs = getattr(public, name), getattr(jax.errors, name)
        bases = {b.__name__ for b in theirs.__mro__} - {"_JAXErrorMixin"}
        assert bases <= {b.__name__ for b in ours.__mro__}, name
        if name != "JaxprTypeError":
            assert ours.__module__ == "velax.errors"
    exported = {n for n in dir(jax.errors) if n[0].isupper()}
    assert set(public.__all__) == exported
    assert issubclass(errors.TypePromotionError, ValueError)


# Tracebacks

LIBRARY = os.path.join(os.path.dirname(source.__file__), "imagined.py")


def imagined_library():
    """Functions whose code is in the library's folder."""
    text = (
        "def helper(f, x):\n    return f(x)\n"
        "def outer(f, x):\n    return helper(f, x)\n"
        "def failing(x):\n    raise ValueError('bad')\n"
        "def chained(x):\n    try:\n        {}[x]\n    except KeyError as e:\n        raise ValueError('bad') from e\n"
    )
    names = {}
    exec(compile(text, LIBRARY, "exec"), names)
    return {n: tracebacks.api_boundary(names[n]) for n in ("outer", "failing", "chained")}


LIB = imagined_library()


def user(x):
    return LIB["failing"](x)


def caught(f, mode):
    with config.traceback_filtering(mode):
        try:
            f()
        except ValueError as error:
            return error
    raise AssertionError("nothing was raised")


def names_in(tb):
    return [frame.name for frame in traceback.extract_tb(tb)]


def call():
    LIB["outer"](user, 1)


@pytest.mark.parametrize("mode", ["quiet_remove_frames", "auto"])
def test_frames_are_removed_with_a_note(mode):
    error = caught(call, mode)
    assert names_in(error.__traceback__) == ["caught", "call", "user"]
    [note] = error.__notes__
    assert "JAX_TRACEBACK_FILTERING=off" in note
    assert str(error) == "bad"


def test_frames_are_removed_with_a_cause():
    error = caught(call, "remove_frames")
    assert names_in(error.__traceback__) == ["caught", "call", "user"]
    assert isinstance(error.__cause__, tracebacks.UnfilteredStackTrace)
    whole = names_in(error.__cause__.__traceback__)
    assert [n for n in whole if n in ("outer", "helper", "user", "failing")] == ["outer", "helper", "user", "failing"]


def test_an_earlier_cause_stays_reachable():
    error = caught(lambda: LIB["chained"](1), "remove_frames")
    assert isinstance(error.__cause__.__cause__, KeyError)
    error = caught(lambda: LIB["chained"](1), "quiet_remove_frames")
    assert isinstance(error.__cause__, KeyError)


def test_frames_are_hidden():
    error = caught(call, "tracebackhide")
    tb, hidden = error.__traceback__, []
    while tb is not None:
        if tb.tb_frame.f_locals.get("__tracebackhide__"):
            hidden.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    assert set(hidden) == {"outer", "helper", "failing", "call_through_boundary"}


def test_nothing_is_changed():
    error = caught(call, "off")
    assert "helper" in names_in(error.__traceback__)
    assert not hasattr(error, "__notes__") and error.__cause__ is None


def test_only_the_outermost_boundary_filters():
    seen = []

    def nosy(x):
        try:
            LIB["failing"](x)
        except ValueError as error:
            seen.extend(names_in(error.__traceback__))
            raise

    error = caught(lambda: LIB["outer"](nosy, 1), "auto")
    assert "failing" in seen
    assert names_in(error.__traceback__) == ["caught", "<lambda>", "nosy"]


def test_excluded_paths(monkeypatch):
    monkeypatch.setattr(source, "_excluded", list(source._excluded))
    text = compile("def middle(f, x):\n    return f(x)\n", "/somewhere/framework/layers.py", "exec")
    names = {}
    exec(text, names)
    failing = LIB["failing"]
    boundary = tracebacks.api_boundary(lambda: names["middle"](failing, 1))
    assert "middle" in names_in(caught(boundary, "auto").__traceback__)
    tracebacks.register_exclusion("/somewhere/framework/")
    assert "middle" not in names_in(caught(boundary, "auto").__traceback__)


def test_a_boundary_keeps_the_function():
    def f(a, *, b=2):
        """Doc."""
        return a, b

    wrapped = tracebacks.api_boundary(f)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("f", "Doc.", f)
    assert wrapped(1, b=3) == (1, 3)


def test_texts_name_nobody_elses_pages():
    for error, _, _ in CASES:
        assert not re.search(r"https?://|JAX ", str(error))
