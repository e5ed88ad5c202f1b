#!/usr/bin/env bash
# Runs the native core's tests under the address and undefined-behaviour sanitizers.
#   tools/sanitize.sh [PYTHON]     an interpreter with the test dependencies
# The sanitized module goes into a copy of the package, so the working tree keeps its own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("${1:-python3}" -c 'import sys; print(sys.executable)')
work=$root/build/sanitize
mkdir -p "$work/package"
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
cmake -S "$root" -B "$work/native" "${generator[@]}" -DPython_EXECUTABLE="$python" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DVELAX_SANITIZE=ON >"$work/cmake.log"
cmake --build "$work/native" -j 2 >"$work/build.log" || { cat "$work/build.log"; exit 1; }
rm -rf "$work/package/velax" "$work/package/tests"
cp -r "$root/velax" "$work/package/velax"
rm -f "$work/package/velax"/_native*.so
cp "$work/native"/_native*.so "$work/package/velax/"
cp -r "$root/tests" "$work/package/tests"
cp "$root/pyproject.toml" "$work/package/"
cd "$work/package"
# Python itself does not free everything at exit, so leaks are looked for by the tests, not by the sanitizer.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1 PYTHONMALLOC=malloc PYTHONPATH=$work/package
exec "$python" -m pytest -p no:cacheprovider -x tests/test_tree_util.py tests/test_tree_native.py tests/test_array_native.py \
  tests/test_array_memory.py tests/test_jit_native.py tests/test_jit_native_object.py tests/test_state_native.py tests/test_runtime.py \
  tests/test_runtime_processes.py tests/test_loader.py tests/test_program.py tests/test_library_sort.py
