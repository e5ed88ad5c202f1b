// Pytrees: nested Python containers seen as a list of leaves and a structure.
//
// What other rooms use:
//
//   std::vector<PyObject*> leaves;               // owned references
//   TreeDefBuilder builder;                      // or TreeDefBuilder(some_registry)
//   if (!flatten_into(tree, leaves, builder)) return nullptr;       // a Python error is set
//   PyTreeDef* def = builder.finish();           // new reference; interned: see below
//   PyObject* same = unflatten(def, leaves.data(), leaves.size());  // new reference
//   release_leaves(leaves);
//
// `finish` returns the same object for bitwise equal node arrays while any other reference to that object lives,
// so a cache that keeps its PyTreeDef can compare pointers first and fall back to `treedef_equal` (structural
// equality, which may call `__eq__` of auxiliary data). `builder.equals(def)` compares without making a Python
// object.
//
// Every function needs the GIL. A function that can fail says how; the Python error is then set. Of a builder, what
// appends throws where there is no memory, or where the structure has more nodes than are counted.
#pragma once
#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace velax {

struct PyTreeRegistry;
struct Registration;

enum class NodeKind : int32_t {
  kLeaf,
  kNone,
  kTuple,
  kNamedTuple,
  kList,
  kDict,
  kCustom,
  kDataclass,
};

// One node of a structure; a structure is its nodes in post-order (children before their parent, the root last).
// There is no padding: equal bytes mean the same structure with the same (identical) auxiliary data.
struct Node {
  NodeKind kind;
  int32_t arity;       // children
  int32_t num_leaves;  // in this subtree
  int32_t num_nodes;   // in this subtree, itself included
  // kDict: tuple of keys in flattening order; kNamedTuple: the type; kCustom: auxiliary data;
  // kDataclass: tuple of the meta fields' values; otherwise null. Owned.
  PyObject* data;
  union {
    const Registration* registration;  // kCustom, kDataclass: owned by the registry
    uint64_t keys_hash;                // kDict: hash of `data`, or 0 where the keys are not all str
  };
};
static_assert(sizeof(Node) == 32, "Node must have no padding: structures are compared as bytes");

// The Python type `PyTreeDef`. Immutable. `nodes` is allocated with the object, `ob_size` is its length.
struct PyTreeDef {
  PyObject_VAR_HEAD
  PyObject* weakrefs;
  PyTreeRegistry* registry;  // owned
  Py_hash_t hash;            // -1: not computed yet
  uint64_t identity;         // hash of the node array's bytes
  int32_t num_nodes;
  int32_t num_leaves;
  Node* nodes;
};

// A node array under construction. Small trees need no allocation. Not copyable; reusable after `clear`.
class TreeDefBuilder {
 public:
  explicit TreeDefBuilder(PyTreeRegistry* registry = nullptr);  // null: the default registry (borrowed)
  ~TreeDefBuilder();
  TreeDefBuilder(const TreeDefBuilder&) = delete;
  TreeDefBuilder& operator=(const TreeDefBuilder&) = delete;

  void clear();

  PyTreeRegistry* registry() const { return registry_; }
  const Node* nodes() const { return nodes_; }
  size_t size() const { return size_; }

  // The structure made so far as a Python object (new reference, interned), null on error. The builder must hold
  // exactly one root. It keeps its nodes (and its references), so that it can be compared afterwards.
  PyTreeDef* finish() const;

  // 64-bit hash of the node array's bytes; equal to `PyTreeDef::identity` of what `finish` returns. Calls no
  // Python.
  uint64_t identity() const;

  // Structural hash: equal for structures that `equals` calls equal. False with an error set, as `treedef_hash`.
  bool hash(uint64_t* out) const;

  // 1 or 0; -1 with an error set where a comparison of auxiliary data raised.
  int equals(const PyTreeDef* def) const;

  // Appends a leaf.
  void add_leaf() { push({NodeKind::kLeaf, 0, 1, 1, nullptr, {nullptr}}); }
  // Appends an inner node over the `arity` subtrees that were appended last, whose first node has index
  // `first_node` and which together hold `num_leaves` leaves. Takes over the reference `data`.
  void add_inner(NodeKind kind, int32_t arity, size_t first_node, size_t num_leaves, PyObject* data = nullptr,
                 const Registration* registration = nullptr, uint64_t keys_hash = 0) {
    Node node{kind, arity,         static_cast<int32_t>(num_leaves), static_cast<int32_t>(size_ - first_node + 1),
              data, {registration}};
    if (kind == NodeKind::kDict) node.keys_hash = keys_hash;
    push(node);
  }
  // Appends a whole structure as a subtree (takes new references of its data).
  void add_subtree(const PyTreeDef* def);
  void add_nodes(const Node* nodes, size_t count);
  // Makes room for so many nodes in all.
  void reserve(size_t nodes);
  // Drops the nodes from index `size` on.
  void truncate(size_t size);

 private:
  static constexpr size_t kInline = 40;
  static constexpr size_t kMaxNodes = INT32_MAX;  // a node counts those below it in 32 bits
  void push(const Node& node) {
    if (size_ == capacity_) reserve(size_ + 1);
    nodes_[size_++] = node;
  }

  PyTreeRegistry* registry_;
  Node* nodes_ = inline_;
  size_t size_ = 0;
  size_t capacity_ = kInline;
  Node inline_[kInline];
};

// Appends the leaves of `tree` (new references) to `leaves` and its nodes to `builder`, with the builder's
// registry. `is_leaf`: a callable or null. On false a Python error is set, and `leaves` and `builder` are as
// before.
bool flatten_into(PyObject* tree, std::vector<PyObject*>& leaves, TreeDefBuilder& builder,
                  PyObject* is_leaf = nullptr);

// Decrements every reference and empties the vector (its capacity stays).
inline void release_leaves(std::vector<PyObject*>& leaves) {
  for (PyObject* leaf : leaves) Py_DECREF(leaf);
  leaves.clear();
}

// The tree with `leaves` (borrowed; `count` must be `def->num_leaves`, else ValueError). New reference, or null.
PyObject* unflatten(const PyTreeDef* def, PyObject* const* leaves, size_t count);

// Structural equality: 1, 0, or -1 with an error set.
int treedef_equal(const PyTreeDef* a, const PyTreeDef* b);

// Structural hash (consistent with treedef_equal), cached. Unhashable auxiliary data does not take part; -1 with
// an error set where a `__hash__` raised something else than TypeError.
Py_hash_t treedef_hash(PyTreeDef* def);

// Appends the subtrees of `tree` at the leaves of `def` (new references), `def` being a prefix of it. On false a
// ValueError says what does not match, and `leaves` is as before.
bool flatten_up_to(const PyTreeDef* def, PyObject* tree, std::vector<PyObject*>& leaves);

bool is_treedef(PyObject* object);
PyTreeDef* leaf_treedef();                  // new reference: the structure `*`
PyTreeRegistry* default_pytree_registry();  // borrowed
// Whether objects of this exact type are leaves to the default registry (a tuple subclass with `_fields` is not).
bool is_leaf_type(PyTypeObject* type);

}  // namespace velax
