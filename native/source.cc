// The innermost frame outside the library, for source locations: one walk per traced operation.
//
// Whether a frame's code is the user's is kept in the code object's own extra slot (PEP 523), since a dictionary
// keyed by code objects hashes all their constants at every look-up.
#include <Python.h>

#include <nanobind/nanobind.h>

#include "rooms.h"

namespace nb = nanobind;

#if PY_VERSION_HEX < 0x030C0000
#define PyUnstable_Eval_RequestCodeExtraIndex _PyEval_RequestCodeExtraIndex
#define PyUnstable_Code_GetExtra _PyCode_GetExtra
#define PyUnstable_Code_SetExtra _PyCode_SetExtra
#endif

namespace velax {

namespace {

Py_ssize_t extra_index = -1;
PyObject* classifier = nullptr;  // code -> whether it is the user's
uintptr_t generation = 1;        // raised when the classifier's answers change; never 0, as an empty slot is

// Whether `code` is the user's: 1 or 0; -1 with a Python error.
int is_user_code(PyCodeObject* code) {
  void* extra = nullptr;
  if (PyUnstable_Code_GetExtra(reinterpret_cast<PyObject*>(code), extra_index, &extra) < 0) return -1;
  const auto known = reinterpret_cast<uintptr_t>(extra);
  if (known >> 1 == generation) return static_cast<int>(known & 1);
  if (!classifier) return 1;
  PyObject* answer = PyObject_CallOneArg(classifier, reinterpret_cast<PyObject*>(code));
  if (!answer) return -1;
  const int user = PyObject_IsTrue(answer);
  Py_DECREF(answer);
  if (user < 0) return -1;
  const uintptr_t value = generation << 1 | static_cast<uintptr_t>(user);
  if (PyUnstable_Code_SetExtra(reinterpret_cast<PyObject*>(code), extra_index, reinterpret_cast<void*>(value)) < 0) {
    return -1;
  }
  return user;
}

PyObject* user_location(PyObject*, PyObject*) {
  PyFrameObject* frame = PyThreadState_GetFrame(PyThreadState_Get());
  while (frame) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const int user = is_user_code(code);
    if (user != 0) {
      PyObject* result = user < 0 ? nullptr : Py_BuildValue("(Oi)", code, PyFrame_GetLasti(frame));
      Py_DECREF(code);
      Py_DECREF(frame);
      return result;
    }
    Py_DECREF(code);
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  Py_RETURN_NONE;
}

PyObject* set_code_classifier(PyObject*, PyObject* callable) {
  PyObject* old = classifier;
  classifier = Py_NewRef(callable);
  Py_XDECREF(old);
  ++generation;
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"user_location", user_location, METH_NOARGS,
     "user_location()\n--\n\n"
     "(code object, instruction offset) of the innermost frame whose code is the user's, or None."},
    {"set_code_classifier", set_code_classifier, METH_O,
     "set_code_classifier(is_user_code, /)\n--\n\nSays which code is the user's; its answers are kept with the code "
     "objects until this is called again."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void bind_source(nb::module_& m) {
  extra_index = PyUnstable_Eval_RequestCodeExtraIndex(nullptr);
  if (extra_index < 0) nb::raise("no slot is left for extra data of code objects");
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) nb::raise_python_error();
}

}  // namespace velax
