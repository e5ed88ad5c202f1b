"""The import order of the architecture: a layer imports only from those above it in `docs/architecture.md`."""

import ast
import pathlib

import pytest

import velax

PACKAGE = pathlib.Path(velax.__file__).parent

#: layers from the bottom up; a module belongs to the first prefix that fits
LAYERS = [
    ("_native",),
    ("tree_util", "_tree_prefix", "tree"),
    ("_lang",),
    ("_ir",),
    ("_transforms",),
    ("lax",),
    ("_compiler",),
    ("_backends",),
    ("numpy",),
    ("",),  # the other libraries and the top level
]


def _layer(module: str) -> int:
    name = module.removeprefix("velax").lstrip(".")
    if not name:
        return len(LAYERS) - 1
    for level, prefixes in enumerate(LAYERS):
        if any(p and (name == p or name.startswith(p + ".")) for p in prefixes):
            return level
    return len(LAYERS) - 1


def _imports(tree: ast.Module):
    """Modules of velax imported at import time (not inside functions)."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "velax")
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and node.module
            and node.module.split(".")[0] == "velax"
        ):
            if node.module == "velax":
                yield from ((node.lineno, f"velax.{a.name}") for a in node.names)
            else:
                yield node.lineno, node.module
        pending.extend(ast.iter_child_nodes(node))


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_lower_layers(path):
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    module = ".".join(relative.parts).removesuffix(".__init__")
    level = _layer(module)
    upward = [f"line {line}: {name}" for line, name in _imports(ast.parse(path.read_text())) if _layer(name) > level]
    assert not upward, f"{module} (layer {level}) imports from layers above it: {upward}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_never_imports_the_oracle(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
        assert not any(n.split(".")[0] in ("jax", "jaxlib") for n in names), f"{path} imports {names}"
