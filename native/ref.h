// Between C++ and CPython: owned references, C++ exceptions as Python errors, threads that outlive
// the interpreter.
#pragma once
#include <Python.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <utility>

namespace velax {

// An owned reference.
class Ref {
 public:
  Ref() noexcept = default;
  explicit Ref(PyObject* owned) noexcept : object_(owned) {}
  Ref(Ref&& other) noexcept : object_(other.release()) {}
  Ref(const Ref&) = delete;
  Ref& operator=(const Ref&) = delete;
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = object_;
    object_ = other.release();
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  static Ref borrow(PyObject* object) noexcept {
    Py_XINCREF(object);
    return Ref(object);
  }
  PyObject* get() const noexcept { return object_; }
  PyObject* release() noexcept {
    PyObject* object = object_;
    object_ = nullptr;
    return object;
  }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Runs `body`, which waits for the GIL or runs Python code. While the interpreter ends, CPython stops
// the threads that still want the GIL with pthread_exit, which unwinds their stacks: through
// destructors that would touch objects without the GIL. Such a thread stays here until the process
// is gone. All other exceptions are std::exceptions.
template <typename Body>
decltype(auto) unless_stopped(Body&& body) {
  try {
    return body();
  } catch (const std::exception&) {
    throw;
  } catch (...) {
    for (;;) pause();
  }
}

// Turns the C++ exception being handled into a Python one.
inline void set_error_from_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const std::length_error& error) {
    PyErr_SetString(PyExc_OverflowError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

// Runs `body`; a C++ exception becomes a Python one and `failure` is returned.
template <typename Body, typename Result>
Result guarded(Result failure, Body&& body) noexcept {
  try {
    return unless_stopped(body);
  } catch (...) {
    set_error_from_exception();
    return failure;
  }
}

// The Python error that is set, taken away.
inline Ref take_error() noexcept {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return Ref(value);
}

inline void put_error(Ref error) noexcept {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
}

// Makes `cause` the cause of the Python error that is set now.
inline void set_cause(Ref cause) noexcept {
  Ref error = take_error();
  PyException_SetContext(error.get(), Py_NewRef(cause.get()));
  PyException_SetCause(error.get(), cause.release());
  put_error(std::move(error));
}

// A function that CPython can call: the given one with its exceptions turned into Python errors.
template <auto function>
struct Callable;
template <typename... Arguments, PyObject* (*function)(Arguments...)>
struct Callable<function> {
  static PyObject* call(Arguments... arguments) noexcept {
    return guarded(static_cast<PyObject*>(nullptr), [&] { return function(arguments...); });
  }
};

}  // namespace velax
