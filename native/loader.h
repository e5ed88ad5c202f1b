// The loader: ELF64 x86-64 relocatable objects (as LLVM and compilers emit with -fPIC) become callable code.
#pragma once
#include <Python.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace velax {

struct LoadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Code mapped from one object. Pages are written first and executable afterwards, never both. Immutable; unmapped with
// the last reference.
class CodeImage {
 public:
  ~CodeImage();
  CodeImage(const CodeImage&) = delete;
  // Throws LoadError for anything that is not a complete, consistent object whose undefined symbols are known.
  static std::shared_ptr<CodeImage> load(const void* object, size_t nbytes);
  // Functions defined with global or weak binding, by name.
  const std::unordered_map<std::string, void*>& functions() const { return functions_; }
  size_t mapped_bytes() const { return code_bytes_ + data_bytes_; }

 private:
  CodeImage() = default;
  friend class ObjectReader;
  char* code_ = nullptr;  // text, constants, GOT and stubs: read and execute
  size_t code_bytes_ = 0;
  char* data_ = nullptr;  // .data, .bss: read and write; right behind the code where there are any
  size_t data_bytes_ = 0;
  std::unordered_map<std::string, void*> functions_;
};

// Symbols that objects may import besides the built-in table (memory functions, libm, half-precision helpers).
void register_symbol(const std::string& name, void* address);
void* find_symbol(const std::string& name);  // nullptr if unknown

// A Python object (heap type `velax._native.LoadedKernel`). `function` may be exchanged while programs run; the images
// of all code it ever pointed to stay alive with it.
struct LoadedKernel {
  PyObject_HEAD
  std::atomic<KernelFn> function;
  PyObject* name;
  std::vector<std::shared_ptr<CodeImage>> images;
};

extern PyTypeObject* loaded_kernel_type;
inline bool is_loaded_kernel(PyObject* o) { return Py_TYPE(o) == loaded_kernel_type; }

// Adds LoadedObject, LoadedKernel, load_object and register_symbol to the module; false with a Python exception set.
bool add_loader_types(PyObject* module);

}  // namespace velax
