#!/usr/bin/env bash
# Builds the extension module velax._native into build/native and puts it into velax/, where a source
# checkout imports it from. Incremental; prints nothing when all is well.
#   PYTHON      the interpreter to build for (default: python3)
#   BUILD_DIR   where to build (default: build/native)
#   BUILD_TYPE  CMake's build type (default: Release)
# Further arguments go to cmake, e.g. -DVELAX_SANITIZE=ON.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
build=${BUILD_DIR:-$root/build/native}
log=$build/build.log
mkdir -p "$build"

quietly() {
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
}

# Two builds in one folder would tear each other's files.
exec 9>"$build/.lock"
flock 9

generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
quietly cmake -S "$root" -B "$build" "${generator[@]}" -DPython_EXECUTABLE="$python" \
  -DCMAKE_BUILD_TYPE="${BUILD_TYPE:-Release}" "$@"
quietly cmake --build "$build"

module=$(ls -t "$build"/_native*.so | head -n 1)
# Linking a module does not find missing symbols; loading it does.
if ! "$python" -c "import sys; sys.path.insert(0, sys.argv[1]); import _native" "$build" >"$log" 2>&1; then
  cat "$log" >&2
  echo "$module was built, but $python cannot load it, so velax/ keeps the old one" >&2
  exit 1
fi
target=$root/velax/$(basename "$module")
if ! cmp -s "$module" "$target"; then
  # A rename replaces the file at once: processes that have the old one mapped keep it.
  temporary=$(mktemp "$root/velax/.native.XXXXXX")
  trap 'rm -f "$temporary"' EXIT
  cp "$module" "$temporary"
  chmod 755 "$temporary"
  mv -f "$temporary" "$target"
fi
