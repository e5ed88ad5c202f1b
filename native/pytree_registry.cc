// The Python type `PyTreeRegistry`: which types are nodes, and flattening under that choice.
#include "pytree_internal.h"

namespace velax {

PyTypeObject* registry_type;
Names names;

namespace {

PyTreeRegistry* default_registry;

PyTreeRegistry* as_registry(PyObject* self) { return reinterpret_cast<PyTreeRegistry*>(self); }

}  // namespace

void TypeTable::insert(PyTypeObject* type, const Registration* registration) {
  if (2 * (count_ + 1) > slots_.size()) {
    std::vector<Slot> old = std::move(slots_);
    slots_.assign(old.empty() ? 32 : 2 * old.size(), Slot{nullptr, nullptr});
    mask_ = slots_.size() - 1;
    count_ = 0;
    for (const Slot& s : old)
      if (s.type) insert(s.type, s.registration);
  }
  size_t i = slot(type);
  while (slots_[i].type) i = (i + 1) & mask_;
  slots_[i] = {type, registration};
  ++count_;
}

PyTreeRegistry* default_pytree_registry() { return default_registry; }

bool is_leaf_type(PyTypeObject* type) {
  if (type == &PyTuple_Type || type == &PyList_Type || type == &PyDict_Type || type == Py_TYPE(Py_None))
    return false;
  if (default_registry->state->table.find(type)) return false;
  return !PyType_FastSubclass(type, Py_TPFLAGS_TUPLE_SUBCLASS) ||
         !PyObject_HasAttr(reinterpret_cast<PyObject*>(type), names.fields);
}

namespace {

PyTreeRegistry* registry_alloc(PyTypeObject* type) {
  auto* self = reinterpret_cast<PyTreeRegistry*>(type->tp_alloc(type, 0));
  if (self) {
    self->enable_none = self->enable_tuple = self->enable_namedtuple = self->enable_list = self->enable_dict =
        true;
    self->global_name = nullptr;
    self->state = new RegistryState;
  }
  return self;
}

PyObject* registry_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"enable_none", "enable_tuple", "enable_namedtuple",
                                   "enable_list", "enable_dict",  nullptr};
  int none = 1, tuple = 1, namedtuple = 1, list = 1, dict = 1;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ppppp:PyTreeRegistry", const_cast<char**>(keywords), &none,
                                   &tuple, &namedtuple, &list, &dict))
    return nullptr;
  PyTreeRegistry* self = registry_alloc(type);
  if (!self) return nullptr;
  self->enable_none = none;
  self->enable_tuple = tuple;
  self->enable_namedtuple = namedtuple;
  self->enable_list = list;
  self->enable_dict = dict;
  return reinterpret_cast<PyObject*>(self);
}

void registry_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  delete as_registry(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

int registry_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  for (const auto& r : as_registry(self)->state->registrations) {
    Py_VISIT(r->type);
    Py_VISIT(r->to_iterable);
    Py_VISIT(r->from_iterable);
    Py_VISIT(r->to_iterable_with_keys);
  }
  return 0;
}

// --- registration ------------------------------------------------------------------------------------------

bool is_builtin(const PyTreeRegistry* registry, PyTypeObject* type) {
  return (registry->enable_none && type == Py_TYPE(Py_None)) ||
         (registry->enable_tuple && type == &PyTuple_Type) || (registry->enable_list && type == &PyList_Type) ||
         (registry->enable_dict && type == &PyDict_Type);
}

// Adds a registration unless the type has one already.
bool add_registration(PyTreeRegistry* self, std::unique_ptr<Registration> registration) {
  auto* type = reinterpret_cast<PyTypeObject*>(registration->type);
  if (is_builtin(self, type) || self->state->table.find(type)) {
    PyErr_Format(PyExc_ValueError, "Duplicate custom %sPyTreeDef type registration for %R.",
                 registration->kind == NodeKind::kDataclass ? "dataclass " : "", registration->type);
    return false;
  }
  self->state->table.insert(type, registration.get());
  self->state->registrations.push_back(std::move(registration));
  return true;
}

bool check_type(const char* function, PyObject* type) {
  if (PyType_Check(type)) return true;
  PyErr_Format(PyExc_TypeError, "%s: the node type must be a type, got %R of type %.100s", function, type,
               Py_TYPE(type)->tp_name);
  return false;
}

bool check_callable(const char* argument, PyObject* type, PyObject* function) {
  if (PyCallable_Check(function)) return true;
  PyErr_Format(PyExc_TypeError, "register_node: %s must be callable, got %R of type %.100s for node type %R",
               argument, function, Py_TYPE(function)->tp_name, type);
  return false;
}

PyObject* register_node(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"type", "to_iterable", "from_iterable", "to_iterable_with_keys", nullptr};
  PyObject *type, *to_iterable, *from_iterable, *with_keys = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:register_node", const_cast<char**>(keywords), &type,
                                   &to_iterable, &from_iterable, &with_keys))
    return nullptr;
  if (!check_type("register_node", type) || !check_callable("to_iterable", type, to_iterable) ||
      !check_callable("from_iterable", type, from_iterable) ||
      (with_keys != Py_None && !check_callable("to_iterable_with_keys", type, with_keys)))
    return nullptr;
  auto registration = std::make_unique<Registration>(NodeKind::kCustom, type);
  registration->to_iterable = Py_NewRef(to_iterable);
  registration->from_iterable = Py_NewRef(from_iterable);
  if (with_keys != Py_None) registration->to_iterable_with_keys = Py_NewRef(with_keys);
  if (!add_registration(as_registry(self), std::move(registration))) return nullptr;
  Py_RETURN_NONE;
}

// A tuple of interned names, each used once.
PyObject* field_names(PyObject* sequence, PyObject* type) {
  Ref fields(PySequence_Tuple(sequence));
  if (!fields) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields.get()); ++i) {
    PyObject* name = PyTuple_GET_ITEM(fields.get(), i);
    if (!PyUnicode_CheckExact(name))
      return PyErr_Format(PyExc_TypeError, "register_dataclass_node: field names of %R must be str, got %R", type,
                          name);
  }
  Ref interned(PyTuple_New(PyTuple_GET_SIZE(fields.get())));
  if (!interned) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields.get()); ++i) {
    PyObject* name = Py_NewRef(PyTuple_GET_ITEM(fields.get(), i));
    PyUnicode_InternInPlace(&name);
    PyTuple_SET_ITEM(interned.get(), i, name);
  }
  return interned.release();
}

PyObject* register_dataclass_node(PyObject* self, PyObject* args) {
  PyObject *type, *data, *meta;
  if (!PyArg_ParseTuple(args, "OOO:register_dataclass_node", &type, &data, &meta)) return nullptr;
  if (!check_type("register_dataclass_node", type)) return nullptr;
  auto registration = std::make_unique<Registration>(NodeKind::kDataclass, type);
  registration->data_fields = field_names(data, type);
  if (!registration->data_fields) return nullptr;
  registration->meta_fields = field_names(meta, type);
  if (!registration->meta_fields) return nullptr;
  registration->all_fields = PySequence_Concat(registration->data_fields, registration->meta_fields);
  if (!registration->all_fields) return nullptr;
  // The fields become the keywords of one call, in which each may stand once.
  PyObject* all = registration->all_fields;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(all); ++i)
    for (Py_ssize_t j = 0; j < i; ++j)
      if (PyTuple_GET_ITEM(all, i) == PyTuple_GET_ITEM(all, j))
        return PyErr_Format(PyExc_ValueError, "register_dataclass: field %R of %R is listed twice",
                            PyTuple_GET_ITEM(all, i), type);
  if (!add_registration(as_registry(self), std::move(registration))) return nullptr;
  Py_RETURN_NONE;
}

PyObject* is_node(PyObject* self, PyObject* type) {
  if (!PyType_Check(type)) Py_RETURN_FALSE;
  auto* t = reinterpret_cast<PyTypeObject*>(type);
  PyTreeRegistry* registry = as_registry(self);
  bool node = is_builtin(registry, t) || registry->state->table.find(t) ||
              (registry->enable_namedtuple && PyType_FastSubclass(t, Py_TPFLAGS_TUPLE_SUBCLASS) &&
               t != &PyTuple_Type && PyObject_HasAttr(type, names.fields));
  return PyBool_FromLong(node);
}

// --- flattening --------------------------------------------------------------------------------------------

// Reads `(tree, leaf_predicate=None)` of a fastcall without the cost of a general parser.
bool parse_tree_args(const char* function, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
                     const char* predicate_name, PyObject** tree, PyObject** predicate) {
  *tree = nullptr;
  *predicate = nullptr;
  if (nargs > 2) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most 2 positional arguments (%zd given)", function, nargs);
    return false;
  }
  if (nargs > 0) *tree = args[0];
  if (nargs > 1) *predicate = args[1];
  Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t i = 0; i < nkw; ++i) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, i);
    PyObject** target = PyUnicode_CompareWithASCIIString(name, "tree") == 0           ? tree
                        : PyUnicode_CompareWithASCIIString(name, predicate_name) == 0 ? predicate
                                                                                      : nullptr;
    if (!target) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function, name);
      return false;
    }
    if (*target) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", function, name);
      return false;
    }
    *target = args[nargs + i];
  }
  if (!*tree) {
    PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: 'tree'", function);
    return false;
  }
  if (*predicate == Py_None) *predicate = nullptr;
  if (*predicate && !PyCallable_Check(*predicate)) {
    PyErr_Format(PyExc_TypeError, "%s(): %s must be None or a callable, got %R of type %.100s", function,
                 predicate_name, *predicate, Py_TYPE(*predicate)->tp_name);
    return false;
  }
  return true;
}

// A list that takes over the references.
PyObject* list_of(std::vector<PyObject*>& owned) {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(owned.size()));
  if (!list) {
    release_leaves(owned);
    return nullptr;
  }
  for (size_t i = 0; i < owned.size(); ++i) PyList_SET_ITEM(list, i, owned[i]);
  owned.clear();
  return list;
}

PyObject* pair_of(PyObject* leaves, PyTreeDef* def) {
  Ref first(leaves), second(reinterpret_cast<PyObject*>(def));
  return first && second ? PyTuple_Pack(2, first.get(), second.get()) : nullptr;
}

enum class Want { kBoth, kLeaves, kStructure };

PyObject* flatten(PyTreeRegistry* registry, PyObject* tree, PyObject* predicate, Want want) {
  std::vector<PyObject*> leaves;
  TreeDefBuilder builder(registry);
  if (!flatten_into(tree, leaves, builder, predicate)) return nullptr;
  if (want == Want::kStructure) {
    release_leaves(leaves);
    return reinterpret_cast<PyObject*>(builder.finish());
  }
  PyObject* list = list_of(leaves);
  if (want == Want::kLeaves || !list) return list;
  return pair_of(list, builder.finish());
}

PyObject* registry_flatten(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject *tree, *predicate;
  if (!parse_tree_args("flatten", args, nargs, kwnames, "leaf_predicate", &tree, &predicate)) return nullptr;
  return flatten(as_registry(self), tree, predicate, Want::kBoth);
}

PyObject* registry_flatten_with_path(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject *tree, *predicate;
  if (!parse_tree_args("flatten_with_path", args, nargs, kwnames, "leaf_predicate", &tree, &predicate))
    return nullptr;
  TreeDefBuilder builder(as_registry(self));
  Ref out(PyList_New(0));
  if (!out || !flatten_with_path_into(tree, out.get(), builder, predicate)) return nullptr;
  return pair_of(out.release(), builder.finish());
}

// The builtin nodes' children and data as the Python-level one-level functions report them; `with_keys` pairs the
// children with key entries. None for a leaf.
PyObject* one_level(PyTreeRegistry* registry, PyObject* o, bool with_keys) {
  const Registration* registration = nullptr;
  NodeKind kind = classify(registry, o, &registration);
  Ref children, data = Ref::borrow(Py_None), key_names;
  switch (kind) {
    case NodeKind::kLeaf:
      Py_RETURN_NONE;
    case NodeKind::kNone:
      children = Ref(PyTuple_New(0));
      break;
    case NodeKind::kTuple:
      children = Ref::borrow(o);
      break;
    case NodeKind::kNamedTuple:
      children = Ref(PySequence_List(o));
      data = Ref::borrow(reinterpret_cast<PyObject*>(Py_TYPE(o)));
      key_names = Ref(PyObject_GetAttr(data.get(), names.fields));
      if (key_names) key_names = Ref(PySequence_Tuple(key_names.get()));
      if (!key_names) return nullptr;
      break;
    case NodeKind::kList:
      children = Ref(PySequence_List(o));
      break;
    case NodeKind::kDict: {
      RefStack<32> values;
      uint64_t keys_hash;
      data = Ref(sorted_dict_keys(o, values, &keys_hash));
      if (!data) return nullptr;
      children = Ref(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
      if (!children) return nullptr;
      for (size_t i = 0; i < values.size(); ++i) PyTuple_SET_ITEM(children.get(), i, Py_NewRef(values[i]));
      key_names = Ref::borrow(data.get());
      break;
    }
    case NodeKind::kDataclass:
      data = Ref(get_fields(o, registration->meta_fields));
      if (!data) return nullptr;
      children = Ref(get_fields(o, registration->data_fields));
      if (children) children = Ref(PySequence_List(children.get()));
      key_names = Ref::borrow(registration->data_fields);
      break;
    case NodeKind::kCustom: {
      if (!with_keys) return call_to_iterable(registration, o);
      if (registration->to_iterable_with_keys) return PyObject_CallOneArg(registration->to_iterable_with_keys, o);
      CustomNode node;
      if (!flatten_custom(registration, o, &node)) return nullptr;
      children = std::move(node.children);
      data = std::move(node.data);
    }
  }
  if (!children) return nullptr;
  if (with_keys) {
    Py_ssize_t n = PyObject_Size(children.get());
    Ref pairs(PyTuple_New(n));
    if (n < 0 || !pairs) return nullptr;
    for (Py_ssize_t i = 0; i < n; ++i) {
      bool named = key_names && i < PyTuple_GET_SIZE(key_names.get());
      Ref key(kind == NodeKind::kDict     ? make_dict_key(PyTuple_GET_ITEM(key_names.get(), i))
              : named                     ? make_getattr_key(PyTuple_GET_ITEM(key_names.get(), i))
              : kind == NodeKind::kCustom ? make_flattened_index_key(i)
                                          : make_sequence_key(i));
      Ref child(PySequence_GetItem(children.get(), i));
      PyObject* pair = key && child ? PyTuple_Pack(2, key.get(), child.get()) : nullptr;
      if (!pair) return nullptr;
      PyTuple_SET_ITEM(pairs.get(), i, pair);
    }
    children = std::move(pairs);
  }
  return PyTuple_Pack(2, children.get(), data.get());
}

PyObject* registry_flatten_one_level(PyObject* self, PyObject* tree) {
  return one_level(as_registry(self), tree, false);
}

PyObject* registry_flatten_one_level_with_keys(PyObject* self, PyObject* tree) {
  return one_level(as_registry(self), tree, true);
}

PyObject* registry_reduce(PyObject* self, PyObject*) {
  if (const char* name = as_registry(self)->global_name) return PyUnicode_FromString(name);
  return PyErr_Format(PyExc_TypeError,
                      "cannot pickle %R: only the registries of velax.tree_util can be found again by name", self);
}

#define FASTCALL(f) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f))

PyMethodDef registry_methods[] = {
    {"flatten", FASTCALL(Callable<registry_flatten>::call), METH_FASTCALL | METH_KEYWORDS,
     "flatten(tree, leaf_predicate=None)\n--\n\nReturns (leaves, treedef)."},
    {"flatten_with_path", FASTCALL(Callable<registry_flatten_with_path>::call), METH_FASTCALL | METH_KEYWORDS,
     "flatten_with_path(tree, leaf_predicate=None)\n--\n\nReturns ([(key path, leaf)...], treedef); the predicate "
     "takes\n"
     "(key path, node)."},
    {"flatten_one_level", Callable<registry_flatten_one_level>::call, METH_O,
     "flatten_one_level(tree)\n--\n\nReturns (children, auxiliary data) of a node, None for a leaf."},
    {"flatten_one_level_with_keys", Callable<registry_flatten_one_level_with_keys>::call, METH_O,
     "flatten_one_level_with_keys(tree)\n--\n\nReturns ([(key, child)...], auxiliary data) of a node, None for a "
     "leaf."},
    {"is_node", is_node, METH_O, "is_node(type)\n--\n\nWhether objects of this exact type are nodes."},
    {"register_node", FASTCALL(Callable<register_node>::call), METH_VARARGS | METH_KEYWORDS,
     "register_node(type, to_iterable, from_iterable, to_iterable_with_keys=None)\n--\n\nMakes a type a node."},
    {"register_dataclass_node", Callable<register_dataclass_node>::call, METH_VARARGS,
     "register_dataclass_node(type, data_fields, meta_fields)\n--\n\nMakes a type a node by the names of its "
     "fields."},
    {"__reduce__", registry_reduce, METH_NOARGS, nullptr},
    {nullptr},
};

PyType_Slot registry_slots[] = {
    {Py_tp_doc, const_cast<char*>("PyTreeRegistry(enable_none=True, enable_tuple=True, enable_namedtuple=True, "
                                  "enable_list=True, enable_dict=True)\n--\n\n"
                                  "The set of types that are pytree nodes. A type, once registered, stays.")},
    {Py_tp_new, reinterpret_cast<void*>(registry_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(registry_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(registry_traverse)},
    {Py_tp_methods, registry_methods},
    {0, nullptr},
};
PyType_Spec registry_spec = {"velax.tree_util.PyTreeRegistry", sizeof(PyTreeRegistry), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, registry_slots};

// --- module functions over the default registry ------------------------------------------------------------

template <Want want>
PyObject* module_flatten(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  constexpr const char* name = want == Want::kBoth     ? "tree_flatten"
                               : want == Want::kLeaves ? "tree_leaves"
                                                       : "tree_structure";
  PyObject *tree, *predicate;
  if (!parse_tree_args(name, args, nargs, kwnames, "is_leaf", &tree, &predicate)) return nullptr;
  return flatten(default_registry, tree, predicate, want);
}

PyObject* module_all_leaves(PyObject*, PyObject* args) {
  PyObject *registry, *iterable;
  if (!PyArg_ParseTuple(args, "O!O:all_leaves", registry_type, &registry, &iterable)) return nullptr;
  Ref iterator(PyObject_GetIter(iterable));
  if (!iterator) return nullptr;
  while (PyObject* item = PyIter_Next(iterator.get())) {
    const Registration* registration;
    NodeKind kind = classify(as_registry(registry), item, &registration);
    Py_DECREF(item);
    if (kind != NodeKind::kLeaf) Py_RETURN_FALSE;
  }
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_TRUE;
}

PyMethodDef module_functions[] = {
    {"tree_flatten", FASTCALL(Callable<module_flatten<Want::kBoth>>::call), METH_FASTCALL | METH_KEYWORDS,
     "tree_flatten(tree, is_leaf=None)\n--\n\nReturns (leaves, treedef) under the default registry."},
    {"tree_leaves", FASTCALL(Callable<module_flatten<Want::kLeaves>>::call), METH_FASTCALL | METH_KEYWORDS,
     "tree_leaves(tree, is_leaf=None)\n--\n\nReturns the leaves under the default registry."},
    {"tree_structure", FASTCALL(Callable<module_flatten<Want::kStructure>>::call), METH_FASTCALL | METH_KEYWORDS,
     "tree_structure(tree, is_leaf=None)\n--\n\nReturns the structure under the default registry."},
    {"all_leaves", module_all_leaves, METH_VARARGS,
     "all_leaves(registry, iterable)\n--\n\nWhether every element is a leaf."},
    {nullptr},
};

}  // namespace

bool add_type(PyObject* module, PyType_Spec* spec, const char* name, PyTypeObject** out) {
  PyObject* type = PyType_FromSpec(spec);
  if (!type) return false;
  *out = reinterpret_cast<PyTypeObject*>(type);  // kept for the life of the process
  return PyModule_AddObjectRef(module, name, type) == 0;
}

bool init_pytree_registry(PyObject* module) {
  names.fields = PyUnicode_InternFromString("_fields");
  names.class_name = PyUnicode_InternFromString("__name__");
  if (!names.fields || !names.class_name) return false;
  if (!add_type(module, &registry_spec, "PyTreeRegistry", &registry_type)) return false;
  default_registry = registry_alloc(registry_type);
  Ref none_leaf(reinterpret_cast<PyObject*>(registry_alloc(registry_type)));
  if (!default_registry || !none_leaf) return false;
  default_registry->global_name = "default_registry";
  as_registry(none_leaf.get())->enable_none = false;
  as_registry(none_leaf.get())->global_name = "none_leaf_registry";
  return PyModule_AddObjectRef(module, "default_registry", reinterpret_cast<PyObject*>(default_registry)) == 0 &&
         PyModule_AddObjectRef(module, "none_leaf_registry", none_leaf.get()) == 0 &&
         PyModule_AddFunctions(module, module_functions) == 0;
}

}  // namespace velax
