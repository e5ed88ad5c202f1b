"""Why a jitted function is traced again: the explanations of the option ``jax_explain_cache_misses``.

A trace is kept under the types of the call's arguments, their structure, the static arguments, the traced
options and the named axes in scope. The explanation compares these with those of the kept trace
that differs in the fewest places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from velax._lang import source
from velax._lang.avals import ShapedArray
from velax._lang.config import changed_options
from velax._lang.jaxpr import DebugInfo
from velax._lang.logs import log
from velax._tree_prefix import equality_errors_pytreedef
from velax.tree_util import keystr

__all__ = ["explain_miss"]

#: where functions were traced for the first time
_first_traces: set[str] = set()


def explain_miss(module: str, fun: Callable, key: tuple, known: Iterable[tuple], info: DebugInfo) -> None:
    """Log why a call needs a new trace.

    Args:
      module: whose logger.
      fun: the function; those that Velax defines itself are passed over.
      key: what the trace will be kept under: what it is for, tree and types of the arguments, static arguments,
        configuration, named axes.
      known: the keys of the traces that there are for the function.
      info: names of the function and its arguments.
    """
    code = source.code_of(fun)
    if code is not None and not source.is_user_code(code):
        return
    call = str(source.current())
    lines = [f"TRACING CACHE MISS at {call}:"]
    defined = f" defined at {info.func_filename}:{info.func_lineno}" if info.func_filename else ""
    known = [k for k in known if k[0] == key[0]]  # other transformations keep theirs beside them
    if known:
        differences = min((_differences(key, k, info.arg_names or ()) for k in reversed(known)), key=_extent)
        lines += [
            f"  for {info.func_name}{defined}",
            "  no trace of it is for a call like this. What differs from the closest one:",
        ]
        for what, places in differences:
            lines += [f"  {what}:", *(f"  * {place}" for place in places)]
    else:
        lines += ["  never seen function:", f"    {info.func_name} id={id(fun)}{defined}"]
        if call in _first_traces:
            lines += [
                "  another function was traced first by the same call; if this one is defined anew each time, what was",
                "  traced and compiled for it is lost each time: define it once, outside of the loop or function",
            ]
        _first_traces.add(call)
    log(module, True, "%s", "\n".join(lines))


def _extent(differences: list) -> int:
    return sum(len(places) for _, places in differences)


def _differences(new: tuple, old: tuple, arg_names: tuple) -> list[tuple[str, list[str]]]:
    """In what two calls differ: pairs of a kind of difference and its places."""
    _, new_tree, new_types, new_statics, new_config, new_axes = new
    _, old_tree, old_types, old_statics, old_config, old_axes = old
    found = [
        ("different options or context", [
            f"{name}, now {now!r} and before {before!r}" for name, now, before in changed_options(new_config, old_config)
        ]),
        ("different named axes", [f"now {new_axes} and before {old_axes}"] if new_axes != old_axes else []),
        ("different static arguments", _different_statics(new_statics, old_statics)),
        ("different input pytree", [
            f"at input path {keystr(tuple(path))}, now {now} and before {before}, so {why}"
            for path, now, before, why in equality_errors_pytreedef(new_tree, old_tree)
        ]),
    ]  # fmt: skip
    if new_tree == old_tree:
        found.append(("different input types", _different_types(arg_names, new_types, old_types)))
    return [(what, places) for what, places in found if places]


def _different_statics(new: tuple, old: tuple) -> list[str]:
    """Static arguments are pairs (position, `Static`) and pairs (name, `Static`)."""
    now, before = dict((*new[0], *new[1])), dict((*old[0], *old[1]))
    describe = lambda values, name: repr(values[name].value) if name in values else "not given"
    return [
        f"at {name if isinstance(name, str) else f'position {name}'}, now {describe(now, name)} and before "
        f"{describe(before, name)}"
        for name in {**now, **before}
        if now.get(name) != before.get(name)
    ]


def _different_types(arg_names: tuple, new: tuple, old: tuple) -> list[str]:
    places = []
    for i, (now, before) in enumerate(zip(new, old, strict=True)):
        if now != before:
            texts = [aval.str_short(short_dtypes=True) for aval in (now, before)]
            if type(now) is type(before) is ShapedArray and now.weak_type != before.weak_type:
                texts = [f"{t}{{weak_type={a.weak_type}}}" for t, a in zip(texts, (now, before), strict=True)]
            if texts[0] == texts[1]:
                texts = [repr(now), repr(before)]
            name = arg_names[i] if i < len(arg_names) else f"argument {i}"
            places.append(f"at {name}, now {texts[0]} and before {texts[1]}")
    return places
