// Sorting: least-significant-digit radix sort of keys mapped to unsigned integers.
//
// Two maps are used. The *ordered* map of floats keeps every bit and orders -NaN < -x < -0 < +0 < x < NaN; its
// inverse gives the value back, so keys can be sorted alone. The *canonical* map makes zeros equal, and NaNs equal
// and last: the order that is promised. `velax_sort` sorts by the first and puts zeros and NaNs right afterwards;
// `velax_argsort` sorts (canonical key, index).
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "buffer.h"
#include "dtypes.h"
#include "library.h"
#include "pool.h"

namespace velax {
namespace {

constexpr int64_t kRankSort = 40;                   // rows up to this length: radix sort's tables cost more
constexpr int64_t kElementsPerChunk = 16384;        // of work over many rows
constexpr int64_t kParallelRow = int64_t{1} << 18;  // rows from this length on are sorted by all threads
constexpr int64_t kRowChunk = int64_t{1} << 16;
constexpr int kBuckets = 256;

// ----------------------------------------------------------------------------------------------- key maps

template <class U>
struct UnsignedKey {
  using Bits = U;
  static constexpr bool is_float = false;
  static U ordered(U bits) { return bits; }
  static U value(U key) { return key; }
  static U canonical(U bits) { return bits; }
};

template <class U>
struct SignedKey {
  using Bits = U;
  static constexpr bool is_float = false;
  static constexpr U kSign = U(U{1} << (8 * sizeof(U) - 1));
  static U ordered(U bits) { return bits ^ kSign; }
  static U value(U key) { return key ^ kSign; }
  static U canonical(U bits) { return bits ^ kSign; }
};

// 4-bit integers, one a byte; only the low half counts, and the whole byte is kept.
template <bool is_signed>
struct NibbleKey {
  using Bits = uint8_t;
  static constexpr bool is_float = false;
  static constexpr uint8_t kFlip = is_signed ? 8 : 0;
  static uint8_t rotate(uint8_t x) { return static_cast<uint8_t>((x << 4) | (x >> 4)); }
  static uint8_t ordered(uint8_t bits) { return rotate(bits ^ kFlip); }
  static uint8_t value(uint8_t key) { return rotate(key) ^ kFlip; }
  static uint8_t canonical(uint8_t bits) { return (bits ^ kFlip) & 15; }
};

// kLargest: the bits of the largest magnitude that is not NaN.
template <class U, U kLargest>
struct FloatKey {
  using Bits = U;
  static constexpr bool is_float = true;
  static constexpr U kSign = U(U{1} << (8 * sizeof(U) - 1));
  static constexpr int kSignBit = 8 * sizeof(U) - 1;
  // Without branches: the signs of random numbers cannot be predicted. Negative numbers have all bits flipped, others
  // the sign.
  static U ordered(U bits) { return bits ^ U(U(0 - (bits >> kSignBit)) | kSign); }
  static U value(U key) { return key ^ U(U((key >> kSignBit) - 1) | kSign); }
  static bool is_zero(U bits) { return U(bits & ~kSign) == 0; }
  static bool is_nan(U bits) { return U(bits & ~kSign) > kLargest; }
  static U canonical(U bits) {
    U key = is_zero(bits) ? kSign : ordered(bits);
    return is_nan(bits) ? U(~U{0}) : key;
  }
};

using F16Key = FloatKey<uint16_t, 0x7c00>;
using BF16Key = FloatKey<uint16_t, 0x7f80>;
using F32Key = FloatKey<uint32_t, 0x7f800000u>;
using F64Key = FloatKey<uint64_t, 0x7ff0000000000000u>;
using F8E4M3FNKey = FloatKey<uint8_t, 0x7e>;
using F8E5M2Key = FloatKey<uint8_t, 0x7c>;

// --------------------------------------------------------------------------------------------- radix sort

struct Workspace {
  explicit Workspace(int64_t nbytes) : memory(allocator_alloc(static_cast<size_t>(nbytes), &capacity)) {}
  ~Workspace() {
    if (memory != nullptr) allocator_free(memory, capacity);
  }
  Workspace(const Workspace&) = delete;
  size_t capacity = 0;
  void* memory;
};

// What is sorted: a bare key, or a key with an index.
template <class U>
struct BareKey {
  U key;
};
template <class U>
struct IndexedKey {
  U key;
  int32_t index;
};

template <class T>
int digit(const T& item, int place) {
  return static_cast<int>(item.key >> (8 * place)) & 255;
}

// Short rows: every item counts those that go before it, which takes no branches.
template <class T>
void rank_sort(const T* items, T* sorted, int64_t n) {
  decltype(T::key) keys[kRankSort];
  for (int64_t i = 0; i < n; i++) keys[i] = items[i].key;
  for (int64_t i = 0; i < n; i++) {
    auto key = keys[i];
    decltype(key) rank = 0;
    for (int64_t j = 0; j < i; j++) rank += keys[j] <= key;
    for (int64_t j = i + 1; j < n; j++) rank += keys[j] < key;
    sorted[rank] = items[i];
  }
}

template <class Counter, class T>
T* radix_sort_counting(T* items, T* spare, int64_t n) {
  constexpr int kPlaces = sizeof(T::key);
  Counter counts[kPlaces][kBuckets] = {};
  for (int64_t i = 0; i < n; i++) {
    for (int place = 0; place < kPlaces; place++) counts[place][digit(items[i], place)]++;
  }
  for (int place = 0; place < kPlaces; place++) {
    Counter* starts = counts[place];
    if (static_cast<int64_t>(starts[digit(items[0], place)]) == n) continue;  // all have the same digit
    Counter sum = 0;
    for (int b = 0; b < kBuckets; b++) sum += std::exchange(starts[b], sum);
    for (int64_t i = 0; i < n; i++) spare[starts[digit(items[i], place)]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

// Sorts stably and returns where the result is: `items` or `spare`.
template <class T>
T* radix_sort(T* items, T* spare, int64_t n) {
  if (n <= kRankSort) {
    rank_sort(items, spare, n);
    return spare;
  }
  return n <= UINT32_MAX ? radix_sort_counting<uint32_t>(items, spare, n)
                         : radix_sort_counting<int64_t>(items, spare, n);
}

// The same with all threads. Every chunk counts its own digits, so each knows where its items go, in the order of
// chunks.
template <class T>
T* parallel_radix_sort(T* items, T* spare, int64_t n) {
  constexpr int kPlaces = sizeof(T::key);
  int64_t num_chunks = (n + kRowChunk - 1) / kRowChunk;
  using Counts = int64_t[kBuckets];
  Workspace tables(num_chunks * static_cast<int64_t>(sizeof(Counts)));
  if (tables.memory == nullptr) return radix_sort(items, spare, n);
  auto* counts = static_cast<Counts*>(tables.memory);
  for (int place = 0; place < kPlaces; place++) {
    parallel_for(n, kRowChunk, [=](int64_t lo, int64_t hi, int64_t) {
      int64_t* own = counts[lo / kRowChunk];
      std::fill(own, own + kBuckets, 0);
      for (int64_t i = lo; i < hi; i++) own[digit(items[i], place)]++;
      return 0;
    });
    int64_t sum = 0;
    bool one_bucket = false;
    for (int b = 0; b < kBuckets; b++) {
      int64_t before = sum;
      for (int64_t c = 0; c < num_chunks; c++) sum += std::exchange(counts[c][b], sum);
      one_bucket |= sum - before == n;
    }
    if (one_bucket) continue;
    parallel_for(n, kRowChunk, [=](int64_t lo, int64_t hi, int64_t) {
      int64_t* starts = counts[lo / kRowChunk];
      for (int64_t i = lo; i < hi; i++) spare[starts[digit(items[i], place)]++] = items[i];
      return 0;
    });
    std::swap(items, spare);
  }
  return items;
}

template <class T>
T* sort_items(T* items, T* spare, int64_t n) {
  return n >= kParallelRow && num_threads() > 1 ? parallel_radix_sort(items, spare, n) : radix_sort(items, spare, n);
}

// Runs `row(r, first workspace, second workspace)` for all rows, with two workspaces of `nbytes` a thread.
template <class F>
int32_t for_rows(Ctx* ctx, int64_t rows, int64_t n, int64_t nbytes, F&& row) {
  if (n == 0) return 0;
  int64_t grain = std::max<int64_t>(1, kElementsPerChunk / n);
  nbytes = (nbytes + 63) / 64 * 64;
  auto chunk = [&](int64_t lo, int64_t hi, int64_t) -> int32_t {
    Workspace workspace(2 * nbytes);
    if (workspace.memory == nullptr) return kStopOutOfMemory;
    char* memory = static_cast<char*>(workspace.memory);
    for (int64_t r = lo; r < hi; r++) {
      if (*ctx->interrupt != 0) return kStopInterrupted;
      row(r, memory, memory + nbytes);
    }
    return 0;
  };
  // Few long rows: one after the other, each with all threads.
  if (n >= kParallelRow && rows < 2 * num_threads()) {
    for (int64_t r = 0; r < rows; r++) {
      if (int32_t code = chunk(r, r + 1, 0)) return code;
    }
    return 0;
  }
  return parallel_for(rows, grain, chunk);
}

// ---------------------------------------------------------------------------------------------- functions

// Sorted by the ordered map, zeros stand negative first, and negative NaNs before everything. Restores the order of
// zeros among themselves, and of NaNs, after the sort.
template <class Key>
class FloatRepair {
  using U = typename Key::Bits;

 public:
  FloatRepair(const U* in, int64_t n) {
    U any_negative_zero = 0, any_nan = 0;
    for (int64_t i = 0; i < n; i++) {
      any_negative_zero |= in[i] == Key::kSign;
      any_nan |= Key::is_nan(in[i]);
    }
    if ((any_negative_zero | any_nan) == 0) return;
    int64_t negative_zeros = 0, zeros = 0, nans = 0;
    for (int64_t i = 0; i < n; i++) {
      bool zero = Key::is_zero(in[i]);
      zeros += zero;
      negative_zeros += zero && in[i] != 0;
      nans += Key::is_nan(in[i]);
    }
    if (negative_zeros != 0 && negative_zeros != zeros) {
      for (int64_t i = 0; i < n; i++) {
        if (Key::is_zero(in[i])) zeros_.push_back(in[i]);
      }
    }
    if (nans != 0) {
      for (int64_t i = 0; i < n; i++) {
        if (!Key::is_nan(in[i])) continue;
        nans_.push_back(in[i]);
        negative_nans_ += (in[i] & Key::kSign) != 0;
      }
    }
  }

  void apply(U* out, int64_t n) const {
    if (negative_nans_ != 0)
      std::memmove(out, out + negative_nans_, static_cast<size_t>(n - negative_nans_) * sizeof(U));
    std::copy(nans_.begin(), nans_.end(), out + n - static_cast<int64_t>(nans_.size()));
    if (zeros_.empty()) return;
    U* end = out + n - static_cast<int64_t>(nans_.size());
    U* first = std::lower_bound(out, end, Key::canonical(0), [](U bits, U key) { return Key::canonical(bits) < key; });
    std::copy(zeros_.begin(), zeros_.end(), first);
  }

 private:
  std::vector<U> zeros_, nans_;
  int64_t negative_nans_ = 0;
};

template <class Key>
void sort_row(const typename Key::Bits* in, typename Key::Bits* out, int64_t n, void* first, void* second) {
  using U = typename Key::Bits;
  using Item = BareKey<U>;
  auto* items = static_cast<Item*>(first);
  for (int64_t i = 0; i < n; i++) items[i].key = Key::ordered(in[i]);
  if constexpr (Key::is_float) {
    FloatRepair<Key> repair(in, n);
    Item* sorted = sort_items(items, static_cast<Item*>(second), n);
    for (int64_t i = 0; i < n; i++) out[i] = Key::value(sorted[i].key);
    repair.apply(out, n);
  } else {
    Item* sorted = sort_items(items, static_cast<Item*>(second), n);
    for (int64_t i = 0; i < n; i++) out[i] = Key::value(sorted[i].key);
  }
}

// `stride`: keys are every stride-th number of a row (2 for the halves of complex numbers).
template <class Key>
void argsort_row(const typename Key::Bits* keys, int64_t stride, int32_t* perm, int64_t n, bool refine, void* first,
                 void* second) {
  using Item = IndexedKey<typename Key::Bits>;
  auto* items = static_cast<Item*>(first);
  for (int64_t i = 0; i < n; i++) {
    int32_t index = refine ? perm[i] : static_cast<int32_t>(i);
    items[i] = {Key::canonical(keys[index * stride]), index};
  }
  Item* sorted = sort_items(items, static_cast<Item*>(second), n);
  for (int64_t i = 0; i < n; i++) perm[i] = sorted[i].index;
}

bool bad_sizes(int64_t rows, int64_t n) { return rows < 0 || n < 0; }
bool bad_argsort_params(const int64_t* params) {
  return bad_sizes(params[0], params[1]) || params[1] > INT32_MAX || (params[2] != 0 && params[2] != 1);
}

// Vectors inside may run out of memory; an exception must not leave a library function.
template <class F>
int32_t guarded(F&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return kStopOutOfMemory;
  }
}

template <class Key>
int32_t sort_function(Ctx* ctx, void** buffers, const int64_t* params) {
  using U = typename Key::Bits;
  int64_t rows = params[0], n = params[1];
  if (bad_sizes(rows, n)) return kStopBadParams;
  auto* in = static_cast<const U*>(buffers[0]);
  auto* out = static_cast<U*>(buffers[1]);
  std::atomic<bool> out_of_memory{false};
  int32_t code = for_rows(ctx, rows, n, n * static_cast<int64_t>(sizeof(U)), [&](int64_t r, void* first, void* second) {
    int32_t failed = guarded([&] {
      sort_row<Key>(in + r * n, out + r * n, n, first, second);
      return 0;
    });
    if (failed != 0) out_of_memory = true;
  });
  return out_of_memory ? int32_t{kStopOutOfMemory} : code;
}

// kParts: 2 for complex numbers, which are ordered by the imaginary part, then stably by the real part.
template <class Key, int kParts = 1>
int32_t argsort_function(Ctx* ctx, void** buffers, const int64_t* params) {
  using U = typename Key::Bits;
  if (bad_argsort_params(params)) return kStopBadParams;
  int64_t rows = params[0], n = params[1];
  bool refine = params[2] != 0;
  auto* keys = static_cast<const U*>(buffers[0]);
  auto* perm = static_cast<int32_t*>(buffers[1]);
  return for_rows(ctx, rows, n, n * static_cast<int64_t>(sizeof(IndexedKey<U>)),
                  [=](int64_t r, void* first, void* second) {
                    const U* row = keys + kParts * r * n;
                    if (kParts == 2) argsort_row<Key>(row + 1, 2, perm + r * n, n, refine, first, second);
                    argsort_row<Key>(row, kParts, perm + r * n, n, kParts == 2 || refine, first, second);
                  });
}

// The first `count` of a row's sorting permutation. Items that may be among them are collected, and where there is no
// room for more, all but the first of them are dropped: from then on, what is not before the last of these is skipped.
template <class Key>
void argfirst_row(const typename Key::Bits* keys, int32_t* perm, int64_t n, int64_t count,
                  IndexedKey<typename Key::Bits>* items, int64_t room) {
  using Item = IndexedKey<typename Key::Bits>;
  auto before = [](const Item& a, const Item& b) { return a.key < b.key || (a.key == b.key && a.index < b.index); };
  int64_t size = 0;
  bool limited = false;
  typename Key::Bits limit{};
  for (int64_t i = 0; i < n; i++) {
    auto key = Key::canonical(keys[i]);
    if (limited && key >= limit) continue;  // of equal keys the earlier one goes first
    items[size++] = {key, static_cast<int32_t>(i)};
    if (size < room) continue;
    std::nth_element(items, items + count - 1, items + size, before);
    size = count;
    limit = items[count - 1].key;
    limited = true;
  }
  if (size > count) std::nth_element(items, items + count - 1, items + size, before);
  std::sort(items, items + count, before);
  for (int64_t i = 0; i < count; i++) perm[i] = items[i].index;
}

template <class Key>
int32_t argfirst_function(Ctx* ctx, void** buffers, const int64_t* params) {
  using Item = IndexedKey<typename Key::Bits>;
  int64_t rows = params[0], n = params[1], count = params[2];
  if (bad_sizes(rows, n) || n > INT32_MAX || count < 0 || count > n) return kStopBadParams;
  if (count == 0) return 0;
  auto* keys = static_cast<const typename Key::Bits*>(buffers[0]);
  auto* perm = static_cast<int32_t*>(buffers[1]);
  bool few = count <= n / 4;  // else sorting them all takes less
  int64_t room = few ? 2 * count + 64 : n;
  return for_rows(ctx, rows, n, (few ? room : n) * static_cast<int64_t>(sizeof(Item)),
                  [=](int64_t r, void* first, void* second) {
                    auto* items = static_cast<Item*>(first);
                    if (few) return argfirst_row<Key>(keys + r * n, perm + r * count, n, count, items, room);
                    for (int64_t i = 0; i < n; i++) items[i] = {Key::canonical(keys[r * n + i]), static_cast<int32_t>(i)};
                    Item* sorted = sort_items(items, static_cast<Item*>(second), n);
                    for (int64_t i = 0; i < count; i++) perm[r * count + i] = sorted[i].index;
                  });
}

template <class Key>
int32_t complex_sort_function(Ctx* ctx, void** buffers, const int64_t* params) {
  using U = typename Key::Bits;
  struct Complex {
    U real, imag;
  };
  int64_t rows = params[0], n = params[1];
  if (bad_sizes(rows, n) || n > INT32_MAX) return kStopBadParams;
  auto* in = static_cast<const U*>(buffers[0]);
  auto* out = static_cast<U*>(buffers[1]);
  // One workspace serves the sort and then the copy that lets in == out.
  int64_t nbytes = n * static_cast<int64_t>(std::max(sizeof(IndexedKey<U>), sizeof(Complex)));
  return for_rows(ctx, rows, n, nbytes + n * 4 + 64, [=](int64_t r, void* first, void* second) {
    auto* perm = reinterpret_cast<int32_t*>(static_cast<char*>(second) + (nbytes + 63) / 64 * 64);
    const U* row = in + 2 * r * n;
    argsort_row<Key>(row + 1, 2, perm, n, false, first, second);
    argsort_row<Key>(row, 2, perm, n, true, first, second);
    auto* sorted = static_cast<Complex*>(first);
    for (int64_t i = 0; i < n; i++) sorted[i] = {row[2 * int64_t{perm[i]}], row[2 * int64_t{perm[i]} + 1]};
    std::memcpy(out + 2 * r * n, sorted, static_cast<size_t>(n) * sizeof(Complex));
  });
}

void add(int code, LibraryFn sort, LibraryFn argsort) {
  std::string dtype = kDTypes[code].short_name;
  register_library_function("velax_sort_" + dtype, sort, 2, 2);
  register_library_function("velax_argsort_" + dtype, argsort, 2, 3);
}

template <class Key>
void add(int code) {
  add(code, sort_function<Key>, argsort_function<Key>);
  register_library_function(std::string("velax_argfirst_") + kDTypes[code].short_name, argfirst_function<Key>, 2, 3);
}

}  // namespace

void register_sort_functions() {
  add<UnsignedKey<uint8_t>>(kBool);
  add<SignedKey<uint8_t>>(kI8);
  add<SignedKey<uint16_t>>(kI16);
  add<SignedKey<uint32_t>>(kI32);
  add<SignedKey<uint64_t>>(kI64);
  add<UnsignedKey<uint8_t>>(kU8);
  add<UnsignedKey<uint16_t>>(kU16);
  add<UnsignedKey<uint32_t>>(kU32);
  add<UnsignedKey<uint64_t>>(kU64);
  add<F16Key>(kF16);
  add<BF16Key>(kBF16);
  add<F32Key>(kF32);
  add<F64Key>(kF64);
  add(kC64, complex_sort_function<F32Key>, argsort_function<F32Key, 2>);
  add(kC128, complex_sort_function<F64Key>, argsort_function<F64Key, 2>);
  add<F8E4M3FNKey>(kF8E4M3FN);
  add<F8E5M2Key>(kF8E5M2);
  add<NibbleKey<true>>(kI4);
  add<NibbleKey<false>>(kU4);
}

}  // namespace velax
