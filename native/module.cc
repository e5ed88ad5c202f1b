// The extension module `velax._native`: one bind function per room, each in its own file.
#include "rooms.h"

NB_MODULE(_native, m) {
  m.doc() = "Velax's native core: pytrees, arrays and buffers, call paths, thread pool, executor, loader.";
  velax::bind_pytree(m);
  velax::bind_array(m);
  velax::bind_runtime(m);
  velax::bind_state(m);
  velax::bind_source(m);
  velax::bind_stamp(m);
  velax::bind_jit(m);
}
