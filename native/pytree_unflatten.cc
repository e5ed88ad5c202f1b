// Putting trees together from a structure and leaves, and taking trees apart along a given structure.
#include "pytree_internal.h"

namespace velax {

namespace {

PyTreeDef* as_def(PyObject* self) { return reinterpret_cast<PyTreeDef*>(self); }

}  // namespace

// --- putting together --------------------------------------------------------------------------------------

PyObject* make_node(const Node& node, PyObject* const* children) {
  Py_ssize_t n = node.arity;
  switch (node.kind) {
    case NodeKind::kLeaf:
      break;
    case NodeKind::kNone:
      return Py_NewRef(Py_None);
    case NodeKind::kTuple: {
      PyObject* tuple = PyTuple_New(n);
      if (tuple)
        for (Py_ssize_t i = 0; i < n; ++i) PyTuple_SET_ITEM(tuple, i, Py_NewRef(children[i]));
      return tuple;
    }
    case NodeKind::kList: {
      PyObject* list = PyList_New(n);
      if (list)
        for (Py_ssize_t i = 0; i < n; ++i) PyList_SET_ITEM(list, i, Py_NewRef(children[i]));
      return list;
    }
    case NodeKind::kDict: {
      Ref dict(PyDict_New());
      if (!dict) return nullptr;
      for (Py_ssize_t i = 0; i < n; ++i)
        if (PyDict_SetItem(dict.get(), PyTuple_GET_ITEM(node.data, i), children[i]) < 0) return nullptr;
      return dict.release();
    }
    case NodeKind::kNamedTuple:
      return PyObject_Vectorcall(node.data, children, static_cast<size_t>(n), nullptr);
    case NodeKind::kCustom: {
      Ref tuple(PyTuple_New(n));
      if (!tuple) return nullptr;
      for (Py_ssize_t i = 0; i < n; ++i) PyTuple_SET_ITEM(tuple.get(), i, Py_NewRef(children[i]));
      PyObject* args[] = {node.data, tuple.get()};
      return PyObject_Vectorcall(node.registration->from_iterable, args, 2, nullptr);
    }
    case NodeKind::kDataclass: {
      RefStack<16> args;
      for (Py_ssize_t i = 0; i < n; ++i) args.push(Py_NewRef(children[i]));
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(node.data); ++i)
        args.push(Py_NewRef(PyTuple_GET_ITEM(node.data, i)));
      return PyObject_Vectorcall(node.registration->type, args.data(), 0, node.registration->all_fields);
    }
  }
  PyErr_SetString(PyExc_SystemError, "PyTreeDef: a leaf is not a node");
  return nullptr;
}

PyObject* unflatten(const PyTreeDef* def, PyObject* const* leaves, size_t count) {
  if (count != static_cast<size_t>(def->num_leaves)) {
    if (count < static_cast<size_t>(def->num_leaves))
      return PyErr_Format(PyExc_ValueError, "Too few leaves for PyTreeDef; expected %d, got %zu", def->num_leaves,
                          count);
    return PyErr_Format(PyExc_ValueError, "Too many leaves for PyTreeDef; expected %d.", def->num_leaves);
  }
  return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    RefStack<64> stack;
    PyObject* made = nullptr;
    for (int32_t i = 0; i < def->num_nodes; ++i) {
      const Node& node = def->nodes[i];
      if (node.kind == NodeKind::kLeaf) {
        made = Py_NewRef(*leaves++);
      } else {
        made = make_node(node, stack.top(node.arity));
        if (!made) return nullptr;
        stack.drop(node.arity);
      }
      stack.push(made);
    }
    stack.forget(1);  // the root, which the caller gets
    return made;
  });
}

namespace {

// Owned references to the elements of an iterable, at most `limit + 1` of them (the iterable may be endless).
bool collect(PyObject* iterable, size_t limit, RefStack<64>& out) {
  if (PyTuple_CheckExact(iterable) || PyList_CheckExact(iterable)) {
    size_t n = static_cast<size_t>(PySequence_Fast_GET_SIZE(iterable));
    out.reserve(n);
    for (size_t i = 0; i < n; ++i) out.push(Py_NewRef(PySequence_Fast_ITEMS(iterable)[i]));
    return true;
  }
  Ref iterator(PyObject_GetIter(iterable));
  if (!iterator) {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError, "PyTreeDef: the leaves must be an iterable, got %R of type %.100s", iterable,
                   Py_TYPE(iterable)->tp_name);
    }
    return false;
  }
  while (out.size() <= limit) {
    PyObject* item = PyIter_Next(iterator.get());
    if (!item) return !PyErr_Occurred();
    out.push(item);
  }
  return true;
}

}  // namespace

PyObject* def_unflatten(PyObject* self, PyObject* iterable) {
  RefStack<64> leaves;
  if (!collect(iterable, as_def(self)->num_leaves, leaves)) return nullptr;
  return unflatten(as_def(self), leaves.data(), leaves.size());
}

PyObject* def_walk(PyObject* self, PyObject* args) {
  PyObject *f_node, *f_leaf, *iterable;
  if (!PyArg_ParseTuple(args, "OOO:walk", &f_node, &f_leaf, &iterable)) return nullptr;
  PyTreeDef* def = as_def(self);
  RefStack<64> leaves, stack;
  if (!collect(iterable, def->num_leaves, leaves)) return nullptr;
  size_t wanted = static_cast<size_t>(def->num_leaves);
  if (leaves.size() != wanted)
    return PyErr_Format(PyExc_ValueError, "Too %s leaves for PyTreeDef; expected %zu",
                        leaves.size() < wanted ? "few" : "many", wanted);
  size_t next = 0;
  PyObject* root = nullptr;  // borrowed from the stack
  for (int32_t i = 0; i < def->num_nodes; ++i) {
    const Node& node = def->nodes[i];
    PyObject* result;
    if (node.kind == NodeKind::kLeaf) {
      PyObject* leaf = leaves[next++];
      result = f_leaf == Py_None ? Py_NewRef(leaf) : PyObject_CallOneArg(f_leaf, leaf);
    } else {
      Ref children(PyTuple_New(node.arity)), data(node_public_data(node));
      if (!children || !data) return nullptr;
      for (int32_t c = 0; c < node.arity; ++c)
        PyTuple_SET_ITEM(children.get(), c, Py_NewRef(stack.top(node.arity)[c]));
      if (node.kind == NodeKind::kNamedTuple) data = Ref::borrow(node.data);
      PyObject* call[] = {children.get(), data.get()};
      result = PyObject_Vectorcall(f_node, call, 2, nullptr);
    }
    if (!result) return nullptr;
    stack.drop(node.arity);
    stack.push(result);
    root = result;
  }
  return Py_XNewRef(root);
}

// --- matching a tree against a structure -------------------------------------------------------------------

namespace {

constexpr const char* kNoneHint =
    "Expected None, got %R.\n\nNone is a node without children here, so it matches only None. To pair it with "
    "other values, "
    "treat it as a leaf, e.g.:\n  tree.map(lambda x, y: None if x is None else f(x, y), a, b, is_leaf=lambda x: x "
    "is None)";

// Compares one node of the structure with an object and gives its children (owned references pushed).
bool match_node(const PyTreeRegistry* registry, const Node& node, PyObject* o, RefStack<32>& children) {
  switch (node.kind) {
    case NodeKind::kLeaf:
      break;
    case NodeKind::kNone:
      if (o == Py_None) return true;
      PyErr_Format(PyExc_ValueError, kNoneHint, o);
      return false;
    case NodeKind::kTuple:
    case NodeKind::kNamedTuple:
    case NodeKind::kList: {
      bool list = node.kind == NodeKind::kList, named = node.kind == NodeKind::kNamedTuple;
      const char* expected = list ? "list" : named ? "named tuple" : "tuple";
      if (list ? !PyList_CheckExact(o) : named ? !is_namedtuple(o) : !PyTuple_CheckExact(o)) {
        PyErr_Format(PyExc_ValueError, "Expected %s, got %R.", expected, o);
        return false;
      }
      Py_ssize_t n = list ? PyList_GET_SIZE(o) : PyTuple_GET_SIZE(o);
      if (n != node.arity) {
        PyErr_Format(PyExc_ValueError, "%s arity mismatch: %zd != %d; %s: %R.",
                     list    ? "List"
                     : named ? "Named tuple"
                             : "Tuple",
                     n, node.arity, list ? "list" : "tuple", o);
        return false;
      }
      if (named && reinterpret_cast<PyObject*>(Py_TYPE(o)) != node.data) {
        PyErr_Format(PyExc_ValueError, "Named tuple type mismatch: expected type: %R, tuple: %R.", node.data, o);
        return false;
      }
      for (Py_ssize_t i = 0; i < n; ++i)
        children.push(Py_NewRef(list ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i)));
      return true;
    }
    case NodeKind::kDict: {
      if (!PyDict_CheckExact(o)) {
        PyErr_Format(PyExc_ValueError, "Expected dict, got %R.", o);
        return false;
      }
      uint64_t keys_hash;
      Ref keys(sorted_dict_keys(o, children, &keys_hash));
      if (!keys) return false;
      int equal = keys.get() == node.data ? 1 : PyObject_RichCompareBool(keys.get(), node.data, Py_EQ);
      if (equal < 0) return false;
      if (!equal) {
        Ref expected(PySequence_List(node.data)), present(PySequence_List(keys.get()));
        if (expected && present)
          PyErr_Format(PyExc_ValueError, "Dict key mismatch; expected keys: %R; present keys: %R.", expected.get(),
                       present.get());
        return false;
      }
      return true;
    }
    case NodeKind::kCustom:
    case NodeKind::kDataclass: {
      bool custom = node.kind == NodeKind::kCustom;
      const Registration* found = registry->state->table.find(Py_TYPE(o));
      if (!found || found->type != node.registration->type) {
        PyErr_Format(PyExc_ValueError, "Custom %snode type mismatch: expected type: %R, value: %R.",
                     custom ? "" : "dataclass ", node.registration->type, o);
        return false;
      }
      Ref data, values;  // the values of a dataclass are read below
      if (custom) {
        CustomNode parts;
        if (!flatten_custom(found, o, &parts)) return false;
        data = std::move(parts.data);
        values = std::move(parts.children);
      } else {
        data = Ref(get_fields(o, found->meta_fields));
        if (!data) return false;
      }
      int equal = PyObject_RichCompareBool(node.data, data.get(), Py_EQ);
      if (equal < 0) return false;
      if (!equal) {
        PyErr_Format(PyExc_ValueError, "Mismatch custom %snode data: %R != %R; value: %R.",
                     custom ? "" : "dataclass ", node.data, data.get(), o);
        return false;
      }
      if (!custom) {
        for (int32_t i = 0; i < node.arity; ++i) {
          PyObject* value = PyObject_GetAttr(o, PyTuple_GET_ITEM(found->data_fields, i));
          if (!value) return false;
          children.push(value);
        }
        return true;
      }
      if (PyTuple_GET_SIZE(values.get()) != node.arity) {
        PyErr_Format(PyExc_ValueError, "Custom type arity mismatch: %zd != %d; value: %R.",
                     PyTuple_GET_SIZE(values.get()), node.arity, o);
        return false;
      }
      for (Py_ssize_t i = 0; i < node.arity; ++i) children.push(Py_NewRef(PyTuple_GET_ITEM(values.get(), i)));
      return true;
    }
  }
  PyErr_SetString(PyExc_SystemError, "PyTreeDef: a leaf has no children");
  return false;
}

}  // namespace

bool flatten_up_to(const PyTreeDef* def, PyObject* tree, std::vector<PyObject*>& leaves) {
  // The nodes are in post-order, so they are met from the last to the first, each parent before its children, the
  // last child first; `agenda` holds the objects still to be matched, its top belonging to the node at hand.
  std::vector<PyObject*> found(def->num_leaves);
  size_t next = found.size();
  RefStack<32> agenda;
  agenda.push(Py_NewRef(tree));
  bool ok = true;
  for (int32_t i = def->num_nodes - 1; ok && i >= 0; --i) {
    Ref o(agenda[agenda.size() - 1]);
    agenda.forget(1);
    if (def->nodes[i].kind == NodeKind::kLeaf)
      found[--next] = o.release();
    else
      ok = match_node(def->registry, def->nodes[i], o.get(), agenda);
  }
  if (!ok) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (; next < found.size(); ++next) Py_DECREF(found[next]);
    PyErr_Restore(type, value, traceback);
    return false;
  }
  leaves.insert(leaves.end(), found.begin(), found.end());
  return true;
}

PyObject* def_flatten_up_to(PyObject* self, PyObject* tree) {
  std::vector<PyObject*> leaves;
  if (!flatten_up_to(as_def(self), tree, leaves)) return nullptr;
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(leaves.size()));
  if (!list) {
    release_leaves(leaves);
    return nullptr;
  }
  for (size_t i = 0; i < leaves.size(); ++i) PyList_SET_ITEM(list, i, leaves[i]);
  return list;
}

// Rebuilds a tree whose nodes are given as plain iterables of children.
PyObject* def_from_iterable_tree(PyObject* self, PyObject* tree) {
  PyTreeDef* def = as_def(self);
  RefStack<32> agenda;
  std::vector<PyObject*> leaves(def->num_leaves);
  size_t next = leaves.size();
  agenda.push(Py_NewRef(tree));
  bool ok = true;
  for (int32_t i = def->num_nodes - 1; ok && i >= 0; --i) {
    Ref o(agenda[agenda.size() - 1]);
    agenda.forget(1);
    const Node& node = def->nodes[i];
    if (node.kind == NodeKind::kLeaf) {
      leaves[--next] = o.release();
      continue;
    }
    Ref children(PySequence_Tuple(o.get()));
    ok = static_cast<bool>(children);
    if (ok && PyTuple_GET_SIZE(children.get()) != node.arity) {
      PyErr_Format(PyExc_ValueError,
                   "Arity mismatch between trees: the structure has %d children where the iterable has %zd",
                   node.arity, PyTuple_GET_SIZE(children.get()));
      ok = false;
    }
    for (int32_t c = 0; ok && c < node.arity; ++c) agenda.push(Py_NewRef(PyTuple_GET_ITEM(children.get(), c)));
  }
  PyObject* result = ok ? unflatten(def, leaves.data(), leaves.size()) : nullptr;
  for (; next < leaves.size(); ++next) Py_DECREF(leaves[next]);
  return result;
}

PyObject* def_leaf_counts_in(PyObject* self, PyObject* other) {
  if (!is_treedef(other))
    return PyErr_Format(PyExc_TypeError, "PyTreeDef.leaf_counts_in: expected a PyTreeDef, got %R of type %.100s",
                        other, Py_TYPE(other)->tp_name);
  PyTreeDef *prefix = as_def(self), *full = as_def(other);
  Ref counts(PyList_New(prefix->num_leaves));
  if (!counts) return nullptr;
  Py_ssize_t next = prefix->num_leaves;
  int32_t f = full->num_nodes - 1;
  // Backwards through both post-orders: matching nodes are met in the same order, and below a leaf of the prefix a
  // whole subtree is passed over.
  for (int32_t p = prefix->num_nodes - 1; p >= 0; --p) {
    const Node &a = prefix->nodes[p], &b = full->nodes[f];
    if (a.kind == NodeKind::kLeaf) {
      PyObject* count = PyLong_FromLong(b.num_leaves);
      if (!count) return nullptr;
      PyList_SET_ITEM(counts.get(), --next, count);
      f -= b.num_nodes;
      continue;
    }
    int equal = node_equal(a, b);
    if (equal < 0) return nullptr;
    if (!equal) return PyErr_Format(PyExc_ValueError, "%R is not a prefix of %R", self, other);
    --f;
  }
  return counts.release();
}

}  // namespace velax
