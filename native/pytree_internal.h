// What the pytree*.cc files share with each other; other rooms include pytree.h.
#pragma once
#include "pytree.h"
#include "ref.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace velax {

// How a registered type is taken apart and put together.
struct Registration {
  NodeKind kind;                              // kCustom or kDataclass
  PyObject* type;                             // all owned
  PyObject* to_iterable = nullptr;            // kCustom
  PyObject* from_iterable = nullptr;          // kCustom
  PyObject* to_iterable_with_keys = nullptr;  // kCustom, may be null
  PyObject* data_fields = nullptr;            // kDataclass: tuple of interned str
  PyObject* meta_fields = nullptr;            // kDataclass: tuple of interned str
  PyObject* all_fields = nullptr;  // kDataclass: data_fields + meta_fields, the keywords of the constructor call

  explicit Registration(NodeKind kind, PyObject* type) : kind(kind), type(type) { Py_INCREF(type); }
  ~Registration() {
    for (PyObject* o :
         {type, to_iterable, from_iterable, to_iterable_with_keys, data_fields, meta_fields, all_fields})
      Py_XDECREF(o);
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
};

// Type -> registration, open addressing. Looked up once for every leaf whose type is not builtin.
class TypeTable {
 public:
  const Registration* find(PyTypeObject* type) const {
    if (slots_.empty()) return nullptr;
    for (size_t i = slot(type);; i = (i + 1) & mask_) {
      if (slots_[i].type == type) return slots_[i].registration;
      if (!slots_[i].type) return nullptr;
    }
  }
  void insert(PyTypeObject* type, const Registration* registration);

 private:
  struct Slot {
    PyTypeObject* type;
    const Registration* registration;
  };
  size_t slot(PyTypeObject* type) const {
    return (reinterpret_cast<uintptr_t>(type) * 0x9E3779B97F4A7C15ull >> 32) & mask_;
  }
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t count_ = 0;
};

struct RegistryState {
  std::vector<std::unique_ptr<Registration>> registrations;
  TypeTable table;
};

// The Python type `PyTreeRegistry`. Registrations are only ever added, so a `Registration*` lives as long as its
// registry.
struct PyTreeRegistry {
  PyObject_HEAD
  bool enable_none, enable_tuple, enable_namedtuple, enable_list, enable_dict;
  const char* global_name;  // the name in velax.tree_util under which it pickles, or null
  RegistryState* state;
};

extern PyTypeObject* treedef_type;
extern PyTypeObject* registry_type;

// Strings that are looked up on hot paths.
struct Names {
  PyObject *fields, *class_name;  // "_fields", "__name__"
};
extern Names names;

inline bool is_namedtuple(PyObject* o) {
  return PyTuple_Check(o) && PyObject_HasAttr(reinterpret_cast<PyObject*>(Py_TYPE(o)), names.fields);
}

inline NodeKind classify(const PyTreeRegistry* registry, PyObject* o, const Registration** registration) {
  PyTypeObject* type = Py_TYPE(o);
  if (o == Py_None) return registry->enable_none ? NodeKind::kNone : NodeKind::kLeaf;
  if (type == &PyTuple_Type && registry->enable_tuple) return NodeKind::kTuple;
  if (type == &PyList_Type && registry->enable_list) return NodeKind::kList;
  if (type == &PyDict_Type && registry->enable_dict) return NodeKind::kDict;
  if (const Registration* found = registry->state->table.find(type)) {
    *registration = found;
    return found->kind;
  }
  if (PyType_FastSubclass(type, Py_TPFLAGS_TUPLE_SUBCLASS) && type != &PyTuple_Type &&
      registry->enable_namedtuple && is_namedtuple(o))
    return NodeKind::kNamedTuple;
  return NodeKind::kLeaf;
}

// A growing array of owned references whose first N need no allocation; the references left are released at the
// end.
template <size_t N>
class RefStack {
 public:
  RefStack() = default;
  ~RefStack() {
    drop(size_);
    if (data_ != inline_) std::free(data_);
  }
  RefStack(const RefStack&) = delete;
  RefStack& operator=(const RefStack&) = delete;

  void push(PyObject* owned) {
    if (size_ == capacity_) reserve(capacity_ * 2);
    data_[size_++] = owned;
  }
  void reserve(size_t capacity) {
    if (capacity <= capacity_) return;
    auto* grown = static_cast<PyObject**>(std::malloc(capacity * sizeof(PyObject*)));
    if (!grown) throw std::bad_alloc();
    std::memcpy(grown, data_, size_ * sizeof(PyObject*));
    if (data_ != inline_) std::free(data_);
    data_ = grown;
    capacity_ = capacity;
  }
  // Forgets the last `count` references without releasing them (they were handed on).
  void forget(size_t count) { size_ -= count; }
  // Releases the last `count` references.
  void drop(size_t count) {
    while (count--) Py_DECREF(data_[--size_]);
  }
  PyObject** data() { return data_; }
  PyObject** top(size_t count) { return data_ + size_ - count; }
  size_t size() const { return size_; }
  PyObject* operator[](size_t i) const { return data_[i]; }

 private:
  PyObject* inline_[N];
  PyObject** data_ = inline_;
  size_t size_ = 0;
  size_t capacity_ = N;
};

// Replaces the pending exception by a ValueError that has it as its cause; an interrupt stays as it is.
void set_value_error_from_pending(const char* format, ...);

// The (children, data) that the registered function gives for a custom node; null on error.
PyObject* call_to_iterable(const Registration* registration, PyObject* o);

// The same with the children taken out of whatever holds them.
struct CustomNode {
  Ref children;  // a tuple
  Ref data;
};
bool flatten_custom(const Registration* registration, PyObject* o, CustomNode* out);

// The sorted keys of a dict; `values` gets the values in that order (owned references pushed). Null on error.
// Not inlined: its buffers must not be part of the frames of recursive callers.
[[gnu::noinline]] PyObject* sorted_dict_keys(PyObject* dict, RefStack<32>& values, uint64_t* keys_hash);

// `data` of a dataclass node: the values of the fields as a tuple; null on error.
PyObject* get_fields(PyObject* o, PyObject* fields);

// Key entries: new references, null on error. Those of small indices are made once.
PyObject* make_dict_key(PyObject* key);
PyObject* make_sequence_key(Py_ssize_t index);
PyObject* make_getattr_key(PyObject* name);
PyObject* make_flattened_index_key(Py_ssize_t index);

// Calls the predicate; 1, 0, or -1 with an error.
int call_is_leaf(PyObject* is_leaf, PyObject* o);
int call_is_leaf(PyObject* is_leaf, PyObject* path, PyObject* o);

// Flattens with key paths: `out` (a list) gets `(path, leaf)` pairs. `is_leaf(path, node)` or null.
bool flatten_with_path_into(PyObject* tree, PyObject* out, TreeDefBuilder& builder, PyObject* is_leaf);

PyTreeDef* make_treedef(PyTreeRegistry* registry, const Node* nodes, size_t count);
// Whether two nodes agree, their children aside; -1 with an error set.
int node_equal(const Node& a, const Node& b);
uint64_t nodes_identity(const Node* nodes, size_t count);

// The type of an inner node as `node_data` reports it (borrowed).
PyObject* node_type(const Node& node);
// What `node_data` and `walk` report of a node beside its type (new reference).
PyObject* node_public_data(const Node& node);
// A parent from its popped children (borrowed array); new reference or null.
PyObject* make_node(const Node& node, PyObject* const* children);

// Methods of PyTreeDef that live in pytree_unflatten.cc.
PyObject* def_unflatten(PyObject* self, PyObject* leaves);
PyObject* def_walk(PyObject* self, PyObject* args);
PyObject* def_flatten_up_to(PyObject* self, PyObject* tree);
PyObject* def_from_iterable_tree(PyObject* self, PyObject* tree);
PyObject* def_leaf_counts_in(PyObject* self, PyObject* other);

// Binding, one function a file. They return false with an error set.
bool init_pytree_keys(PyObject* module);
bool init_pytree_registry(PyObject* module);
bool init_pytree_def(PyObject* module);

bool add_type(PyObject* module, PyType_Spec* spec, const char* name, PyTypeObject** out);

}  // namespace velax
