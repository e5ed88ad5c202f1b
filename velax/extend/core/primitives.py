"""The built-in primitives by name, ``add_p`` and so on: a view of all records."""

from velax._lang.primitive import all_primitives as _all

#: names under which JAX exports primitives whose own name differs
_EXPORTED_AS = {
    "remat2": "remat_p", "while": "while_p", "and": "and_p", "or": "or_p", "not": "not_p", "xor": "xor_p",
    "name": "name_p", "jit": "jit_p",
    "add_any": "add_jaxvals_p",
}  # fmt: skip


def _find(name):
    for p in _all:
        if type(p).__module__.startswith("velax") and _EXPORTED_AS.get(p.name, f"{p.name.replace('-', '_')}_p") == name:
            return p
    return None


def __getattr__(name):
    import velax.random  # the primitives of random keys are defined there

    del velax
    found = _find(name) if name.endswith("_p") else None
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found


def __dir__():
    return sorted(_EXPORTED_AS.get(p.name, f"{p.name}_p") for p in _all)
