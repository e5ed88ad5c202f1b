// Inside the executor: the executable object and the state of one execution.
#pragma once
#include <Python.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "array.h"
#include "buffer.h"
#include "executor.h"
#include "interrupt.h"
#include "library.h"
#include "loader.h"
#include "program.h"
#include "ref.h"

namespace velax {

// One entry of an executable's table of host callbacks.
struct Callback {
  PyObject* callable;
  std::vector<AvalInfo*> in_avals, out_avals;
};

// Whether two signatures agree but for weak types.
inline bool same_type(const AvalInfo& a, const AvalInfo& b) {
  return a.code == b.code && std::equal(a.dims, a.dims + a.ndim, b.dims, b.dims + b.ndim);
}

struct ExecutableParts {
  std::unique_ptr<Program> program;
  std::vector<LoadedKernel*> kernels;  // owned references
  std::vector<LibraryFunction> functions;
  std::vector<Callback> callbacks;  // owned references
  std::vector<AvalInfo*> in_avals, out_avals;
  std::vector<uint8_t> donated;  // one per input
  std::vector<uint8_t> reads;    // one per input: whether the program has any use for it
  std::vector<size_t> consumed;  // donated inputs that are deleted in exchange for an output
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
    if (saved != nullptr) unless_stopped([this] { PyEval_RestoreThread(saved); });
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
