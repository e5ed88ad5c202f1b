// Inside the executor: the executable object and the state of one execution.
#pragma once
#include <Python.h>

#include <memory>
#include <vector>

#include "array.h"
#include "buffer.h"
#include "executor.h"
#include "interrupt.h"
#include "library.h"
#include "loader.h"
#include "program.h"

namespace velax {

// An owned Python reference that is dropped at the end of the scope.
struct Reference {
  explicit Reference(PyObject* object) : object(object) {}
  ~Reference() { Py_XDECREF(object); }
  Reference(const Reference&) = delete;
  PyObject* object;
};

// One entry of an executable's table of host callbacks.
struct Callback {
  PyObject* callable;
  std::vector<AvalInfo*> in_avals, out_avals;
};

struct ExecutableParts {
  std::unique_ptr<Program> program;
  std::vector<LoadedKernel*> kernels;  // owned references
  std::vector<LibraryFunction> functions;
  std::vector<Callback> callbacks;  // owned references
  std::vector<AvalInfo*> in_avals, out_avals;
  std::vector<uint8_t> donated;  // one per input
  bool releases_gil = false;
  bool holds_inputs = false;
};

struct Executable {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  ExecutableParts* parts;  // nullptr only between allocation and a failed construction
};

// An array of n items, in place up to N of them.
template <class T, size_t N>
class SmallArray {
 public:
  explicit SmallArray(size_t n) : items_(n <= N ? reinterpret_cast<T*>(inline_) : new T[n]), size_(n) {
    if (n <= N) {
      for (size_t i = 0; i < n; i++) new (items_ + i) T;
    }
  }
  ~SmallArray() {
    if (items_ != reinterpret_cast<T*>(inline_)) {
      delete[] items_;
    } else {
      for (size_t i = 0; i < size_; i++) items_[i].~T();
    }
  }
  SmallArray(const SmallArray&) = delete;
  T& operator[](size_t i) { return items_[i]; }
  T* data() { return items_; }

 private:
  alignas(T) char inline_[N * sizeof(T)];
  T* items_;
  size_t size_;
};

// One execution. Everything that changes while a program runs is here, so executions do not see each other.
struct Frame {
  const ExecutableParts& parts;
  const Program& program;
  void** slots;                    // where each slot is now
  void** buffers;                  // room for the longest list of a LAUNCH or CALL
  PyThreadState* saved = nullptr;  // set while the GIL is released
  Watch* watch = nullptr;
  volatile int32_t* interrupt;
  int32_t error = 0;  // what kernels wrote to their error slot
  const Instruction* stopped_at = nullptr;

  void acquire_gil() {
    if (saved != nullptr) PyEval_RestoreThread(saved);
  }
  void release_gil() {
    if (saved != nullptr) saved = PyEval_SaveThread();
  }
  // Lets Python handle signals if it is time. False with an exception set.
  bool poll() {
    if (watch == nullptr || !poll_due.load(std::memory_order_relaxed)) return true;
    acquire_gil();
    bool fine = handle_signals();
    release_gil();
    return fine;
  }
};

// Runs a CALLBACK instruction, with or without the GIL held. kStopFailed with an exception set.
int32_t run_callback(Frame& frame, const Instruction& in);
// Sets the Python exception that stands for a nonzero result of a kernel or library function. Needs the GIL.
void raise_stop(Frame& frame, int32_t code);
// The class for failures while running (registered by Python; RuntimeError before). Borrowed.
PyObject* runtime_error_type();
bool set_runtime_error_type(PyObject* type);  // false with TypeError set

// Scratch memory of the calling thread, at least `nbytes`; nullptr if there is no memory.
void* thread_scratch(int64_t nbytes);

PyTypeObject* make_executable_type();  // nullptr with an exception set

}  // namespace velax
