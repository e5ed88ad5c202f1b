// Adds the pytree types and functions to the module.
#include <nanobind/nanobind.h>

#include "pytree_internal.h"
#include "rooms.h"

namespace velax {

void bind_pytree(nanobind::module_& m) {
  if (!init_pytree_keys(m.ptr()) || !init_pytree_registry(m.ptr()) || !init_pytree_def(m.ptr()))
    nanobind::raise_python_error();
}

}  // namespace velax
