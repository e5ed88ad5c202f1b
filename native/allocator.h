// The allocator of array memory: size classes, small per-thread caches, and freed blocks kept for reuse, because the
// page faults of fresh memory cost more than most kernels (16 ms for 64 MB).
//
// Thread-safe, needs no GIL, survives fork.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

namespace velax {

struct AllocatorStats {
  int64_t bytes_in_use;        // handed out, rounded up to size classes
  int64_t bytes_kept;          // freed and kept for reuse
  int64_t peak_bytes_in_use;   // since the start or the last `allocator_reset_peak`
  int64_t allocations;         // calls that succeeded
  int64_t reuses;              // of those, the ones served from kept blocks
  int64_t system_allocations;  // of those, the ones that asked the operating system
  int64_t frees;
  int64_t blocks_in_use;
  int64_t blocks_kept;
  int64_t keep_limit;          // most bytes that are kept
  int64_t largest_allocation;
};

// A block of at least `nbytes` bytes, aligned to 64 (to a page from 64 KiB on), uninitialised. `*capacity` is the size
// to pass to `allocator_free`. Returns nullptr when the system has no such memory; never throws. nbytes == 0 is fine.
void* allocator_alloc(size_t nbytes, size_t* capacity) noexcept;
void allocator_free(void* block, size_t capacity) noexcept;
// Gives kept blocks back to the system until at most `keep_bytes` are kept; returns the bytes given back.
size_t allocator_trim(size_t keep_bytes = 0) noexcept;
void allocator_set_keep_limit(size_t bytes) noexcept;
void allocator_reset_peak() noexcept;
// Physical memory or the control group's limit; larger requests are refused instead of waking the OOM killer.
size_t allocator_memory_limit() noexcept;
AllocatorStats allocator_stats() noexcept;

// Thrown by `allocate`; nanobind shows it as MemoryError with this text.
class AllocationError : public std::bad_alloc {
 public:
  explicit AllocationError(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

}  // namespace velax
