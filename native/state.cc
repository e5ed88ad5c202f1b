// Thread-local state: the current trace and the configuration override of each thread.
//
// The references live in an object stored in the thread's state dictionary (PyThreadState_GetDict):
// CPython clears that dictionary when the thread ends, with the GIL held, which a C++ thread_local
// destructor could not rely on.
#include "state.h"

#include <nanobind/nanobind.h>

#include "rooms.h"

namespace nb = nanobind;

namespace velax {

ThreadState unset_state = {};
__thread ThreadState* tls_state = &unset_state;
GlobalConfig global_config = {nullptr, 0};
PyTypeObject* tracer_type = nullptr;

namespace {

PyTypeObject* thread_state_type = nullptr;
PyObject* thread_state_name = nullptr;  // the key in the thread's dictionary

int thread_state_traverse(PyObject* self, visitproc visit, void* arg) {
  auto* state = reinterpret_cast<ThreadState*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(state->trace);
  Py_VISIT(state->config_key);
  return 0;
}

int thread_state_clear(PyObject* self) {
  auto* state = reinterpret_cast<ThreadState*>(self);
  Py_CLEAR(state->trace);
  Py_CLEAR(state->config_key);
  return 0;
}

void thread_state_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  // Usually the dying thread runs this itself. When another thread does (the interpreter's end, or the
  // child of a fork), the owner no longer runs Python code, so its pointer is never read again.
  if (reinterpret_cast<ThreadState*>(self) == tls_state) tls_state = &unset_state;
  thread_state_clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyType_Slot thread_state_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(thread_state_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(thread_state_clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(thread_state_dealloc)},
    {0, nullptr},
};

PyType_Spec thread_state_spec = {
    "velax._native.ThreadState", sizeof(ThreadState), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, thread_state_slots};

// The calling thread's own state, made on first use; nullptr with a Python error on failure.
ThreadState* own_state() {
  if (tls_state != &unset_state) return tls_state;
  PyObject* thread_dict = PyThreadState_GetDict();
  if (!thread_dict) {
    PyErr_SetString(PyExc_RuntimeError, "this thread has no Python thread state");
    return nullptr;
  }
  auto* state = PyObject_GC_New(ThreadState, thread_state_type);
  if (!state) return nullptr;
  state->trace = nullptr;
  state->config_key = nullptr;
  state->config_flags = 0;
  PyObject_GC_Track(state);
  int status = PyDict_SetItem(thread_dict, thread_state_name, reinterpret_cast<PyObject*>(state));
  Py_DECREF(state);
  if (status < 0) return nullptr;
  return tls_state = state;
}

PyObject* none_if_null(PyObject* owned) {
  if (owned) return owned;
  Py_RETURN_NONE;
}

PyObject* get_trace(PyObject*, PyObject*) {
  PyObject* trace = current_trace();
  return Py_NewRef(trace ? trace : Py_None);
}

PyObject* swap_trace(PyObject*, PyObject* trace) {
  bool failed = false;
  PyObject* old = exchange_trace(trace, &failed);
  return failed ? nullptr : none_if_null(old);
}

PyObject* get_config_key(PyObject*, PyObject*) { return Py_NewRef(config_key()); }

PyObject* get_config_flags(PyObject*, PyObject*) { return PyLong_FromUnsignedLong(config_flags()); }

bool parse_flags(PyObject* object, uint32_t* flags) {
  unsigned long value = PyLong_AsUnsignedLong(object);
  if (value == static_cast<unsigned long>(-1) && PyErr_Occurred()) return false;
  *flags = static_cast<uint32_t>(value);
  return true;
}

bool check_two_arguments(const char* name, Py_ssize_t nargs) {
  if (nargs == 2) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes 2 arguments (key, flags), got %zd", name, nargs);
  return false;
}

PyObject* set_global_config(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  uint32_t flags;
  if (!check_two_arguments("set_global_config", nargs) || !parse_flags(args[1], &flags)) return nullptr;
  PyObject* old = global_config.key;
  global_config.key = Py_NewRef(args[0]);
  global_config.flags = flags;
  Py_XDECREF(old);
  Py_RETURN_NONE;
}

PyObject* swap_local_config(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  uint32_t flags;
  if (!check_two_arguments("swap_local_config", nargs) || !parse_flags(args[1], &flags)) return nullptr;
  PyObject* key = args[0] == Py_None ? nullptr : args[0];
  if (!key && tls_state == &unset_state) Py_RETURN_NONE;
  ThreadState* state = own_state();
  if (!state) return nullptr;
  PyObject* old = state->config_key;
  state->config_key = Py_XNewRef(key);
  state->config_flags = key ? flags : 0;
  return none_if_null(old);
}

PyObject* get_local_config(PyObject*, PyObject*) {
  const ThreadState* state = tls_state;
  return Py_BuildValue("(OI)", state->config_key ? state->config_key : Py_None, state->config_flags);
}

PyObject* set_tracer_type(PyObject*, PyObject* type) {
  if (!PyType_Check(type)) {
    PyErr_Format(PyExc_TypeError, "set_tracer_type() takes a class, got %.200s", Py_TYPE(type)->tp_name);
    return nullptr;
  }
  PyTypeObject* old = tracer_type;
  tracer_type = reinterpret_cast<PyTypeObject*>(Py_NewRef(type));
  Py_XDECREF(old);
  Py_RETURN_NONE;
}

// Plain method definitions: these are called once or more per traced operation, and CPython's own
// calling convention is the cheapest there is.
PyMethodDef methods[] = {
    {"get_trace", get_trace, METH_NOARGS,
     "get_trace()\n--\n\nThe calling thread's current trace, or None when it evaluates eagerly."},
    {"swap_trace", swap_trace, METH_O,
     "swap_trace(trace, /)\n--\n\n"
     "Makes `trace` (None: eager evaluation) the calling thread's current trace; returns the one before."},
    {"config_key", get_config_key, METH_NOARGS,
     "config_key()\n--\n\nThe object that stands for the configuration in force in every cache key: the "
     "calling\nthread's override, or the process default."},
    {"config_flags", get_config_flags, METH_NOARGS,
     "config_flags()\n--\n\nThe flags in force: 1 = 64-bit dtypes, 2 = jit disabled, 4 = debugging modes "
     "that need the Python path."},
    {"set_global_config", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)(void)>(set_global_config)),
     METH_FASTCALL,
     "set_global_config(key, flags, /)\n--\n\nSets the process default. Equal configurations must share one "
     "key object."},
    {"swap_local_config", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)(void)>(swap_local_config)),
     METH_FASTCALL,
     "swap_local_config(key, flags, /)\n--\n\nSets the calling thread's override (key None: no override); "
     "returns the key before, or None."},
    {"local_config", get_local_config, METH_NOARGS,
     "local_config()\n--\n\nThe calling thread's override as (key, flags); (None, 0) when there is none."},
    {"set_tracer_type", set_tracer_type, METH_O,
     "set_tracer_type(cls, /)\n--\n\nRegisters the base class of all tracers."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyObject* exchange_trace(PyObject* trace, bool* failed) {
  if (trace == Py_None) trace = nullptr;
  *failed = false;
  if (!trace && tls_state == &unset_state) return nullptr;
  ThreadState* state = own_state();
  if (!state) {
    *failed = true;
    return nullptr;
  }
  PyObject* old = state->trace;
  state->trace = Py_XNewRef(trace);
  return old;
}

void bind_state(nb::module_& m) {
  thread_state_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&thread_state_spec));
  thread_state_name = PyUnicode_InternFromString("velax._native.thread_state");
  if (!thread_state_type || !thread_state_name) nb::raise_python_error();
  global_config.key = Py_NewRef(Py_None);
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) nb::raise_python_error();
}

}  // namespace velax
