// Signatures of calls, and the table from signatures to compiled versions.
#include <algorithm>
#include <cstring>

#include "jit.h"

namespace velax {

namespace {

VersionTable* all_tables = nullptr;  // doubly linked

inline void mix(uint64_t& hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
  hash ^= hash >> 32;
}

// The hash of a Python object; where it has none and `unhashable_ok`, a constant. False with an error set.
bool mix_object(uint64_t& hash, PyObject* object, bool unhashable_ok) {
  Py_hash_t value = PyObject_Hash(object);
  if (value == -1) {
    if (!unhashable_ok || !PyErr_ExceptionMatches(PyExc_TypeError)) return false;
    PyErr_Clear();
  }
  mix(hash, static_cast<uint64_t>(value));
  return true;
}

// A hash of the structure that agrees with structural equality: `TreeDefBuilder::identity` would tell apart equal
// auxiliary data that was made anew by each flattening.
bool mix_tree(uint64_t& hash, const TreeDefBuilder& tree) {
  const Node* nodes = tree.nodes();
  for (size_t i = 0; i < tree.size(); ++i) {
    const Node& node = nodes[i];
    mix(hash, static_cast<uint64_t>(node.kind) << 32 | static_cast<uint32_t>(node.arity));
    switch (node.kind) {
      case NodeKind::kDict:
        mix(hash, node.keys_hash);
        break;
      case NodeKind::kNamedTuple:
        mix(hash, reinterpret_cast<uintptr_t>(node.data));
        break;
      case NodeKind::kCustom:
      case NodeKind::kDataclass:
        mix(hash, reinterpret_cast<uintptr_t>(node.registration));
        // Auxiliary data needs `==` only; unhashable data just makes for more comparisons.
        if (node.data && !mix_object(hash, node.data, true)) return false;
        break;
      default:
        break;
    }
  }
  return true;
}

// The part of the comparison that runs no Python code.
inline bool same_plain_parts(const CompiledVersion& version, const CallFrame& frame) {
  return version.config_key == frame.config_key && version.device == frame.device &&
         version.num_positional == frame.num_positional &&
         version.statics.size() == frame.statics.size() && (version.tree != nullptr) == frame.has_tree &&
         (version.keyword_names != nullptr) == (frame.keyword_names != nullptr) &&
         version.leaf_signatures == frame.leaf_signatures;
}

inline bool needs_python(const CompiledVersion& version, const CallFrame& frame) {
  if (version.tree || version.keyword_names != frame.keyword_names) return true;
  for (size_t i = 0; i < frame.statics.size(); ++i) {
    if (version.statics[i] != frame.statics[i]) return true;
  }
  return false;
}

// Equal values of different types (1, 1.0, True) make different programs.
int same_static(PyObject* a, PyObject* b) {
  if (a == b) return 1;
  if (Py_TYPE(a) != Py_TYPE(b)) return 0;
  int same = PyObject_RichCompareBool(a, b, Py_EQ);
  if (same < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {  // and no interrupt
    Ref error = take_error();
    PyErr_Format(PyExc_ValueError,
                 "static arguments should be comparable using __eq__. Comparing two objects of type %R raised %R",
                 reinterpret_cast<PyObject*>(Py_TYPE(a)), error.get());
    set_cause(std::move(error));
  }
  return same;
}

// 1, 0, or -1 with an error set.
int same_python_parts(const CompiledVersion& version, const CallFrame& frame) {
  if (version.keyword_names != frame.keyword_names) {
    if (!same_names(version.keyword_names, frame.keyword_names)) return 0;
  }
  for (size_t i = 0; i < frame.statics.size(); ++i) {
    int same = same_static(version.statics[i], frame.statics[i]);
    if (same != 1) return same;
  }
  return version.tree ? frame.tree.equals(version.tree) : 1;
}

}  // namespace

bool same_names(PyObject* a, PyObject* b) {
  Py_ssize_t count = PyTuple_GET_SIZE(a);
  if (PyTuple_GET_SIZE(b) != count) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *first = PyTuple_GET_ITEM(a, i), *second = PyTuple_GET_ITEM(b, i);
    if (first != second && PyUnicode_Compare(first, second) != 0) return false;
  }
  return true;
}

void release_version(CompiledVersion* version) {
  if (--version->references != 0) return;
  Py_DECREF(version->config_key);
  Py_XDECREF(version->device);
  Py_XDECREF(version->keyword_names);
  for (PyObject* value : version->statics) Py_DECREF(value);
  Py_XDECREF(version->tree);
  Py_DECREF(version->entry);
  delete version;
}

VersionTable::VersionTable(size_t capacity) : capacity_(capacity) {
  next_ = all_tables;
  if (next_) next_->previous_ = this;
  all_tables = this;
}

VersionTable::~VersionTable() {
  clear();
  if (previous_) {
    previous_->next_ = next_;
  } else {
    all_tables = next_;
  }
  if (next_) next_->previous_ = previous_;
}

bool VersionTable::hash_signature(CallFrame& frame) {
  uint64_t hash = reinterpret_cast<uintptr_t>(frame.config_key) ^ frame.num_positional << 56;
  for (LeafSignature leaf : frame.leaf_signatures) mix(hash, leaf);
  if (frame.device) mix(hash, reinterpret_cast<uintptr_t>(frame.device));
  if (frame.keyword_names) mix(hash, static_cast<uint64_t>(frame.keyword_hash));
  for (PyObject* value : frame.statics) {
    if (!mix_object(hash, value, false)) return false;
  }
  if (frame.has_tree && !mix_tree(hash, frame.tree)) return false;
  mix(hash, frame.leaf_signatures.size());
  frame.hash = hash;
  return true;
}

VersionRef VersionTable::find(CallFrame& frame, bool* failed) {
  *failed = false;
restart:
  if (slots_.empty()) return {};
  const uint64_t modifications = modifications_;
  const size_t mask = slots_.size() - 1;
  for (size_t i = frame.hash & mask; slots_[i].version; i = (i + 1) & mask) {
    CompiledVersion* version = slots_[i].version;
    if (slots_[i].hash != frame.hash || !same_plain_parts(*version, frame)) continue;
    VersionRef held(version);
    int same = needs_python(*version, frame) ? same_python_parts(*version, frame) : 1;
    if (same == 1) {
      version->last_used = ++clock_;
      return held;
    }
    if (same < 0) {
      *failed = true;
      return {};
    }
    if (modifications != modifications_) goto restart;
  }
  return {};
}

bool VersionTable::insert(CallFrame& frame, JitEntry* entry) {
  if (capacity_ == 0) return true;
  bool failed;
  if (find(frame, &failed) || failed) return !failed;
  PyTreeDef* tree = nullptr;
  if (frame.has_tree && !(tree = frame.tree.finish())) return false;
  auto* version = new CompiledVersion{
      frame.hash, Py_NewRef(frame.config_key), Py_XNewRef(frame.device), Py_XNewRef(frame.keyword_names),
      frame.num_positional, frame.leaf_signatures, frame.statics, tree, entry, ++clock_, 1};
  Py_INCREF(entry);
  for (PyObject* value : version->statics) Py_INCREF(value);
  if (size_ >= capacity_) evict();
  ++modifications_;
  if ((size_ + 1) * 2 > slots_.size()) rehash(std::max<size_t>(8, slots_.size() * 2));
  place(version);
  ++size_;
  return true;
}

void VersionTable::place(CompiledVersion* version) {
  const size_t mask = slots_.size() - 1;
  size_t i = version->hash & mask;
  while (slots_[i].version) i = (i + 1) & mask;
  slots_[i] = {version->hash, version};
}

void VersionTable::rehash(size_t num_slots) {
  std::vector<Slot> old(num_slots, Slot{0, nullptr});
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.version) place(slot.version);
  }
}

// Drops the eighth of the versions that has not been used for longest: rebuilding the table for every single one would
// make a function that cycles through more versions than fit quadratic.
void VersionTable::evict() {
  std::vector<CompiledVersion*> versions;
  versions.reserve(size_);
  for (const Slot& slot : slots_) {
    if (slot.version) versions.push_back(slot.version);
  }
  const size_t dropped = std::max<size_t>(1, versions.size() / 8);
  std::nth_element(versions.begin(), versions.begin() + (dropped - 1), versions.end(),
                   [](const CompiledVersion* a, const CompiledVersion* b) { return a->last_used < b->last_used; });
  std::fill(slots_.begin(), slots_.end(), Slot{0, nullptr});
  for (size_t i = dropped; i < versions.size(); ++i) place(versions[i]);
  size_ = versions.size() - dropped;
  ++modifications_;
  // Only now: releasing runs Python code, which must find the table whole.
  for (size_t i = 0; i < dropped; ++i) release_version(versions[i]);
}

void VersionTable::clear() {
  std::vector<Slot> old;
  old.swap(slots_);
  size_ = 0;
  ++modifications_;
  for (const Slot& slot : old) {
    if (slot.version) release_version(slot.version);
  }
}

int VersionTable::traverse(visitproc visit, void* arg) const {
  for (const Slot& slot : slots_) {
    const CompiledVersion* version = slot.version;
    // A version that a call is using has owners the collector cannot see: its references count as outside ones.
    if (!version || version->references != 1) continue;
    Py_VISIT(version->config_key);
    Py_VISIT(version->device);
    Py_VISIT(version->keyword_names);
    for (PyObject* value : version->statics) Py_VISIT(value);
    Py_VISIT(version->tree);
    Py_VISIT(version->entry);
  }
  return 0;
}

void VersionTable::clear_all() {
  // All tables are emptied before anything is released: releasing runs Python code, which may make and destroy tables.
  std::vector<CompiledVersion*> versions;
  for (VersionTable* table = all_tables; table; table = table->next_) {
    for (const Slot& slot : table->slots_) {
      if (slot.version) versions.push_back(slot.version);
    }
    table->slots_.clear();
    table->size_ = 0;
    ++table->modifications_;
  }
  for (CompiledVersion* version : versions) release_version(version);
}

}  // namespace velax
