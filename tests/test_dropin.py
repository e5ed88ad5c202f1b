"""Programs that say ``import jax``, run unmodified by ``python -m velax`` and after `install_as_jax`."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from velax._compat import JAX_VERSION

ROOT = Path(__file__).parent.parent


def run(*arguments, source=None, cwd=None, code=0):
    """Standard output (standard error if it must fail) of ``python <arguments>``, with Velax importable from
    anywhere.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        input=source,
        timeout=120,
    )
    assert done.returncode == code, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def run_script(tmp_path, program, *arguments, code=0):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    return run("-m", "velax", script, *arguments, cwd=tmp_path, code=code)


# -- whole programs ------------------------------------------------------------------------------


def test_program_jit(tmp_path):
    out = run_script(
        tmp_path,
        """
        import jax
        import jax.numpy as jnp

        @jax.jit
        def square(x):
            return x**2

        print(square(jnp.array([1, 2, 3, 4])))
        """,
    )
    assert out == "[ 1  4  9 16]\n"


def test_program_grad(tmp_path):
    out = run_script(
        tmp_path,
        """
        import jax

        def f(x):
            return x**2 + 2*x + 1

        df = jax.grad(f)
        d2f = jax.grad(df)
        print(df(3.0))
        print(d2f(3.0))
        """,
    )
    assert out == "8.0\n2.0\n"


def test_program_immutable_arrays(tmp_path):
    out = run_script(
        tmp_path,
        """
        import jax.numpy as jnp

        arr = jnp.array([1, 2, 3, 4])
        try:
            arr[0] = 10
        except TypeError as e:
            print(e)
        print(arr.at[0].set(10))
        print(arr)
        """,
    )
    lines = out.splitlines()
    assert lines[-2:] == ["[10  2  3  4]", "[1 2 3 4]"]
    assert "immutable" in lines[0] and "x = x.at[idx].set(y)" in lines[0]


# -- imports -------------------------------------------------------------------------------------

IMPORTS = """
import sys
import jax, jax.numpy as jnp
from jax.numpy import sin, concatenate
import jax.scipy.special
import jax.scipy.stats.norm as norm
from jax.tree_util import tree_map, Partial
from jax import lax, random, nn, grad, jit, vmap, Array
from jax.random import PRNGKey, split
from jax.nn import relu, initializers
import jax.interpreters.ad, jax.interpreters.mlir
from jax.extend.core import Primitive
from jax.extend import core as jex_core
import jax.core, jax.dtypes, jax.errors, jax.flatten_util, jax.ad_checkpoint, jax.custom_derivatives, jax.typing, jax.debug, jax.sharding
from jax._src import core as private_core
from jax.lax import scan, cond
import velax, velax.numpy
assert jnp is velax.numpy and jax.numpy is velax.numpy and sys.modules["jax.numpy"] is velax.numpy
assert jax.scipy.special is velax.scipy.special and tree_map is velax.tree_util.tree_map
assert sin is velax.numpy.sin and jax.jit is velax.jit and Primitive is velax.extend.core.Primitive
assert jax.__version__ == "0.10.2" and jax.__version_info__ == (0, 10, 2)
assert velax.numpy.__name__ == "velax.numpy" and velax.numpy.__spec__.name == "velax.numpy"
assert not any(m == "jaxlib" or m.startswith("jaxlib.") for m in sys.modules), [m for m in sys.modules if "jaxlib" in m]
import importlib.metadata
print(jax.tree_util.tree_map(lambda x: x + 1, {"a": 1}), isinstance(jnp.zeros(1), Array), type(jnp.zeros(1)).__module__.split(".")[0])
"""


def test_submodules_are_velax_s_own(tmp_path):
    assert run_script(tmp_path, IMPORTS) == "{'a': 2} True velax\n"


def test_install_as_jax_in_process():
    out = run("-c", "import velax\nvelax.install_as_jax()\nvelax.install_as_jax()\n" + IMPORTS)
    assert out == "{'a': 2} True velax\n"


def test_install_after_real_jax_is_refused():
    out = run("-c", "import jax, velax\ntry:\n    velax.install_as_jax()\nexcept RuntimeError as e:\n    print(e)")
    assert "JAX is imported already" in out


def test_lazy_submodules_exist():
    """``hasattr(jax, name)`` answers for every submodule that there is, and for one that there is not."""
    out = run(
        "-m", "velax", "-c",
        """
import pkgutil, jax, velax
there = {m.name for m in pkgutil.iter_modules(velax.__path__) if not m.name.startswith("_") and m.name not in ("inspect", "test_util")}
print(sorted(n for n in velax._LAZY if n not in there), sorted(n for n in there if not hasattr(jax, n)), hasattr(jax, "no_such"))
print(jax.__file__ == velax.__file__ and velax.__file__ in repr(jax))
""",
    )  # fmt: skip
    assert out == "[] [] False\nTrue\n"


def test_unknown_submodule():
    out = run("-m", "velax", "-c", "import jax.no_such_module", code=1)
    assert "ModuleNotFoundError: No module named 'jax.no_such_module'" in out
    out = run("-m", "velax", "-c", "from jax import no_such_name", code=1)
    assert "ImportError: cannot import name 'no_such_name'" in out


def test_errors_keep_jax_s_names(tmp_path):
    out = run_script(
        tmp_path,
        """
        import jax
        try:
            jax.jit(lambda x: x if x > 0 else -x)(1.0)
        except jax.errors.TracerBoolConversionError as e:
            print("caught", isinstance(e, jax.errors.ConcretizationTypeError), isinstance(e, TypeError))
        """,
    )
    assert out == "caught True True\n"


# -- the command line ----------------------------------------------------------------------------


def test_arguments_and_main(tmp_path):
    program = """
    import sys
    print(__name__, sys.argv, __file__)
    """
    out = run_script(tmp_path, program, "one", "--two")
    assert out == f"__main__ {[str(tmp_path / 'script.py'), 'one', '--two']} {tmp_path / 'script.py'}\n"


def test_locations_in_a_script_outlive_a_change_of_directory(tmp_path):
    (tmp_path / "s.py").write_text("import os, sys; os.chdir('/'); print(sys.argv[0], __file__)")
    assert run("-m", "velax", "s.py", cwd=tmp_path) == f"s.py {tmp_path / 's.py'}\n"


def test_annotations_of_a_program_are_evaluated(tmp_path):
    program = "import sys\ndef f(x: int): pass\nprint(f.__annotations__['x'] is int)"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(program)
    outputs = [
        run("-m", "velax", "-c", program),
        run_script(tmp_path, program),
        run("-m", "velax", tmp_path / "folder"),
    ]
    assert outputs == ["True\n"] * 3


def test_modules_beside_the_script(tmp_path):
    (tmp_path / "helper.py").write_text("import jax\nNAME = jax.numpy.__name__\n")
    assert run_script(tmp_path, "import helper\nprint(helper.NAME)") == "velax.numpy\n"


def test_program_text():
    out = run(
        "-m",
        "velax",
        "-c",
        "import sys, jax; print(jax.numpy.add(1, 2), sys.argv)\ndef f(): return sys\nprint(f() is sys)",
        "a",
        "-b",
    )
    assert out == "3 ['-c', 'a', '-b']\nTrue\n"


def test_program_from_standard_input():
    program = "import sys, jax\nx = jax.numpy.add(1, 2)\ndef f(): return x\nprint(f(), sys.argv, __name__)"
    assert run("-m", "velax", "-", "a", source=program) == "3 ['-', 'a'] __main__\n"
    assert run("-m", "velax", source="print('piped')") == "piped\n"
    assert 'File "<stdin>", line 2, in <module>' in run("-m", "velax", "-", source="x = 1\nx / 0", code=1)


def test_module(tmp_path):
    package = tmp_path / "program"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import sys, jax\nfrom program import part\nprint(__name__, sys.argv[1:], part.VALUE)\n"
    )
    (package / "part.py").write_text("import jax.numpy as jnp\nVALUE = int(jnp.sum(jnp.arange(4)))\n")
    assert run("-m", "velax", "-m", "program", "x", "y", cwd=tmp_path) == "__main__ ['x', 'y'] 6\n"
    (tmp_path / "single.py").write_text("import jax\nprint(jax.grad(lambda x: x * x)(2.0))\n")
    assert run("-m", "velax", "-m", "single", cwd=tmp_path) == "4.0\n"


@pytest.mark.parametrize(
    ("program", "code"), [("import sys; sys.exit(7)", 7), ("raise SystemExit", 0), ("1 / 0", 1), ("exit()", 0)]
)
def test_exit_status(tmp_path, program, code):
    run_script(tmp_path, program, code=code)
    run("-m", "velax", "-c", program, code=code)


def test_usage_errors(tmp_path):
    assert "usage" in run("-m", "velax", "--help")
    assert "no such file" in run("-m", "velax", tmp_path / "missing.py", code=2)
    assert "unknown option -x" in run("-m", "velax", "-x", code=2)
    assert "-c needs an argument" in run("-m", "velax", "-c", code=2)


def test_traceback_of_a_script_shows_its_lines_only(tmp_path):
    err = run_script(
        tmp_path, "import jax.numpy as jnp\ndef f(x):\n    return x + jnp.ones(4)\nf(jnp.ones(3))\n", code=1
    )
    assert "return x + jnp.ones(4)" in err and "TypeError" in err
    assert f"{os.sep}velax{os.sep}_" not in err


SPAWNING = """
import multiprocessing, sys
import jax

def work(x):
    import velax
    return jax.jit(lambda x: 2 * x)(x), jax.jit is velax.jit

if __name__ == "__main__":
    for method in sys.argv[1:]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, *pool.map(work, [jax.numpy.arange(3)]))
"""


def test_processes_started_by_multiprocessing(tmp_path):
    expected = "(Array([0, 2, 4], dtype=int32), True)"
    out = run_script(tmp_path, SPAWNING, "fork", "spawn")
    assert out == f"fork {expected}\nspawn {expected}\n"
    (tmp_path / "spawning.py").write_text(SPAWNING)
    assert run("-m", "velax", "-m", "spawning", "spawn", cwd=tmp_path) == f"spawn {expected}\n"
    in_process = "import multiprocessing.spawn, velax\nvelax.install_as_jax()\n" + SPAWNING
    (tmp_path / "in_process.py").write_text(in_process)
    assert run("in_process.py", "spawn", cwd=tmp_path) == f"spawn {expected}\n"


def test_no_files_are_written(tmp_path):
    run_script(tmp_path, "import jax\nprint(jax.jit(lambda x: x + 1)(1))")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["script.py"]


def test_the_oracle_is_the_release_whose_interface_this_is():
    assert jax.__version__ == JAX_VERSION
    assert f'"jax=={JAX_VERSION}"' in (ROOT / "pyproject.toml").read_text()
