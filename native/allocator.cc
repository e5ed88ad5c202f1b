// Size classes: multiples of 64 up to 512 bytes, then four per power of two, so at most a fifth of a block is unused.
// Small blocks (to 32 KiB) go through a cache of the calling thread without a lock; all others, and what overflows the
// caches, through central lists behind one mutex, held for a few instructions. Blocks from 1 MiB on are mapped
// directly. Kept blocks are never written to, so keeping one costs no page.
#include "allocator.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <vector>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace velax {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kPageAlignFrom = size_t{64} << 10;
constexpr size_t kMapFrom = size_t{1} << 20;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLargestBlock = size_t{1} << 46;
constexpr int kSmallClasses = 32;              // to 32 KiB
constexpr size_t kThreadCacheBytes = 64 << 10; // most bytes a thread keeps per class
constexpr int kThreadCacheBlocks = 32;         // most blocks a thread keeps per class
constexpr int kNumClasses = 8 + (46 - 9) * 4;
constexpr int64_t kFlushBytes = 256 << 10;     // accuracy of the peak, per thread
// With so little to keep, blocks in the thread caches would already be too much.
constexpr size_t kThreadCacheMinimumKeep = size_t{1} << 20;

int size_class(size_t nbytes, size_t* capacity) {
  if (nbytes <= 512) {
    int index = nbytes == 0 ? 0 : static_cast<int>((nbytes - 1) / 64);
    *capacity = static_cast<size_t>(index + 1) * 64;
    return index;
  }
  int power = 63 - __builtin_clzll(nbytes - 1);
  int quarter = static_cast<int>((nbytes - 1) >> (power - 2));  // 4..7
  *capacity = static_cast<size_t>(quarter + 1) << (power - 2);
  return 8 + (power - 9) * 4 + (quarter - 4);
}

int thread_cache_limit(size_t capacity) {
  return static_cast<int>(std::max<size_t>(2, std::min<size_t>(kThreadCacheBlocks, kThreadCacheBytes / capacity)));
}

// ------------------------------------------------------------------------------------------ the operating system

int64_t read_limit(const std::string& path) {
  std::ifstream file(path);
  long long value = 0;
  // "max" (no limit) does not parse as a number.
  return file >> value && value > 0 ? value : INT64_MAX;
}

// Memory this process may use: physical memory, or the limit of its control group or of one above it.
size_t memory_limit() {
  int64_t limit = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  limit = std::min(limit, read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    for (std::string group = line.substr(3);; group.resize(group.rfind('/'))) {
      limit = std::min(limit, read_limit("/sys/fs/cgroup" + group + "/memory.max"));
      if (group.find('/') == std::string::npos) break;
    }
  }
  return static_cast<size_t>(limit);
}

void* system_alloc(size_t capacity) {
  if (capacity < kMapFrom) {
    void* block = nullptr;
    size_t alignment = capacity >= kPageAlignFrom ? 4096 : kAlignment;
    return posix_memalign(&block, alignment, capacity) == 0 ? block : nullptr;
  }
  // Huge pages need blocks aligned to one: map too much and give the ends back.
  size_t slack = capacity >= kHugePage ? kHugePage : 0;
  void* mapped = mmap(nullptr, capacity + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  uintptr_t begin = reinterpret_cast<uintptr_t>(mapped);
  uintptr_t aligned = (begin + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned != begin) munmap(mapped, aligned - begin);
  size_t tail = begin + capacity + slack - (aligned + capacity);
  if (tail != 0) munmap(reinterpret_cast<void*>(aligned + capacity), tail);
  void* block = reinterpret_cast<void*>(aligned);
  madvise(block, capacity, MADV_HUGEPAGE);  // advice only: without it the block works with small pages
  return block;
}

void system_free(void* block, size_t capacity) {
  ASAN_UNPOISON_MEMORY_REGION(block, capacity);
  if (capacity < kMapFrom) {
    free(block);
  } else {
    munmap(block, capacity);
  }
}

// -------------------------------------------------------------------------------------------------- shared state

// Counters written by one thread and read by `allocator_stats` of any.
struct Counter {
  std::atomic<int64_t> value{0};
  void add(int64_t amount) {
    value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  int64_t get() const { return value.load(std::memory_order_relaxed); }
};

struct ThreadCache {
  int counts[kSmallClasses] = {};
  void* blocks[kSmallClasses][kThreadCacheBlocks];
  Counter in_use_delta;  // not yet added to Central::in_use
  Counter kept;
  Counter blocks_kept;
  Counter allocations;
  Counter reuses;
  Counter frees;
};

struct Block {
  void* address;
  size_t capacity;
};

struct Central {
  std::mutex mutex;
  std::vector<void*> free_blocks[kNumClasses];
  size_t class_capacity[kNumClasses] = {};
  uint64_t last_use[kNumClasses] = {};
  uint64_t clock = 0;
  std::vector<ThreadCache*> caches;
  size_t kept = 0;
  std::atomic<size_t> keep_limit{0};
  size_t memory = 0;
  std::atomic<int64_t> in_use{0};
  std::atomic<int64_t> peak{0};
  // Of the blocks that pass no thread cache, and of threads that ended.
  int64_t allocations = 0;
  int64_t reuses = 0;
  int64_t frees = 0;
  std::atomic<int64_t> system_allocations{0};
  std::atomic<int64_t> largest{0};

  Central() {
    memory = memory_limit();
    keep_limit = memory / 4;
    for (size_t nbytes = 1, capacity; nbytes <= kLargestBlock; nbytes = capacity + 1) {
      int index = size_class(nbytes, &capacity);
      class_capacity[index] = capacity;
    }
  }

  void change_in_use(int64_t amount) {
    int64_t now = in_use.fetch_add(amount, std::memory_order_relaxed) + amount;
    int64_t before = peak.load(std::memory_order_relaxed);
    while (now > before && !peak.compare_exchange_weak(before, now, std::memory_order_relaxed)) {
    }
  }

  // Takes a kept block of the class out of the lists; the caller holds the mutex.
  void* take(int index) {
    std::vector<void*>& list = free_blocks[index];
    last_use[index] = ++clock;
    if (list.empty()) return nullptr;
    void* block = list.back();
    list.pop_back();
    kept -= class_capacity[index];
    return block;
  }

  // Moves kept blocks, those of the longest unused classes first, to `victims` until at most `limit` bytes are kept.
  void evict(size_t limit, std::vector<Block>* victims) {
    while (kept > limit) {
      int oldest = -1;
      for (int index = 0; index < kNumClasses; ++index) {
        if (!free_blocks[index].empty() && (oldest < 0 || last_use[index] < last_use[oldest])) oldest = index;
      }
      std::vector<void*>& list = free_blocks[oldest];
      while (!list.empty() && kept > limit) {
        victims->push_back({list.back(), class_capacity[oldest]});
        list.pop_back();
        kept -= class_capacity[oldest];
      }
    }
  }
};

// Never destroyed: buffers may be freed during the interpreter's shutdown and by threads that outlive it.
Central& central() {
  static Central* instance = [] {
    Central* made = new Central;
    static Central* forked = made;
    pthread_atfork([] { forked->mutex.lock(); }, [] { forked->mutex.unlock(); }, [] { forked->mutex.unlock(); });
    return made;
  }();
  return *instance;
}

void release_all(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) system_free(block.address, block.capacity);
}

// Keeps a block centrally, or gives it back where that would be too much.
void give_to_central(void* const* blocks, int count, int index, size_t capacity) noexcept {
  Central& shared = central();
  std::vector<Block> victims;
  int kept = 0;
  try {
    std::lock_guard<std::mutex> lock(shared.mutex);
    size_t limit = shared.keep_limit.load(std::memory_order_relaxed);
    for (; kept < count && capacity <= limit; ++kept) {
      shared.free_blocks[index].push_back(blocks[kept]);
      shared.kept += capacity;
    }
    shared.last_use[index] = ++shared.clock;
    if (shared.kept > limit) shared.evict(limit, &victims);
  } catch (const std::bad_alloc&) {
    // No memory for the bookkeeping: the blocks that did not get into a list are given back below.
  }
  release_all(victims);
  for (int i = kept; i < count; ++i) system_free(blocks[i], capacity);
}

// ------------------------------------------------------------------------------------------------- thread caches

__thread ThreadCache* tls_cache = nullptr;
__thread bool tls_cache_ended = false;

void drain(ThreadCache* cache) {
  Central& shared = central();
  for (int index = 0; index < kSmallClasses; ++index) {
    if (cache->counts[index] == 0) continue;
    size_t capacity = shared.class_capacity[index];
    give_to_central(cache->blocks[index], cache->counts[index], index, capacity);
    cache->kept.add(-static_cast<int64_t>(capacity) * cache->counts[index]);
    cache->blocks_kept.add(-cache->counts[index]);
    cache->counts[index] = 0;
  }
}

// Returns the cache of a thread that ends to the central lists.
struct ThreadCacheGuard {
  bool armed = false;
  ~ThreadCacheGuard() {
    ThreadCache* cache = tls_cache;
    tls_cache = nullptr;
    tls_cache_ended = true;
    if (cache == nullptr) return;
    drain(cache);
    Central& shared = central();
    shared.change_in_use(cache->in_use_delta.get());
    {
      std::lock_guard<std::mutex> lock(shared.mutex);
      shared.allocations += cache->allocations.get();
      shared.reuses += cache->reuses.get();
      shared.frees += cache->frees.get();
      shared.caches.erase(std::find(shared.caches.begin(), shared.caches.end(), cache));
    }
    delete cache;
  }
};
thread_local ThreadCacheGuard cache_guard;

__attribute__((noinline)) ThreadCache* make_thread_cache() noexcept {
  if (tls_cache_ended) return nullptr;
  ThreadCache* cache = new (std::nothrow) ThreadCache;
  if (cache == nullptr) return nullptr;
  try {
    Central& shared = central();
    std::lock_guard<std::mutex> lock(shared.mutex);
    shared.caches.push_back(cache);
  } catch (const std::bad_alloc&) {
    delete cache;
    return nullptr;
  }
  cache_guard.armed = true;  // makes the guard exist, so that its destructor runs when the thread ends
  tls_cache = cache;
  return cache;
}

inline ThreadCache* thread_cache() {
  ThreadCache* cache = tls_cache;
  return cache != nullptr ? cache : make_thread_cache();
}

void count_small(ThreadCache* cache, int64_t amount) {
  cache->in_use_delta.add(amount);
  int64_t delta = cache->in_use_delta.get();
  if (delta > kFlushBytes || delta < -kFlushBytes) {
    central().change_in_use(delta);
    cache->in_use_delta.add(-delta);
  }
}

__attribute__((noinline)) void* alloc_fresh(size_t capacity) {
  Central& shared = central();
  if (capacity > shared.memory) return nullptr;
  void* block = system_alloc(capacity);
  if (block == nullptr) {
    allocator_trim(0);
    block = system_alloc(capacity);
  }
  if (block == nullptr) return nullptr;
  shared.system_allocations.fetch_add(1, std::memory_order_relaxed);
  int64_t bytes = static_cast<int64_t>(capacity);
  int64_t largest = shared.largest.load(std::memory_order_relaxed);
  while (bytes > largest && !shared.largest.compare_exchange_weak(largest, bytes, std::memory_order_relaxed)) {
  }
  return block;
}

// Small blocks that the thread cache cannot serve: half a cache from the central list, or a fresh block.
__attribute__((noinline)) void* refill(ThreadCache* cache, int index, size_t capacity) {
  Central& shared = central();
  void* block;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    block = shared.take(index);
    if (block != nullptr) {
      int wanted = thread_cache_limit(capacity) / 2;
      while (cache->counts[index] < wanted) {
        void* more = shared.take(index);
        if (more == nullptr) break;
        cache->blocks[index][cache->counts[index]++] = more;
        cache->kept.add(static_cast<int64_t>(capacity));
        cache->blocks_kept.add(1);
      }
    }
  }
  if (block != nullptr) {
    cache->reuses.add(1);
    ASAN_UNPOISON_MEMORY_REGION(block, capacity);
    return block;
  }
  return alloc_fresh(capacity);
}

void* alloc_central(int index, size_t* capacity) {
  Central& shared = central();
  void* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    // A somewhat larger kept block beats fresh pages.
    int last = index < kSmallClasses ? index : std::min(index + 2, kNumClasses - 1);
    for (int candidate = index; candidate <= last && block == nullptr; ++candidate) {
      if (candidate != index && shared.free_blocks[candidate].empty()) continue;
      block = shared.take(candidate);
      if (block != nullptr) *capacity = shared.class_capacity[candidate];
    }
    if (block != nullptr) {
      shared.reuses++;
      shared.allocations++;
    }
  }
  if (block != nullptr) {
    ASAN_UNPOISON_MEMORY_REGION(block, *capacity);
  } else {
    block = alloc_fresh(*capacity);
    if (block == nullptr) return nullptr;
    std::lock_guard<std::mutex> lock(shared.mutex);
    shared.allocations++;
  }
  shared.change_in_use(static_cast<int64_t>(*capacity));
  return block;
}

}  // namespace

void* allocator_alloc(size_t nbytes, size_t* capacity) noexcept {
  if (nbytes > kLargestBlock) return nullptr;
  int index = size_class(nbytes, capacity);
  if (index >= kSmallClasses) return alloc_central(index, capacity);
  ThreadCache* cache = thread_cache();
  if (cache == nullptr) return alloc_central(index, capacity);
  void* block;
  if (cache->counts[index] != 0) {
    block = cache->blocks[index][--cache->counts[index]];
    cache->kept.add(-static_cast<int64_t>(*capacity));
    cache->blocks_kept.add(-1);
    cache->reuses.add(1);
    ASAN_UNPOISON_MEMORY_REGION(block, *capacity);
  } else {
    block = refill(cache, index, *capacity);
    if (block == nullptr) return nullptr;
  }
  cache->allocations.add(1);
  count_small(cache, static_cast<int64_t>(*capacity));
  return block;
}

void allocator_free(void* block, size_t capacity) noexcept {
  size_t same;
  int index = size_class(capacity, &same);
  ASAN_POISON_MEMORY_REGION(block, capacity);
  ThreadCache* cache = index < kSmallClasses ? thread_cache() : nullptr;
  if (cache == nullptr) {
    Central& shared = central();
    shared.change_in_use(-static_cast<int64_t>(capacity));
    {
      std::lock_guard<std::mutex> lock(shared.mutex);
      shared.frees++;
    }
    give_to_central(&block, 1, index, capacity);
    return;
  }
  cache->frees.add(1);
  count_small(cache, -static_cast<int64_t>(capacity));
  if (central().keep_limit.load(std::memory_order_relaxed) < kThreadCacheMinimumKeep) {
    give_to_central(&block, 1, index, capacity);
    return;
  }
  int limit = thread_cache_limit(capacity);
  if (cache->counts[index] == limit) {
    int moved = limit / 2;
    cache->counts[index] -= moved;
    give_to_central(cache->blocks[index] + cache->counts[index], moved, index, capacity);
    cache->kept.add(-static_cast<int64_t>(capacity) * moved);
    cache->blocks_kept.add(-moved);
  }
  cache->blocks[index][cache->counts[index]++] = block;
  cache->kept.add(static_cast<int64_t>(capacity));
  cache->blocks_kept.add(1);
}

size_t allocator_trim(size_t keep_bytes) noexcept {
  if (tls_cache != nullptr) drain(tls_cache);
  Central& shared = central();
  std::vector<Block> victims;
  try {
    std::lock_guard<std::mutex> lock(shared.mutex);
    shared.evict(keep_bytes, &victims);
  } catch (const std::bad_alloc&) {
    // What was moved so far is given back.
  }
  size_t bytes = 0;
  for (const Block& block : victims) bytes += block.capacity;
  release_all(victims);
#if defined(__GLIBC__)
  if (keep_bytes == 0) malloc_trim(0);
#endif
  return bytes;
}

void allocator_set_keep_limit(size_t bytes) noexcept {
  central().keep_limit.store(bytes, std::memory_order_relaxed);
  allocator_trim(bytes);
}

void allocator_reset_peak() noexcept {
  AllocatorStats stats = allocator_stats();
  central().peak.store(stats.bytes_in_use, std::memory_order_relaxed);
}

size_t allocator_memory_limit() noexcept { return central().memory; }

AllocatorStats allocator_stats() noexcept {
  Central& shared = central();
  std::lock_guard<std::mutex> lock(shared.mutex);
  AllocatorStats stats{};
  stats.bytes_in_use = shared.in_use.load(std::memory_order_relaxed);
  stats.bytes_kept = static_cast<int64_t>(shared.kept);
  for (const std::vector<void*>& list : shared.free_blocks) stats.blocks_kept += static_cast<int64_t>(list.size());
  stats.allocations = shared.allocations;
  stats.reuses = shared.reuses;
  stats.frees = shared.frees;
  for (const ThreadCache* cache : shared.caches) {
    stats.bytes_in_use += cache->in_use_delta.get();
    stats.bytes_kept += cache->kept.get();
    stats.blocks_kept += cache->blocks_kept.get();
    stats.allocations += cache->allocations.get();
    stats.reuses += cache->reuses.get();
    stats.frees += cache->frees.get();
  }
  stats.blocks_in_use = stats.allocations - stats.frees;
  stats.system_allocations = shared.system_allocations.load(std::memory_order_relaxed);
  stats.largest_allocation = shared.largest.load(std::memory_order_relaxed);
  stats.peak_bytes_in_use = std::max(shared.peak.load(std::memory_order_relaxed), stats.bytes_in_use);
  stats.keep_limit = static_cast<int64_t>(shared.keep_limit.load(std::memory_order_relaxed));
  return stats;
}

}  // namespace velax
