// The Python type `PyTreeDef`: identity, hash, equality, text, pickling, and what makes structures from
// structures.
#include "pytree_internal.h"

#include <structmember.h>

namespace velax {

PyTypeObject* treedef_type;

namespace {

PyTreeDef* as_def(PyObject* self) { return reinterpret_cast<PyTreeDef*>(self); }
PyObject* as_object(PyTreeDef* def) { return reinterpret_cast<PyObject*>(def); }

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;

uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * kMultiplier;
  return h ^ (h >> 29);
}

// Weak table of live structures by identity: equal node arrays give the same object. PyTreeDef has no tp_clear
// (like a tuple it is immutable, so every cycle through it has another member to break), so what is found here is
// always intact.
constexpr size_t kInternSlots = 2048;
PyTreeDef* interned[kInternSlots];

}  // namespace

uint64_t nodes_identity(const Node* nodes, size_t count) {
  uint64_t h = count;
  for (size_t i = 0; i < count; ++i) {
    const Node& n = nodes[i];
    if (n.kind == NodeKind::kLeaf) {
      h = h * kMultiplier + 1;
      continue;
    }
    h = mix(h, static_cast<uint64_t>(n.kind) | static_cast<uint64_t>(static_cast<uint32_t>(n.arity)) << 8);
    h = mix(h, reinterpret_cast<uintptr_t>(n.data));
    h = mix(h, n.keys_hash);
  }
  return h ^ (h >> 32);
}

namespace {

bool nodes_equal_bytes(const Node* a, const Node* b, size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(Node)) == 0;
}

}  // namespace

PyTreeDef* make_treedef(PyTreeRegistry* registry, const Node* nodes, size_t count) {
  if (count == 0 || static_cast<size_t>(nodes[count - 1].num_nodes) != count) {
    PyErr_SetString(PyExc_ValueError, "PyTreeDef: the nodes must form exactly one tree");
    return nullptr;
  }
  uint64_t identity = nodes_identity(nodes, count);
  PyTreeDef*& slot = interned[identity % kInternSlots];
  if (slot && slot->identity == identity && slot->registry == registry &&
      static_cast<size_t>(slot->num_nodes) == count && nodes_equal_bytes(slot->nodes, nodes, count))
    return as_def(Py_NewRef(as_object(slot)));

  PyTreeDef* def = PyObject_GC_NewVar(PyTreeDef, treedef_type, static_cast<Py_ssize_t>(count));
  if (!def) return nullptr;
  def->weakrefs = nullptr;
  def->registry = registry;
  Py_INCREF(reinterpret_cast<PyObject*>(registry));
  def->hash = -1;
  def->identity = identity;
  def->num_nodes = static_cast<int32_t>(count);
  def->num_leaves = nodes[count - 1].num_leaves;
  def->nodes = reinterpret_cast<Node*>(def + 1);
  std::memcpy(def->nodes, nodes, count * sizeof(Node));
  bool may_be_in_cycle = false;
  for (size_t i = 0; i < count; ++i) {
    Py_XINCREF(nodes[i].data);
    may_be_in_cycle |= nodes[i].data && !(nodes[i].kind == NodeKind::kDict && nodes[i].keys_hash);
  }
  if (may_be_in_cycle || !registry->global_name) PyObject_GC_Track(as_object(def));
  interned[identity % kInternSlots] = def;
  return def;
}

bool is_treedef(PyObject* object) { return Py_TYPE(object) == treedef_type; }

PyTreeDef* leaf_treedef() {
  TreeDefBuilder builder;
  builder.add_leaf();
  return builder.finish();
}

// --- equality and hash -------------------------------------------------------------------------------------

namespace {

PyObject* registered_type(const Node& n) {
  return n.kind == NodeKind::kCustom || n.kind == NodeKind::kDataclass ? n.registration->type : nullptr;
}

bool shape_equal(const Node& a, const Node& b) {
  return a.kind == b.kind && a.arity == b.arity && registered_type(a) == registered_type(b);
}

int data_equal(const Node& a, const Node& b) {
  if (a.data == b.data) return 1;
  if (a.kind == NodeKind::kNamedTuple) return 0;
  int equal = PyObject_RichCompareBool(a.data, b.data, Py_EQ);
  if (equal < 0 && registered_type(a))
    set_value_error_from_pending(
        "Exception raised while checking equality of metadata fields of pytree: those of two nodes of type %R. "
        "Metadata must be hashable and have an == that gives a bool, which arrays do not: make them children.",
        registered_type(a));
  return equal;
}

int nodes_equal(const Node* a, const Node* b, size_t count) {
  if (nodes_equal_bytes(a, b, count)) return 1;
  // The cheap facts of all nodes first: comparing auxiliary data may call Python.
  for (size_t i = 0; i < count; ++i)
    if (!shape_equal(a[i], b[i])) return 0;
  for (size_t i = 0; i < count; ++i) {
    int equal = data_equal(a[i], b[i]);
    if (equal <= 0) return equal;
  }
  return 1;
}

// False with an error set. Auxiliary data need not be hashable: what is not counts as its position alone.
bool nodes_hash(const Node* nodes, size_t count, uint64_t* out) {
  uint64_t h = count;
  for (size_t i = 0; i < count; ++i) {
    const Node& n = nodes[i];
    h = mix(h, static_cast<uint64_t>(n.kind) << 32 | static_cast<uint32_t>(n.arity));
    if (PyObject* type = registered_type(n)) h = mix(h, reinterpret_cast<uintptr_t>(type));
    if (n.kind == NodeKind::kDict && n.keys_hash) {
      h = mix(h, n.keys_hash);
    } else if (n.data) {
      Py_hash_t data = PyObject_Hash(n.data);
      if (data == -1) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) return false;
        PyErr_Clear();
      }
      h = mix(h, static_cast<uint64_t>(data) | 1);  // as `keys_hash`
    }
  }
  *out = h ^ (h >> 32);
  return true;
}

}  // namespace

int node_equal(const Node& a, const Node& b) { return shape_equal(a, b) ? data_equal(a, b) : 0; }

int treedef_equal(const PyTreeDef* a, const PyTreeDef* b) {
  if (a == b) return 1;
  if (a->num_nodes != b->num_nodes || a->num_leaves != b->num_leaves) return 0;
  return nodes_equal(a->nodes, b->nodes, a->num_nodes);
}

bool TreeDefBuilder::hash(uint64_t* out) const { return nodes_hash(nodes_, size_, out); }

int TreeDefBuilder::equals(const PyTreeDef* def) const {
  if (static_cast<size_t>(def->num_nodes) != size_) return 0;
  return nodes_equal(nodes_, def->nodes, size_);
}

Py_hash_t treedef_hash(PyTreeDef* def) {
  if (def->hash == -1) {
    uint64_t h;
    if (Py_EnterRecursiveCall(" while hashing a PyTreeDef")) return -1;
    bool ok = nodes_hash(def->nodes, def->num_nodes, &h);
    Py_LeaveRecursiveCall();
    if (!ok) return -1;
    def->hash = static_cast<Py_hash_t>(h) == -1 ? -2 : static_cast<Py_hash_t>(h);
  }
  return def->hash;
}

// --- inspection --------------------------------------------------------------------------------------------

PyObject* node_type(const Node& node) {
  switch (node.kind) {
    case NodeKind::kLeaf:
      return nullptr;
    case NodeKind::kNone:
      return reinterpret_cast<PyObject*>(Py_TYPE(Py_None));
    case NodeKind::kTuple:
      return reinterpret_cast<PyObject*>(&PyTuple_Type);
    case NodeKind::kList:
      return reinterpret_cast<PyObject*>(&PyList_Type);
    case NodeKind::kDict:
      return reinterpret_cast<PyObject*>(&PyDict_Type);
    case NodeKind::kNamedTuple:
      return node.data;
    case NodeKind::kCustom:
    case NodeKind::kDataclass:
      return node.registration->type;
  }
  return nullptr;
}

PyObject* node_public_data(const Node& node) {
  switch (node.kind) {
    case NodeKind::kDict:
      return PySequence_List(node.data);
    case NodeKind::kCustom:
    case NodeKind::kDataclass:
      return Py_NewRef(node.data);
    default:
      return Py_NewRef(Py_None);
  }
}

namespace {

PyObject* def_node_data(PyObject* self, PyObject*) {
  const Node& root = as_def(self)->nodes[as_def(self)->num_nodes - 1];
  if (root.kind == NodeKind::kLeaf) Py_RETURN_NONE;
  Ref data(node_public_data(root));
  return data ? PyTuple_Pack(2, node_type(root), data.get()) : nullptr;
}

PyObject* def_children(PyObject* self, PyObject*) {
  PyTreeDef* def = as_def(self);
  int32_t arity = def->nodes[def->num_nodes - 1].arity;
  Ref list(PyList_New(arity));
  if (!list) return nullptr;
  int32_t end = def->num_nodes - 1;  // one past the child's root
  for (int32_t c = arity - 1; c >= 0; --c) {
    int32_t size = def->nodes[end - 1].num_nodes;
    PyTreeDef* child = make_treedef(def->registry, def->nodes + end - size, size);
    if (!child) return nullptr;
    PyList_SET_ITEM(list.get(), c, as_object(child));
    end -= size;
  }
  return list.release();
}

PyObject* def_compose(PyObject* self, PyObject* other) {
  if (!is_treedef(other))
    return PyErr_Format(PyExc_TypeError, "PyTreeDef.compose: expected a PyTreeDef, got %R of type %.100s", other,
                        Py_TYPE(other)->tp_name);
  PyTreeDef *outer = as_def(self), *inner = as_def(other);
  if (outer->registry != inner->registry) {
    PyErr_SetString(PyExc_ValueError,
                    "PyTreeDef.compose: the two structures must come from the same PyTreeRegistry");
    return nullptr;
  }
  TreeDefBuilder builder(outer->registry);
  // All at once, so that a product of structures too large for memory is refused before it fills it.
  builder.reserve(static_cast<size_t>(outer->num_nodes) - outer->num_leaves +
                  static_cast<size_t>(outer->num_leaves) * inner->num_nodes);
  for (int32_t i = 0; i < outer->num_nodes; ++i) {
    Node node = outer->nodes[i];
    if (node.kind == NodeKind::kLeaf) {
      builder.add_subtree(inner);
      continue;
    }
    node.num_nodes += node.num_leaves * (inner->num_nodes - 1);
    node.num_leaves *= inner->num_leaves;
    builder.add_nodes(&node, 1);
  }
  return as_object(builder.finish());
}

// A node over child structures. `data` is owned and taken over.
PyObject* over_children(PyTreeRegistry* registry, NodeKind kind, PyObject* data, const Registration* registration,
                        uint64_t keys_hash, PyObject* children) {
  TreeDefBuilder builder(registry);
  size_t leaves = 0;
  Ref owned(data);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(children); ++i) {
    PyObject* child = PyTuple_GET_ITEM(children, i);
    if (!is_treedef(child))
      return PyErr_Format(PyExc_TypeError,
                          "expected an iterable of PyTreeDef, got %R of type %.100s at position %zd", child,
                          Py_TYPE(child)->tp_name, i);
    if (as_def(child)->registry != registry)
      return PyErr_Format(PyExc_ValueError, "the PyTreeDef at position %zd comes from another PyTreeRegistry", i);
    builder.add_subtree(as_def(child));
    leaves += as_def(child)->num_leaves;
  }
  builder.add_inner(kind, static_cast<int32_t>(PyTuple_GET_SIZE(children)), 0, leaves, owned.release(),
                    registration, keys_hash);
  return as_object(builder.finish());
}

// What a node stores for the type and data that `node_data` reports. False with an error set.
struct NodeParts {
  NodeKind kind;
  Ref data;
  const Registration* registration = nullptr;
  uint64_t keys_hash = 0;
};
bool parts_from_public(PyTreeRegistry* registry, PyObject* type, PyObject* data, Py_ssize_t arity,
                       NodeParts* out) {
  Py_ssize_t expected = arity;
  if (!PyType_Check(type)) {
    PyErr_Format(PyExc_TypeError, "PyTreeDef: a node's type must be a type, got %R", type);
    return false;
  }
  auto* t = reinterpret_cast<PyTypeObject*>(type);
  const Registration* found = registry->state->table.find(t);
  if (t == Py_TYPE(Py_None) && !found) {
    out->kind = NodeKind::kNone;
    expected = 0;
  } else if (t == &PyTuple_Type && !found) {
    out->kind = NodeKind::kTuple;
  } else if (t == &PyList_Type && !found) {
    out->kind = NodeKind::kList;
  } else if (t == &PyDict_Type && !found) {
    // Through a dict with these keys, so that the keys are ordered and shared as flattening orders and shares
    // them.
    out->kind = NodeKind::kDict;
    Ref keys(PySequence_Tuple(data)), dict(PyDict_New());
    if (!keys || !dict) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys.get()); ++i)
      if (PyDict_SetItem(dict.get(), PyTuple_GET_ITEM(keys.get(), i), Py_None) < 0) return false;
    RefStack<32> values;
    out->data = Ref(sorted_dict_keys(dict.get(), values, &out->keys_hash));
    if (!out->data) return false;
    int same = PyObject_RichCompareBool(out->data.get(), keys.get(), Py_EQ);
    if (same < 0) return false;
    if (!same) {
      PyErr_Format(PyExc_ValueError, "PyTreeDef: the keys of a dict node must be sorted and unique, got %R",
                   keys.get());
      return false;
    }
    expected = static_cast<Py_ssize_t>(values.size());
  } else if (found) {
    out->kind = found->kind;
    out->registration = found;
    out->data = Ref::borrow(data);
    if (found->kind == NodeKind::kDataclass) {
      expected = PyTuple_GET_SIZE(found->data_fields);
      if (!PyTuple_CheckExact(data) || PyTuple_GET_SIZE(data) != PyTuple_GET_SIZE(found->meta_fields)) {
        PyErr_Format(PyExc_ValueError, "PyTreeDef: a node of the dataclass %R has %zd static fields, got %R", type,
                     PyTuple_GET_SIZE(found->meta_fields), data);
        return false;
      }
    }
  } else if (PyType_FastSubclass(t, Py_TPFLAGS_TUPLE_SUBCLASS) && PyObject_HasAttr(type, names.fields)) {
    out->kind = NodeKind::kNamedTuple;
    out->data = Ref::borrow(type);
  } else {
    PyErr_Format(PyExc_ValueError, "PyTreeDef: %R is not registered as a pytree node", type);
    return false;
  }
  if (expected != arity) {
    PyErr_Format(PyExc_ValueError, "PyTreeDef: a node of type %R with data %R has %zd children, got %zd", type,
                 data, expected, arity);
    return false;
  }
  return true;
}

PyObject* def_from_node_data_and_children(PyObject*, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"registry", "node_data", "children", nullptr};
  PyObject *registry, *node_data, *iterable;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO:from_node_data_and_children", const_cast<char**>(keywords),
                                   registry_type, &registry, &node_data, &iterable))
    return nullptr;
  Ref children(PySequence_Tuple(iterable));
  if (!children) return nullptr;
  auto* r = reinterpret_cast<PyTreeRegistry*>(registry);
  if (node_data == Py_None) {
    if (PyTuple_GET_SIZE(children.get()) != 0)
      return PyErr_Format(PyExc_ValueError, "PyTreeDef: a leaf (node_data None) has no children, got %zd",
                          PyTuple_GET_SIZE(children.get()));
    TreeDefBuilder builder(r);
    builder.add_leaf();
    return as_object(builder.finish());
  }
  PyObject *type, *data;
  if (!PyTuple_Check(node_data) || PyTuple_GET_SIZE(node_data) != 2)
    return PyErr_Format(PyExc_TypeError, "PyTreeDef: node_data must be None or a (type, data) tuple, got %R",
                        node_data);
  type = PyTuple_GET_ITEM(node_data, 0);
  data = PyTuple_GET_ITEM(node_data, 1);
  NodeParts parts;
  if (!parts_from_public(r, type, data, PyTuple_GET_SIZE(children.get()), &parts)) return nullptr;
  return over_children(r, parts.kind, parts.data.release(), parts.registration, parts.keys_hash, children.get());
}

// --- pickling: (registry, [None | (type, data, arity)...] in post-order) -----------------------------------

PyObject* def_reduce(PyObject* self, PyObject*) {
  PyTreeDef* def = as_def(self);
  Ref nodes(PyList_New(def->num_nodes));
  if (!nodes) return nullptr;
  for (int32_t i = 0; i < def->num_nodes; ++i) {
    const Node& n = def->nodes[i];
    PyObject* entry;
    if (n.kind == NodeKind::kLeaf) {
      entry = Py_NewRef(Py_None);
    } else {
      Ref data(node_public_data(n));
      entry = data ? Py_BuildValue("OOi", node_type(n), data.get(), n.arity) : nullptr;
    }
    if (!entry) return nullptr;
    PyList_SET_ITEM(nodes.get(), i, entry);
  }
  Ref module(PyImport_ImportModule("velax._native"));
  Ref rebuild(module ? PyObject_GetAttrString(module.get(), "treedef_from_nodes") : nullptr);
  if (!rebuild) return nullptr;
  return Py_BuildValue("O(OO)", rebuild.get(), reinterpret_cast<PyObject*>(def->registry), nodes.get());
}

PyObject* treedef_from_nodes(PyObject*, PyObject* args) {
  PyObject *registry, *list;
  if (!PyArg_ParseTuple(args, "O!O!:treedef_from_nodes", registry_type, &registry, &PyList_Type, &list))
    return nullptr;
  auto* r = reinterpret_cast<PyTreeRegistry*>(registry);
  TreeDefBuilder builder(r);
  struct Subtree {
    size_t first_node;
    size_t leaves;
  };
  std::vector<Subtree> stack;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    Ref entry = Ref::borrow(PyList_GET_ITEM(list, i));
    if (entry.get() == Py_None) {
      stack.push_back({builder.size(), 1});
      builder.add_leaf();
      continue;
    }
    PyObject *type, *data;
    int arity;
    if (!PyTuple_Check(entry.get()) || !PyArg_ParseTuple(entry.get(), "OOi", &type, &data, &arity)) {
      if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "PyTreeDef: not a node: %R", entry.get());
      return nullptr;
    }
    if (arity < 0 || static_cast<size_t>(arity) > stack.size())
      return PyErr_Format(PyExc_ValueError, "PyTreeDef: node %zd has %d children, of which %zu are there", i,
                          arity, stack.size());
    NodeParts parts;
    if (!parts_from_public(r, type, data, arity, &parts)) return nullptr;
    size_t leaves = 0, first = builder.size();
    for (int c = 0; c < arity; ++c) {
      leaves += stack.back().leaves;
      first = stack.back().first_node;
      stack.pop_back();
    }
    builder.add_inner(parts.kind, arity, first, leaves, parts.data.release(), parts.registration, parts.keys_hash);
    stack.push_back({first, leaves});
  }
  return as_object(builder.finish());
}

PyObject* treedef_tuple(PyObject*, PyObject* args) {
  PyObject *registry, *iterable;
  if (!PyArg_ParseTuple(args, "O!O:treedef_tuple", registry_type, &registry, &iterable)) return nullptr;
  Ref children(PySequence_Tuple(iterable));
  if (!children) return nullptr;
  return over_children(reinterpret_cast<PyTreeRegistry*>(registry), NodeKind::kTuple, nullptr, nullptr, 0,
                       children.get());
}

// --- text --------------------------------------------------------------------------------------------------

// Appends str or repr of an object. Lone surrogates pass through.
bool append(std::string& out, PyObject* owned_text) {
  Ref text(owned_text);
  if (!text) return false;
  Ref bytes(PyUnicode_AsEncodedString(text.get(), "utf-8", "surrogatepass"));
  if (!bytes) return false;
  out.append(PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())));
  return true;
}

bool append_node(std::string& out, const Node& node, const std::string* children) {
  auto join = [&](auto&& item) {
    for (int32_t i = 0; i < node.arity; ++i) {
      if (i) out += ", ";
      if (!item(i)) return false;
    }
    return true;
  };
  auto plain = [&](int32_t i) {
    out += children[i];
    return true;
  };
  switch (node.kind) {
    case NodeKind::kLeaf:
      out = "*";
      return true;
    case NodeKind::kNone:
      out = "None";
      return true;
    case NodeKind::kTuple:
      out = "(";
      join(plain);
      out += node.arity == 1 ? ",)" : ")";
      return true;
    case NodeKind::kList:
      out = "[";
      join(plain);
      out += "]";
      return true;
    case NodeKind::kDict: {
      out = "{";
      bool ok = join([&](int32_t i) {
        if (!append(out, PyObject_Repr(PyTuple_GET_ITEM(node.data, i)))) return false;
        out += ": ";
        return plain(i);
      });
      out += "}";
      return ok;
    }
    default: {
      out = "CustomNode(";
      bool named = node.kind == NodeKind::kNamedTuple;
      if (named) out += "namedtuple[";
      if (!append(out, PyObject_GetAttr(node_type(node), names.class_name))) return false;
      if (!named) {
        out += "[";
        if (!append(out, PyObject_Str(node.data))) return false;
      }
      out += "], [";
      join(plain);
      out += "])";
      return true;
    }
  }
}

PyObject* def_repr(PyObject* self) {
  PyTreeDef* def = as_def(self);
  if (Py_EnterRecursiveCall(" while getting the repr of a PyTreeDef")) return nullptr;
  std::vector<std::string> stack;
  bool ok = true;
  for (int32_t i = 0; ok && i < def->num_nodes; ++i) {
    const Node& node = def->nodes[i];
    std::string text;
    ok = append_node(text, node, stack.data() + stack.size() - node.arity);
    stack.resize(stack.size() - node.arity);
    stack.push_back(std::move(text));
  }
  Py_LeaveRecursiveCall();
  if (!ok) return nullptr;
  std::string text = "PyTreeDef(" + stack[0] + ")";
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogatepass");
}

// --- the type ----------------------------------------------------------------------------------------------

PyObject* def_richcompare(PyObject* self, PyObject* other, int op) {
  if ((op != Py_EQ && op != Py_NE) || !is_treedef(other)) Py_RETURN_NOTIMPLEMENTED;
  int equal = treedef_equal(as_def(self), as_def(other));
  if (equal < 0) return nullptr;
  return PyBool_FromLong(equal == (op == Py_EQ));
}

Py_hash_t def_hash(PyObject* self) { return treedef_hash(as_def(self)); }

void def_dealloc(PyObject* self) {
  PyTreeDef* def = as_def(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  // First of all, even if the rest has to wait: from here on nobody may find this object.
  PyTreeDef*& slot = interned[def->identity % kInternSlots];
  if (slot == def) slot = nullptr;
  // Auxiliary data may hold another structure, and so on: a long chain must not use up the C stack.
  Py_TRASHCAN_BEGIN(self, def_dealloc)
  if (def->weakrefs) PyObject_ClearWeakRefs(self);
  for (int32_t i = 0; i < def->num_nodes; ++i) Py_XDECREF(def->nodes[i].data);
  Py_DECREF(reinterpret_cast<PyObject*>(def->registry));
  PyObject_GC_Del(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

int def_traverse(PyObject* self, visitproc visit, void* arg) {
  PyTreeDef* def = as_def(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(reinterpret_cast<PyObject*>(def->registry));
  for (int32_t i = 0; i < def->num_nodes; ++i) Py_VISIT(def->nodes[i].data);
  return 0;
}

PyObject* def_is_leaf(PyObject* self, PyObject*) {
  return PyBool_FromLong(as_def(self)->nodes[as_def(self)->num_nodes - 1].kind == NodeKind::kLeaf);
}

PyMethodDef def_methods[] = {
    {"unflatten", Callable<def_unflatten>::call, METH_O, "unflatten(leaves)\n--\n\nThe tree with these leaves."},
    {"flatten_up_to", Callable<def_flatten_up_to>::call, METH_O,
     "flatten_up_to(tree)\n--\n\nThe subtrees of `tree` at this structure's leaves; ValueError where they do not "
     "match."},
    {"compose", Callable<def_compose>::call, METH_O,
     "compose(inner)\n--\n\nThis structure with every leaf replaced by `inner`."},
    {"walk", Callable<def_walk>::call, METH_VARARGS,
     "walk(f_node, f_leaf, leaves)\n--\n\nFolds from the leaves up: `f_leaf(leaf)`, `f_node(children, node "
     "data)`."},
    {"from_iterable_tree", Callable<def_from_iterable_tree>::call, METH_O,
     "from_iterable_tree(tree)\n--\n\nThe tree whose nodes are given as iterables of children."},
    {"children", Callable<def_children>::call, METH_NOARGS, "children()\n--\n\nThe structures of the root's children."},
    {"node_data", def_node_data, METH_NOARGS, "node_data()\n--\n\n(type, data) of the root, None for a leaf."},
    {"is_leaf", def_is_leaf, METH_NOARGS, "is_leaf()\n--\n\nWhether this is the structure of a single leaf."},
    {"leaf_counts_in", Callable<def_leaf_counts_in>::call, METH_O,
     "leaf_counts_in(full)\n--\n\nHow many leaves of the structure `full` are below every leaf of this prefix of "
     "it."},
    {"from_node_data_and_children",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Callable<def_from_node_data_and_children>::call)),
     METH_VARARGS | METH_KEYWORDS | METH_STATIC,
     "from_node_data_and_children(registry, node_data, children)\n--\n\n"
     "The inverse of `node_data()` and `children()`."},
    {"__reduce__", Callable<def_reduce>::call, METH_NOARGS, nullptr},
    {nullptr},
};

PyMemberDef def_members[] = {
    {"num_leaves", T_INT, offsetof(PyTreeDef, num_leaves), READONLY, "number of leaves"},
    {"num_nodes", T_INT, offsetof(PyTreeDef, num_nodes), READONLY, "number of nodes, leaves included"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTreeDef, weakrefs), READONLY, nullptr},
    {nullptr},
};

PyType_Slot def_slots[] = {
    {Py_tp_doc,
     const_cast<char*>("The structure of a pytree: a tree with its leaves taken out. Immutable and hashable.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(def_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(def_traverse)},
    {Py_tp_repr, reinterpret_cast<void*>(Callable<def_repr>::call)},
    {Py_tp_hash, reinterpret_cast<void*>(def_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(def_richcompare)},
    {Py_tp_methods, def_methods},
    {Py_tp_members, def_members},
    {0, nullptr},
};
PyType_Spec def_spec = {"velax.tree_util.PyTreeDef", sizeof(PyTreeDef), sizeof(Node),
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, def_slots};

PyMethodDef module_functions[] = {
    {"treedef_tuple", Callable<treedef_tuple>::call, METH_VARARGS,
     "treedef_tuple(registry, treedefs)\n--\n\nThe structure of a tuple of trees of these structures."},
    {"treedef_from_nodes", Callable<treedef_from_nodes>::call, METH_VARARGS,
     "treedef_from_nodes(registry, nodes)\n--\n\nA structure from its nodes in post-order (what pickling "
     "stores)."},
    {nullptr},
};

}  // namespace

bool init_pytree_def(PyObject* module) {
  static_assert(sizeof(PyTreeDef) % alignof(Node) == 0, "the nodes follow the object");
  return add_type(module, &def_spec, "PyTreeDef", &treedef_type) &&
         PyModule_AddFunctions(module, module_functions) == 0;
}

}  // namespace velax
