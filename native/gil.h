// Python code from threads that may or may not hold the GIL.
#pragma once

#include <Python.h>

namespace velax {

// Calls `action` with the GIL, taken if this thread does not hold it. Not at all while the interpreter shuts down:
// a thread that asks for the GIL then is never let go on, and the process is about to end.
template <typename Action>
void with_gil(Action&& action) {
  if (PyGILState_Check()) {
    action();
    return;
  }
#if PY_VERSION_HEX >= 0x030D0000
  const bool ending = Py_IsFinalizing();
#else
  const bool ending = _Py_IsFinalizing();
#endif
  if (ending || !Py_IsInitialized()) return;
  const PyGILState_STATE state = PyGILState_Ensure();
  action();
  PyGILState_Release(state);
}

}  // namespace velax
