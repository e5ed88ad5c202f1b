// The call path of compiled functions: from the arguments of a Python call to a cached executable and back.
//
//   jit_leaves.cc      what counts as a leaf, and how it becomes an ArrayImpl
//   jit_signature.cc   signatures, the table of a function's compiled versions
//   jit_entry.cc       JitEntry: an executable with what is needed to call it and to wrap its outputs
//   jit.cc             JitFunction: what `jit(f)` returns
//   jit_eager.cc       EagerCache: the compiled form of single primitives
//
// Everything here runs with the GIL; only `execute` releases it.
#pragma once
#include <Python.h>

#include <cstdint>
#include <vector>

#include "array.h"
#include "pytree.h"
#include "ref.h"

namespace velax {

struct Executable;

// ------------------------------------------------------------------------------------------------ call frames

// How a signature describes one leaf: its AvalInfo, with the low bit set where the leaf is an object of a registered
// leaf type (whose tag is then among the static values).
using LeafSignature = uintptr_t;

// The working memory of one call. Frames are pooled, so that calls allocate nothing once the vectors have grown.
struct CallFrame {
  // The signature of the call.
  uint64_t hash = 0;
  PyObject* config_key = nullptr;       // owned
  PyObject* device = nullptr;           // borrowed from an array; of the committed leaves, nullptr where none is
  PyObject* keyword_names = nullptr;    // owned; sorted tuple, nullptr without keywords
  Py_hash_t keyword_hash = 0;
  size_t num_positional = 0;
  std::vector<LeafSignature> leaf_signatures;
  std::vector<PyObject*> statics;       // owned; static arguments, then tags of leaves
  bool has_tree = false;                // false: every dynamic argument is a leaf
  TreeDefBuilder tree;                  // of the dynamic arguments, then keyword values by sorted name

  // The values.
  std::vector<ArrayImpl*> arrays;       // owned; one a leaf
  std::vector<uint32_t> borrowed;       // leaves whose arrays alias memory that Python code can write
  std::vector<PyObject*> leaves;        // owned; leaves of the container at hand
  std::vector<ArrayImpl*> inputs;       // borrowed; what is handed to the executable
  std::vector<PyObject*> outputs;       // owned

  void clear();
};

// Takes a frame out of the pool and puts it back, emptied, at the end of the scope.
class PooledFrame {
 public:
  PooledFrame();
  ~PooledFrame();
  PooledFrame(const PooledFrame&) = delete;
  PooledFrame& operator=(const PooledFrame&) = delete;
  CallFrame* operator->() const { return frame_; }
  CallFrame& operator*() const { return *frame_; }

 private:
  CallFrame* frame_;
};

// ----------------------------------------------------------------------------------------------------- leaves

enum class LeafStatus {
  kOk,
  kUnknown,  // no array, number or registered type: Python has to deal with it
  kNotLeaf,  // may be a container (only from `add_leaf` on objects that were not flattened)
  kError,    // a Python error is set
  kOverflow, // an int does not fit its dtype; OverflowError is set
};

// Appends an array (taking over the reference) and its signature.
inline LeafStatus add_array(CallFrame& frame, ArrayImpl* array) {
  frame.arrays.push_back(array);
  frame.leaf_signatures.push_back(reinterpret_cast<LeafSignature>(array->info));
  // The committed leaves of a call live on one device; anything else is for Python to refuse.
  if (!array->committed || !array->device || array->device == frame.device) return LeafStatus::kOk;
  if (frame.device) return LeafStatus::kUnknown;
  frame.device = array->device;
  return LeafStatus::kOk;
}

// Appends a leaf that is no array of ours as one.
LeafStatus add_foreign_leaf(CallFrame& frame, PyObject* leaf, uint32_t config_flags, bool flattened);

// Appends `leaf` (borrowed) to the frame as an array, and its signature.
// `flattened`: the object came out of a flattening, hence is not a container.
inline LeafStatus add_leaf(CallFrame& frame, PyObject* leaf, uint32_t config_flags, bool flattened) {
  if (is_array(leaf)) return add_array(frame, reinterpret_cast<ArrayImpl*>(Py_NewRef(leaf)));
  return add_foreign_leaf(frame, leaf, config_flags, flattened);
}

// Appends the leaves of a container.
LeafStatus add_container(CallFrame& frame, PyObject* container, uint32_t config_flags);

// Appends the leaves of one dynamic argument, a container or a leaf.
inline LeafStatus add_argument(CallFrame& frame, PyObject* argument, uint32_t config_flags) {
  LeafStatus status = add_leaf(frame, argument, config_flags, false);
  if (status == LeafStatus::kNotLeaf) return add_container(frame, argument, config_flags);
  if (frame.has_tree) frame.tree.add_leaf();
  return status;
}

// Outputs that share memory with an argument that Python code can write (a forwarded NumPy array) become copies.
// False with an error set when memory runs out.
bool copy_borrowed_outputs(CallFrame& frame);

// `_native.register_leaf_type(cls, unwrap)`
PyObject* register_leaf_type(PyObject* module, PyObject* const* args, Py_ssize_t nargs);

// ---------------------------------------------------------------------------------------------------- entries

// The Python type `JitEntry`: an executable, what it takes after the flattened arguments, and how its outputs are
// wrapped.
struct JitEntry {
  PyObject_HEAD
  Executable* executable;             // owned
  PyTreeDef* out_tree;                // owned; nullptr: a list of the outputs
  PyObject* out_wraps;                // owned; tuple of callables and None, or nullptr
  std::vector<ArrayImpl*>* consts;    // owned, and so are the references
  bool single_leaf;                   // `out_tree` is one leaf, and nothing wraps it
};

extern PyTypeObject* jit_entry_type;

// Runs the entry over the frame's arrays and rebuilds the output tree (a list where the entry has none). New reference,
// or nullptr with an error set.
PyObject* run_entry(JitEntry* entry, CallFrame& frame);

bool init_entry_type(PyObject* module);

// ----------------------------------------------------------------------------------------------------- tables

// A compiled version of a function: a signature (all references owned) and the entry that serves it.
struct CompiledVersion {
  uint64_t hash;
  PyObject* config_key;
  PyObject* device;
  PyObject* keyword_names;
  size_t num_positional;
  std::vector<LeafSignature> leaf_signatures;
  std::vector<PyObject*> statics;
  PyTreeDef* tree;
  JitEntry* entry;
  uint64_t last_used;
  uint32_t references;  // the table's, and those of running calls
};

void release_version(CompiledVersion* version);

// Whether two tuples of str hold the same names in the same order; runs no Python code.
bool same_names(PyObject* a, PyObject* b);

// Holds a version while its code runs: the table may drop it meanwhile.
class VersionRef {
 public:
  VersionRef() = default;
  explicit VersionRef(CompiledVersion* version) : version_(version) { ++version->references; }
  VersionRef(VersionRef&& other) noexcept : version_(other.version_) { other.version_ = nullptr; }
  VersionRef& operator=(VersionRef&& other) noexcept {
    std::swap(version_, other.version_);
    return *this;
  }
  ~VersionRef() {
    if (version_) release_version(version_);
  }
  explicit operator bool() const { return version_ != nullptr; }
  CompiledVersion* operator->() const { return version_; }

 private:
  CompiledVersion* version_ = nullptr;
};

// Signatures to compiled versions: open addressing, least recently used versions dropped above `capacity`.
class VersionTable {
 public:
  explicit VersionTable(size_t capacity);
  ~VersionTable();
  VersionTable(const VersionTable&) = delete;
  VersionTable& operator=(const VersionTable&) = delete;

  // Computes `frame.hash`. False with an error set when a static value or auxiliary data of a node raises.
  static bool hash_signature(CallFrame& frame);

  // The version for the frame's signature, or an empty reference; then `*failed` says whether an error is set
  // (comparing static values may raise).
  VersionRef find(CallFrame& frame, bool* failed);
  // Adds a version, unless an equal one has appeared meanwhile. False with an error set.
  bool insert(CallFrame& frame, JitEntry* entry);
  void clear();
  int traverse(visitproc visit, void* arg) const;

  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  uint64_t hits = 0;
  uint64_t misses = 0;

  // Every table alive, for `clear_all_jit_caches`.
  static void clear_all();

 private:
  struct Slot {
    uint64_t hash;
    CompiledVersion* version;  // nullptr: free
  };
  void rehash(size_t num_slots);
  void place(CompiledVersion* version);
  void evict();

  std::vector<Slot> slots_;
  size_t size_ = 0;
  size_t capacity_;
  uint64_t clock_ = 0;
  uint64_t modifications_ = 0;  // lets `find` notice that Python code run by a comparison changed the table
  VersionTable* previous_ = nullptr;
  VersionTable* next_ = nullptr;
};

// `CacheInfo(hits, misses, maxsize, currsize)`, as functools has it.
PyObject* cache_info(const VersionTable& table);

bool init_function_type(PyObject* module);
bool init_eager_type(PyObject* module);

}  // namespace velax
