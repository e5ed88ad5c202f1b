// Host callbacks: Python callables that programs call on copies of their buffers.
#include <cstring>

#include "frame.h"

namespace velax {
namespace {

PyObject* registered_error_type;  // owned; nullptr: RuntimeError

// The arguments: fresh arrays, because the program goes on writing to its own memory.
PyObject* copy_operands(Frame& frame, const Instruction& in, const Callback& callback) {
  PyObject* arguments = PyTuple_New(in.nslots);
  if (arguments == nullptr) return nullptr;
  for (uint32_t i = 0; i < in.nslots; i++) {
    AvalInfo* info = callback.in_avals[i];
    BufferRef buffer = try_allocate(static_cast<size_t>(info->nbytes));
    if (!buffer) {
      Py_DECREF(arguments);
      PyErr_Format(PyExc_MemoryError, "no memory for a callback's argument %s", aval_to_string(info).c_str());
      return nullptr;
    }
    const void* source = frame.slots[frame.program.operands[in.slots + i]];
    std::memcpy(buffer->data, source, static_cast<size_t>(info->nbytes));
    auto* array = reinterpret_cast<PyObject*>(array_new(std::move(buffer), info));
    if (array == nullptr) {
      Py_DECREF(arguments);
      return nullptr;
    }
    PyTuple_SET_ITEM(arguments, i, array);
  }
  return arguments;
}

// A result as an array of ours: itself, or what NumPy makes of it. New reference.
PyObject* as_array(PyObject* value) {
  if (is_array(value)) return Py_NewRef(value);
  Ref numpy(PyImport_ImportModule("numpy"));
  if (!numpy) return nullptr;
  Ref ndarray(PyObject_CallMethod(numpy.get(), "asarray", "O", value));
  if (!ndarray) return nullptr;
  return reinterpret_cast<PyObject*>(array_from_numpy(ndarray.get(), false, true, true));
}

bool store_result(Frame& frame, PyObject* value, const AvalInfo* wanted, uint32_t slot, uint32_t i) {
  Ref array(as_array(value));
  if (!array) return false;
  const AvalInfo* got = array_info(array.get());
  if (!same_type(*got, *wanted)) {
    PyErr_Format(PyExc_ValueError, "result %u of the callback must be %s, got %s", i, aval_to_string(wanted).c_str(),
                 aval_to_string(got).c_str());
    return false;
  }
  Buffer* buffer = array_buffer(array.get());
  if (buffer == nullptr) return false;
  buffer->wait();
  std::memcpy(frame.slots[slot], buffer->data, static_cast<size_t>(wanted->nbytes));
  return true;
}

bool call_and_store(Frame& frame, const Instruction& in) {
  const Callback& callback = frame.parts.callbacks[in.target];
  Ref arguments(copy_operands(frame, in, callback));
  if (!arguments) return false;
  Ref result(unless_stopped([&] { return PyObject_CallObject(callback.callable, arguments.get()); }));
  if (!result) return false;
  if (in.nslots2 == 0 && result.get() == Py_None) return true;
  Ref items(PySequence_Fast(result.get(), "a callback must return a sequence with one item for each result"));
  if (!items) return false;
  Py_ssize_t n = PySequence_Fast_GET_SIZE(items.get());
  if (n != static_cast<Py_ssize_t>(in.nslots2)) {
    PyErr_Format(PyExc_ValueError, "the callback must return %u results, got %zd", in.nslots2, n);
    return false;
  }
  for (uint32_t i = 0; i < in.nslots2; i++) {
    uint32_t slot = frame.program.operands[in.slots + in.nslots + i];
    // The list may have been changed by the conversion of an earlier item.
    if (i >= PySequence_Fast_GET_SIZE(items.get())) {
      PyErr_SetString(PyExc_RuntimeError, "the callback's results changed while they were read");
      return false;
    }
    Ref item(Py_NewRef(PySequence_Fast_GET_ITEM(items.get(), i)));
    if (!store_result(frame, item.get(), callback.out_avals[i], slot, i)) return false;
  }
  return true;
}

// Replaces the exception that is set by one of the registered class, with it as the cause. What asks the
// program to end (KeyboardInterrupt, SystemExit) passes unchanged.
void wrap_exception() {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return;
  Ref error = take_error();
  Ref text(PyObject_Str(error.get()));
  if (!text) PyErr_Clear();
  Ref name(PyType_GetName(Py_TYPE(error.get())));
  if (!name) PyErr_Clear();
  PyErr_Format(runtime_error_type(), "INTERNAL: a host callback raised %V: %V", name.get(), "an exception", text.get(),
               "(its text cannot be made)");
  set_cause(std::move(error));
}

}  // namespace

int32_t run_callback(Frame& frame, const Instruction& in) {
  frame.acquire_gil();
  bool fine = guarded(false, [&] { return call_and_store(frame, in); });
  if (!fine) wrap_exception();
  // Signals that came meanwhile were handled by the callback's own bytecodes, or are handled here: kernels that
  // follow must not stop for them.
  if (fine && frame.watch != nullptr) fine = handle_signals();
  frame.release_gil();
  return fine ? 0 : kStopFailed;
}

PyObject* runtime_error_type() { return registered_error_type != nullptr ? registered_error_type : PyExc_RuntimeError; }

bool set_runtime_error_type(PyObject* type) {
  if (!PyExceptionClass_Check(type) || !PyObject_IsSubclass(type, PyExc_Exception)) {
    PyErr_Format(PyExc_TypeError, "set_runtime_error_type takes a subclass of Exception, got %R", type);
    return false;
  }
  Py_XSETREF(registered_error_type, Py_NewRef(type));
  return true;
}

}  // namespace velax
