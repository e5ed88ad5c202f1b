"""Options about the programs that are compiled: where they are written to, and the warning about captured arrays."""

import re
import warnings

import jax
import numpy as np
import pytest

import velax
import velax.numpy

BOTH = pytest.mark.parametrize("lib", [velax, jax], ids=["velax", "jax"])


# Programs written to files


def files(folder):
    return sorted(re.sub(r"\d+", "N", path.name) for path in folder.iterdir())


def test_jaxprs_are_written(tmp_path, update_both):
    texts = []
    for lib in (velax, jax):
        folder = tmp_path / lib.__name__ / "made"

        def dumped(x, lib=lib):
            return lib.numpy.sin(x) * 2

        x = lib.numpy.ones(3)
        update_both("jax_dump_ir_modes", "jaxpr")
        update_both("jax_dump_ir_to", folder)
        f = lib.jit(dumped)
        f(x)
        f(x)
        lib.jit(lambda x: x - 1)(x)
        lib.lax.tan(x)
        update_both("jax_dump_ir_to", "")
        f(x[:2])
        assert files(folder) == ["jax_N_<lambda>.jaxpr.txt", "jax_N_dumped.jaxpr.txt", "jax_N_tan.jaxpr.txt"]
        texts.append([path.read_text() for path in sorted(folder.iterdir())])
        numbers = [int(path.name.split("_")[1]) for path in sorted(folder.iterdir())]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert texts[0] == texts[1]


def test_graphs_are_written(tmp_path, update_both):
    update_both("jax_dump_ir_to", str(tmp_path))  # by default, the form that is compiled
    x = np.ones(3, np.float32)
    lowered = velax.jit(lambda x: x * 2).lower(x)
    lowered.compile()
    velax.jit(abs_difference)(x, x)
    assert files(tmp_path) == ["jax_irN_jit__lambda_compile.graph.txt", "jax_irN_jit_abs_difference_compile.graph.txt"]
    graph = next(tmp_path.glob("*lambda*")).read_text()
    assert graph and lowered.as_text().endswith(graph)
    update_both("jax_dump_ir_modes", "stablehlo,jaxpr")
    velax.jit(lambda x: x * 3)(x)
    assert files(tmp_path)[-1] == "jax_irN_jit_abs_difference_compile.graph.txt" and len(files(tmp_path)) == 4


def abs_difference(x, y):
    return abs(x - y)


def test_a_folder_that_cannot_be_made(tmp_path, update_both):
    (tmp_path / "file").write_text("")
    update_both("jax_dump_ir_to", tmp_path / "file" / "below")
    with pytest.raises(NotADirectoryError):
        velax.jit(lambda x: x * 4)(1.0)
    update_both("jax_dump_ir_to", "")
    assert velax.jit(lambda x: x * 4)(1.0) == 4


# Captured arrays


def captured_warnings(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return caught


@BOTH
@pytest.mark.parametrize("limit, warns", [(3999, True), (4000, True), (4001, False), (-1, False)])
def test_captured_arrays(lib, limit, warns, update_both):
    table = lib.numpy.arange(1000, dtype="float32")
    update_both("jax_captured_constants_warn_bytes", limit)
    f = lib.jit(lambda x: table[0] + x * table)
    x, y = np.float32(2), np.ones(1000, np.float32)
    caught = captured_warnings(lambda: (f(x), f(x), f(y)))
    assert len(caught) == 2 * warns  # once a program
    for w in caught:
        assert w.category is UserWarning
        assert re.match(r"A large amount of constants were captured .*\(4\.00KB total\)", str(w.message))
        assert "captured_constants_warn_bytes" in str(w.message).lower()
        assert "captured_constants_report_frames=-1" in str(w.message).lower()


def test_the_warning_points_to_the_users_line(update_both):
    table = velax.numpy.arange(1000.0)
    update_both("jax_captured_constants_warn_bytes", 1000)
    (warning,) = captured_warnings(lambda: velax.jit(lambda x: x + table)(1.0))
    assert warning.filename == __file__


@BOTH
def test_a_report_of_captured_arrays(lib, update_both):
    table, small = lib.numpy.arange(1000, dtype="float32"), lib.numpy.arange(3)
    update_both("jax_captured_constants_warn_bytes", 1000)
    update_both("jax_captured_constants_report_frames", 1)

    def reads(x):
        y = x * small
        return y.sum() + table + small[0]

    line = reads.__code__.co_firstlineno
    (report,) = [str(w.message) for w in captured_warnings(lambda: lib.jit(reads)(np.float32(1)))]
    large, _, less = report[report.index("float32[1000]") :].partition("int32[3]")
    for text, size, lines in ((large, "4.00KB", [line + 2]), (less, "12.00B", [line + 1, line + 2])):
        assert text.count(size) == 1
        found = re.findall(rf"\n\s+{re.escape(__file__)}:(\d+).* \(.*reads\)", text)
        assert sorted(set(map(int, found))) == lines


def test_a_report_of_what_a_called_function_reads(update_both):
    table = velax.numpy.arange(1000.0)
    inner = velax.jit(lambda x: x * table)
    update_both("jax_captured_constants_warn_bytes", 1000)
    update_both("jax_captured_constants_report_frames", -1)
    (warning,) = captured_warnings(lambda: velax.jit(lambda x: inner(x) + inner(2 * x))(1.0))
    line = f"{__file__}:{test_a_report_of_what_a_called_function_reads.__code__.co_firstlineno + 2}"
    assert str(warning.message).count(__file__) == 1 and line in str(warning.message)
