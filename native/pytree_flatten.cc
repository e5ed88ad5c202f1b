// Taking trees apart: the structure builder, and flattening with and without key paths.
#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "pytree_internal.h"

namespace velax {

TreeDefBuilder::TreeDefBuilder(PyTreeRegistry* registry)
    : registry_(registry ? registry : default_pytree_registry()) {}

TreeDefBuilder::~TreeDefBuilder() {
  truncate(0);
  if (nodes_ != inline_) std::free(nodes_);
}

void TreeDefBuilder::clear() { truncate(0); }

void TreeDefBuilder::truncate(size_t size) {
  while (size_ > size) Py_XDECREF(nodes_[--size_].data);
}

void TreeDefBuilder::reserve(size_t nodes) {
  if (nodes <= capacity_) return;
  if (nodes > kMaxNodes) throw std::length_error("PyTreeDef: a structure has at most 2147483647 nodes");
  size_t capacity = std::min(kMaxNodes, std::max(nodes, capacity_ * 2));
  auto* grown = static_cast<Node*>(std::malloc(capacity * sizeof(Node)));
  if (!grown) throw std::bad_alloc();
  std::memcpy(grown, nodes_, size_ * sizeof(Node));
  if (nodes_ != inline_) std::free(nodes_);
  nodes_ = grown;
  capacity_ = capacity;
}

void TreeDefBuilder::add_nodes(const Node* nodes, size_t count) {
  reserve(size_ + count);
  for (size_t i = 0; i < count; ++i) {
    Py_XINCREF(nodes[i].data);
    push(nodes[i]);
  }
}

void TreeDefBuilder::add_subtree(const PyTreeDef* def) { add_nodes(def->nodes, def->num_nodes); }

PyTreeDef* TreeDefBuilder::finish() const { return make_treedef(registry_, nodes_, size_); }

uint64_t TreeDefBuilder::identity() const { return nodes_identity(nodes_, size_); }

void set_value_error_from_pending(const char* format, ...) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return;
  Ref cause = take_error();
  va_list arguments;
  va_start(arguments, format);
  PyErr_FormatV(PyExc_ValueError, format, arguments);
  va_end(arguments);
  set_cause(std::move(cause));
}

// --- the order of a dict's keys ----------------------------------------------------------------------------

namespace {

// Programs flatten dicts with the same few sets of keys again and again. A slot remembers, for one sequence of str
// objects in insertion order, the sorted tuple and the permutation, so that neither sorting nor a tuple allocation
// nor key hashing is needed; sharing the tuple also lets equal structures be recognised by their bytes.
struct KeyOrder {
  uint64_t hash = 0;
  PyObject* sorted = nullptr;  // tuple, owned
  uint64_t keys_hash = 0;
  std::vector<PyObject*> inserted;  // the keys in insertion order; kept alive by `sorted`
  std::vector<int32_t> order;       // position in insertion order of every sorted key
};
uint64_t hash_of_pointers(PyObject* const* keys, size_t n) {
  uint64_t hash = n;
  for (size_t i = 0; i < n; ++i) hash = (hash ^ reinterpret_cast<uintptr_t>(keys[i])) * 0x9E3779B97F4A7C15ull;
  return hash ^ (hash >> 32);
}

constexpr size_t kKeyOrderSlots = 1024;
constexpr Py_ssize_t kMaxCachedKeys = 512;
KeyOrder* key_orders;  // allocated once, lives as long as the process

const KeyOrder* find_key_order(uint64_t hash, PyObject* const* keys, size_t n) {
  if (!key_orders) return nullptr;
  const KeyOrder& slot = key_orders[hash % kKeyOrderSlots];
  if (slot.hash != hash || slot.inserted.size() != n || !slot.sorted) return nullptr;
  if (!std::equal(keys, keys + n, slot.inserted.begin())) return nullptr;
  return &slot;
}

void remember_key_order(uint64_t hash, PyObject* const* keys, const std::vector<int32_t>& order, PyObject* sorted,
                        uint64_t keys_hash) {
  if (static_cast<Py_ssize_t>(order.size()) > kMaxCachedKeys) return;
  if (!key_orders) key_orders = new KeyOrder[kKeyOrderSlots];
  KeyOrder& slot = key_orders[hash % kKeyOrderSlots];
  PyObject* old = slot.sorted;
  slot.hash = hash;
  slot.sorted = Py_NewRef(sorted);
  slot.keys_hash = keys_hash;
  slot.inserted.assign(keys, keys + order.size());
  slot.order = order;
  Py_XDECREF(old);  // a tuple of str: runs no code
}

// The first characters of a str as a number, ordered as the str are where the numbers differ: big-endian bytes, up to
// the first character that needs more than one, which counts as the greatest byte.
uint64_t prefix_of(PyObject* key) {
  int kind = PyUnicode_KIND(key);
  const void* data = PyUnicode_DATA(key);
  Py_ssize_t length = std::min<Py_ssize_t>(PyUnicode_GET_LENGTH(key), 8);
  uint64_t prefix = 0;
  int shift = 56;
  for (Py_ssize_t i = 0; i < length; ++i, shift -= 8) {
    Py_UCS4 character = PyUnicode_READ(kind, data, i);
    prefix |= static_cast<uint64_t>(std::min<Py_UCS4>(character, 0xFF)) << shift;
    if (character >= 0xFF) break;
  }
  return prefix;
}

// Sorts keys that are all exactly str; nothing here can run Python code. The tuple is shared between all orders of
// insertion of the same objects: that of the keys inserted in sorted order.
PyObject* sort_str_keys(PyObject* const* keys, size_t n, std::vector<int32_t>& order, uint64_t* keys_hash) {
  struct Entry {
    uint64_t prefix;  // decides most comparisons
    int32_t position;
  };
  std::vector<Entry> entries(n);
  for (size_t i = 0; i < n; ++i) entries[i] = {prefix_of(keys[i]), static_cast<int32_t>(i)};
  auto less = [&](const Entry& a, const Entry& b) {
    if (a.prefix != b.prefix) return a.prefix < b.prefix;
    return PyUnicode_Compare(keys[a.position], keys[b.position]) < 0;
  };
  if (!std::is_sorted(entries.begin(), entries.end(), less)) std::sort(entries.begin(), entries.end(), less);
  order.resize(n);
  for (size_t i = 0; i < n; ++i) order[i] = entries[i].position;
  PyObject* sorted = PyTuple_New(static_cast<Py_ssize_t>(n));
  if (!sorted) return nullptr;
  for (size_t i = 0; i < n; ++i) PyTuple_SET_ITEM(sorted, i, Py_NewRef(keys[order[i]]));
  PyObject** items = reinterpret_cast<PyTupleObject*>(sorted)->ob_item;
  uint64_t sorted_hash = hash_of_pointers(items, n);
  if (const KeyOrder* known = find_key_order(sorted_hash, items, n)) {
    Py_DECREF(sorted);
    *keys_hash = known->keys_hash;
    return Py_NewRef(known->sorted);
  }
  // Exact str only: untracked, the collector need not look at it again.
  PyObject_GC_UnTrack(sorted);
  *keys_hash = static_cast<uint64_t>(PyObject_Hash(sorted)) | 1;
  std::vector<int32_t> as_they_are(n);
  for (size_t i = 0; i < n; ++i) as_they_are[i] = static_cast<int32_t>(i);
  remember_key_order(sorted_hash, items, as_they_are, sorted, *keys_hash);
  return sorted;
}

// Keys of other types are sorted by their own comparison, which may be anything.
PyObject* sort_any_keys(PyObject* dict, RefStack<32>& values) {
  Ref keys(PyDict_Keys(dict));
  if (!keys) return nullptr;
  if (PyList_GET_SIZE(keys.get()) > 1 && PyList_Sort(keys.get()) < 0) {
    std::string types;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys.get()); ++i) {
      const char* name = Py_TYPE(PyList_GET_ITEM(keys.get(), i))->tp_name;
      if (types.find(name) == std::string::npos) types += (types.empty() ? "" : ", ") + std::string(name);
    }
    set_value_error_from_pending(
        "Comparator raised exception while sorting pytree dictionary keys. Dictionaries are flattened in the order "
        "of their sorted keys, so the keys must be comparable with each other; these have the types: %.400s",
        types.c_str());
    return nullptr;
  }
  size_t before = values.size();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys.get()); ++i) {
    PyObject* key = PyList_GET_ITEM(keys.get(), i);
    PyObject* value = PyDict_GetItemWithError(dict, key);
    if (!value) {
      if (!PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
      values.drop(values.size() - before);
      return nullptr;
    }
    values.push(Py_NewRef(value));
  }
  return PyList_AsTuple(keys.get());
}

}  // namespace

PyObject* sorted_dict_keys(PyObject* dict, RefStack<32>& values, uint64_t* keys_hash) {
  size_t n = static_cast<size_t>(PyDict_GET_SIZE(dict));
  constexpr size_t kSmall = 64;
  PyObject* small[2 * kSmall];
  std::vector<PyObject*> large;
  PyObject** keys = small;
  if (n > kSmall) {
    large.resize(2 * n);
    keys = large.data();
  }
  PyObject** items = keys + n;
  bool all_str = true;
  Py_ssize_t position = 0;
  for (size_t i = 0; i < n && PyDict_Next(dict, &position, &keys[i], &items[i]); ++i)
    all_str &= PyUnicode_CheckExact(keys[i]);
  if (!all_str) {
    *keys_hash = 0;
    return sort_any_keys(dict, values);
  }
  uint64_t hash = hash_of_pointers(keys, n);
  values.reserve(values.size() + n);
  if (const KeyOrder* known = find_key_order(hash, keys, n)) {
    for (size_t i = 0; i < n; ++i) values.push(Py_NewRef(items[known->order[i]]));
    *keys_hash = known->keys_hash;
    return Py_NewRef(known->sorted);
  }
  // Making a tuple may run the collector, and with it code that changes the dict: keys and values are held.
  RefStack<32> held_keys;
  held_keys.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    held_keys.push(Py_NewRef(keys[i]));
    values.push(Py_NewRef(items[i]));
  }
  std::vector<int32_t> order;
  PyObject* sorted = sort_str_keys(keys, n, order, keys_hash);
  if (!sorted) {
    values.drop(n);
    return nullptr;
  }
  PyObject** in_order = values.top(n);
  for (size_t i = 0; i < n; ++i) in_order[i] = items[order[i]];
  remember_key_order(hash, keys, order, sorted, *keys_hash);
  return sorted;
}

// --- custom nodes ------------------------------------------------------------------------------------------

namespace {

bool is_iterable(PyObject* o) { return Py_TYPE(o)->tp_iter || PySequence_Check(o); }

}  // namespace

PyObject* call_to_iterable(const Registration* registration, PyObject* o) {
  Ref pair(PyObject_CallOneArg(registration->to_iterable, o));
  if (!pair || (PyTuple_CheckExact(pair.get()) && PyTuple_GET_SIZE(pair.get()) == 2)) return pair.release();
  return PyErr_Format(
      PyExc_ValueError,
      "The to_iterable function for a custom PyTree node should return a (children, aux_data) tuple, got %R",
      pair.get());
}

bool flatten_custom(const Registration* registration, PyObject* o, CustomNode* out) {
  Ref pair(call_to_iterable(registration, o));
  if (!pair) return false;
  PyObject* children = PyTuple_GET_ITEM(pair.get(), 0);
  if (PyList_CheckExact(children)) {
    // A snapshot: flattening the children may run code that changes the list.
    out->children = Ref(PyList_AsTuple(children));
  } else if (PyTuple_CheckExact(children)) {
    out->children = Ref::borrow(children);
  } else {
    out->children = Ref(PySequence_Tuple(children));
    if (!out->children && !is_iterable(children)) {
      PyErr_Clear();
      PyErr_Format(
          PyExc_ValueError,
          "The to_iterable function for a custom PyTree node should return a (children, aux_data) tuple where "
          "'children' is iterable, got %R",
          pair.get());
    }
  }
  if (!out->children) return false;
  out->data = Ref::borrow(PyTuple_GET_ITEM(pair.get(), 1));
  return true;
}

PyObject* get_fields(PyObject* o, PyObject* fields) {
  Py_ssize_t n = PyTuple_GET_SIZE(fields);
  Ref values(PyTuple_New(n));
  if (!values) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* value = PyObject_GetAttr(o, PyTuple_GET_ITEM(fields, i));
    if (!value) return nullptr;
    PyTuple_SET_ITEM(values.get(), i, value);
  }
  return values.release();
}

namespace {

int check_is_leaf_result(PyObject* result) {
  if (!result) return -1;
  int answer = result == Py_True ? 1 : (result == Py_False || result == Py_None) ? 0 : -1;
  if (answer < 0)
    PyErr_Format(PyExc_ValueError, "is_leaf predicate returned a non-boolean value %R; expected a boolean",
                 result);
  Py_DECREF(result);
  return answer;
}

}  // namespace

int call_is_leaf(PyObject* is_leaf, PyObject* o) { return check_is_leaf_result(PyObject_CallOneArg(is_leaf, o)); }

int call_is_leaf(PyObject* is_leaf, PyObject* path, PyObject* o) {
  PyObject* args[] = {path, o};
  return check_is_leaf_result(PyObject_Vectorcall(is_leaf, args, 2, nullptr));
}

// --- flattening --------------------------------------------------------------------------------------------

namespace {

// One level of Python's recursion limit.
class RecursionLevel {
 public:
  RecursionLevel() : entered_(Py_EnterRecursiveCall(" in flatten; the pytree may contain itself.") == 0) {}
  ~RecursionLevel() {
    if (entered_) Py_LeaveRecursiveCall();
  }
  RecursionLevel(const RecursionLevel&) = delete;
  RecursionLevel& operator=(const RecursionLevel&) = delete;
  explicit operator bool() const { return entered_; }

 private:
  bool entered_;
};

// Where leaves go when no key paths are wanted.
class PlainSink {
 public:
  static constexpr bool kPaths = false;
  PlainSink(std::vector<PyObject*>& leaves, PyObject* is_leaf) : leaves_(leaves), is_leaf_(is_leaf) {}

  bool has_predicate() const { return is_leaf_ != nullptr; }
  int stops_at(PyObject* o) { return call_is_leaf(is_leaf_, o); }
  bool leaf(PyObject* o) {
    leaves_.push_back(o);
    Py_INCREF(o);
    return true;
  }
  size_t count() const { return leaves_.size(); }

 private:
  std::vector<PyObject*>& leaves_;
  PyObject* is_leaf_;
};

// Where they go with key paths; holds the path of the node being visited.
class PathSink {
 public:
  static constexpr bool kPaths = true;
  PathSink(PyObject* out, PyObject* is_leaf) : out_(out), is_leaf_(is_leaf) {}

  bool has_predicate() const { return is_leaf_ != nullptr; }
  int stops_at(PyObject* o) {
    Ref p(path());
    return p ? call_is_leaf(is_leaf_, p.get(), o) : -1;
  }
  bool leaf(PyObject* o) {
    Ref p(path());
    if (!p) return false;
    Ref pair(PyTuple_Pack(2, p.get(), o));
    return pair && PyList_Append(out_, pair.get()) == 0;
  }
  size_t count() const { return static_cast<size_t>(PyList_GET_SIZE(out_)); }
  bool enter(PyObject* key) {
    if (key) keys_.push(key);
    return key != nullptr;
  }
  void leave() { keys_.drop(1); }

 private:
  PyObject* path() {
    PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(keys_.size()));
    if (!tuple) return nullptr;
    bool tracked = false;
    for (size_t i = 0; i < keys_.size(); ++i) {
      PyTuple_SET_ITEM(tuple, i, Py_NewRef(keys_[i]));
      tracked |= PyObject_GC_IsTracked(keys_[i]) != 0;
    }
    // As the collector would find out itself, later: a tuple of such keys is part of no cycle.
    if (!tracked) PyObject_GC_UnTrack(tuple);
    return tuple;
  }
  PyObject* out_;
  PyObject* is_leaf_;
  RefStack<16> keys_;
};

template <typename Sink>
class Flattener {
 public:
  Flattener(TreeDefBuilder& builder, Sink& sink) : registry_(builder.registry()), builder_(builder), sink_(sink) {}

  bool visit(PyObject* o) {
    if (sink_.has_predicate()) {
      int stop = sink_.stops_at(o);
      if (stop < 0) return false;
      if (stop) return leaf(o);
    }
    const Registration* registration = nullptr;
    NodeKind kind = classify(registry_, o, &registration);
    if (kind == NodeKind::kLeaf) return leaf(o);
    if (kind == NodeKind::kNone) {
      builder_.add_inner(NodeKind::kNone, 0, builder_.size(), 0);
      return true;
    }
    RecursionLevel level;
    return level && inner(kind, registration, o);
  }

 private:
  bool leaf(PyObject* o) {
    builder_.add_leaf();
    return sink_.leaf(o);
  }

  // Visits a child below a key that `make_key` makes; the key is only made where paths are wanted.
  template <typename MakeKey>
  bool child(PyObject* o, MakeKey make_key) {
    if constexpr (Sink::kPaths) {
      if (!sink_.enter(make_key())) return false;
      bool ok = visit(o);
      sink_.leave();
      return ok;
    } else {
      return visit(o);
    }
  }

  bool inner(NodeKind kind, const Registration* registration, PyObject* o) {
    size_t first_node = builder_.size(), first_leaf = sink_.count();
    Py_ssize_t arity = 0;
    Ref data;
    uint64_t keys_hash = 0;
    switch (kind) {
      case NodeKind::kTuple:
        arity = PyTuple_GET_SIZE(o);
        for (Py_ssize_t i = 0; i < arity; ++i)
          if (!child(PyTuple_GET_ITEM(o, i), [&] { return make_sequence_key(i); })) return false;
        break;
      case NodeKind::kList:
        // The size is read again each time: a predicate or a custom node's function may change the list.
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(o); ++i, ++arity) {
          Ref item = Ref::borrow(PyList_GET_ITEM(o, i));
          if (!child(item.get(), [&] { return make_sequence_key(i); })) return false;
        }
        break;
      case NodeKind::kDict: {
        RefStack<32> values;
        data = Ref(sorted_dict_keys(o, values, &keys_hash));
        if (!data) return false;
        arity = static_cast<Py_ssize_t>(values.size());
        for (Py_ssize_t i = 0; i < arity; ++i)
          if (!child(values[i], [&] { return make_dict_key(PyTuple_GET_ITEM(data.get(), i)); })) return false;
        break;
      }
      case NodeKind::kNamedTuple: {
        data = Ref::borrow(reinterpret_cast<PyObject*>(Py_TYPE(o)));
        arity = PyTuple_GET_SIZE(o);
        Ref fields;
        if constexpr (Sink::kPaths) {
          fields = Ref(PyObject_GetAttr(data.get(), names.fields));
          if (fields) fields = Ref(PySequence_Tuple(fields.get()));
          if (!fields) return false;
        }
        for (Py_ssize_t i = 0; i < arity; ++i) {
          auto key = [&] {
            return i < PyTuple_GET_SIZE(fields.get()) ? make_getattr_key(PyTuple_GET_ITEM(fields.get(), i))
                                                      : make_sequence_key(i);
          };
          if (!child(PyTuple_GET_ITEM(o, i), key)) return false;
        }
        break;
      }
      case NodeKind::kDataclass:
        data = Ref(get_fields(o, registration->meta_fields));
        if (!data) return false;
        arity = PyTuple_GET_SIZE(registration->data_fields);
        for (Py_ssize_t i = 0; i < arity; ++i) {
          PyObject* name = PyTuple_GET_ITEM(registration->data_fields, i);
          Ref value(PyObject_GetAttr(o, name));
          if (!value || !child(value.get(), [&] { return make_getattr_key(name); })) return false;
        }
        break;
      default:
        if (!custom(registration, o, &arity, &data)) return false;
    }
    builder_.add_inner(kind, static_cast<int32_t>(arity), first_node, sink_.count() - first_leaf, data.release(),
                       registration, keys_hash);
    return true;
  }

  bool custom(const Registration* registration, PyObject* o, Py_ssize_t* arity, Ref* data) {
    if constexpr (Sink::kPaths) {
      if (registration->to_iterable_with_keys) return custom_with_keys(registration, o, arity, data);
    }
    CustomNode node;
    if (!flatten_custom(registration, o, &node)) return false;
    *data = std::move(node.data);
    *arity = PyTuple_GET_SIZE(node.children.get());
    for (Py_ssize_t i = 0; i < *arity; ++i)
      if (!child(PyTuple_GET_ITEM(node.children.get(), i), [&] { return make_flattened_index_key(i); }))
        return false;
    return true;
  }

  bool custom_with_keys(const Registration* registration, PyObject* o, Py_ssize_t* arity, Ref* data) {
    Ref pair(PyObject_CallOneArg(registration->to_iterable_with_keys, o));
    if (!pair) return false;
    if (!PyTuple_CheckExact(pair.get()) || PyTuple_GET_SIZE(pair.get()) != 2) {
      PyErr_Format(
          PyExc_ValueError,
          "The to_iterable_with_keys function for a custom PyTree node should return a (key_leaf_pairs, aux_data) "
          "tuple, got %R",
          pair.get());
      return false;
    }
    Ref children(PySequence_Tuple(PyTuple_GET_ITEM(pair.get(), 0)));
    if (!children) {
      if (is_iterable(PyTuple_GET_ITEM(pair.get(), 0))) return false;
      PyErr_Clear();
      PyErr_Format(
          PyExc_ValueError,
          "The to_iterable_with_keys function for a custom PyTree node should return a (key_leaf_pairs, aux_data) "
          "tuple where 'key_leaf_pairs' is iterable, got %R",
          pair.get());
      return false;
    }
    *data = Ref::borrow(PyTuple_GET_ITEM(pair.get(), 1));
    *arity = PyTuple_GET_SIZE(children.get());
    for (Py_ssize_t i = 0; i < *arity; ++i) {
      PyObject* entry = PyTuple_GET_ITEM(children.get(), i);
      if (!PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) != 2) {
        PyErr_Format(PyExc_ValueError,
                     "The to_iterable_with_keys function for a custom PyTree node should return a "
                     "(key_leaf_pairs, aux_data) "
                     "tuple where each of 'key_leaf_pairs' is a (key, child) tuple, got %R",
                     entry);
        return false;
      }
      if (!child(PyTuple_GET_ITEM(entry, 1), [&] { return Py_NewRef(PyTuple_GET_ITEM(entry, 0)); })) return false;
    }
    return true;
  }

  const PyTreeRegistry* registry_;
  TreeDefBuilder& builder_;
  Sink& sink_;
};

}  // namespace

bool flatten_into(PyObject* tree, std::vector<PyObject*>& leaves, TreeDefBuilder& builder, PyObject* is_leaf) {
  size_t leaves_before = leaves.size(), nodes_before = builder.size();
  PlainSink sink(leaves, is_leaf == Py_None ? nullptr : is_leaf);
  if (guarded(false, [&] { return Flattener<PlainSink>(builder, sink).visit(tree); })) return true;
  // Releasing may run finalizers, which must not see the pending error.
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  while (leaves.size() > leaves_before) {
    PyObject* leaf = leaves.back();
    leaves.pop_back();
    Py_DECREF(leaf);
  }
  builder.truncate(nodes_before);
  PyErr_Restore(type, value, traceback);
  return false;
}

bool flatten_with_path_into(PyObject* tree, PyObject* out, TreeDefBuilder& builder, PyObject* is_leaf) {
  PathSink sink(out, is_leaf == Py_None ? nullptr : is_leaf);
  return guarded(false, [&] { return Flattener<PathSink>(builder, sink).visit(tree); });
}

}  // namespace velax
