// Thread-local state: the current trace and the configuration, and the few types registered by Python
// that native call paths have to recognise.
#pragma once
#include <Python.h>

#include <cstdint>

namespace velax {

// Bits of the configuration that native code reads itself. Everything else about the configuration is
// behind the key object, which native code only compares by identity.
enum ConfigFlag : uint32_t {
  CONFIG_X64 = 1,          // 64-bit dtypes are kept (off: i64 -> i32, f64 -> f32, ...)
  CONFIG_DISABLE_JIT = 2,  // jitted functions run their Python bodies
  CONFIG_DEBUG = 4,        // debugging modes that the native call path does not implement
};
constexpr uint32_t CONFIG_SLOW_MASK = CONFIG_DISABLE_JIT | CONFIG_DEBUG;

// What one thread has set. The object is owned by the thread's Python state dictionary, so that the
// garbage collector sees through it and it dies with the thread while the GIL is held; `tls_state`
// only borrows it. Threads that never set anything share `unset_state`, which is immortal and
// all-null.
struct ThreadState {
  PyObject_HEAD
  PyObject* trace;       // nullptr stands for None: eager evaluation
  PyObject* config_key;  // nullptr: the process default applies
  uint32_t config_flags;  // meaningful when config_key is set
};

struct GlobalConfig {
  PyObject* key;  // owned; never null once the module is imported
  uint32_t flags;
};

extern ThreadState unset_state;
extern __thread ThreadState* tls_state;
extern GlobalConfig global_config;
// The base class of tracers, registered with `_native.set_tracer_type`; nullptr before that.
extern PyTypeObject* tracer_type;

// All of the following need the GIL; the pointers returned are borrowed.

// The current trace, or nullptr when this thread evaluates eagerly.
inline PyObject* current_trace() { return tls_state->trace; }

inline PyObject* config_key() {
  PyObject* local = tls_state->config_key;
  return local ? local : global_config.key;
}

inline uint32_t config_flags() {
  const ThreadState* state = tls_state;
  return state->config_key ? state->config_flags : global_config.flags;
}

inline bool is_tracer(PyObject* object) {
  return tracer_type != nullptr && PyObject_TypeCheck(object, tracer_type);
}

inline bool x64_enabled() { return config_flags() & CONFIG_X64; }

// Makes `trace` (nullptr or None: eager) current and returns the reference that was held before
// (nullptr for None). `*failed` is set, with a Python error, when there was no memory for the state.
PyObject* exchange_trace(PyObject* trace, bool* failed);

}  // namespace velax
