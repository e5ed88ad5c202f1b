#include "buffer.h"

#include <string>

namespace velax {
namespace {

void free_allocated(Buffer* buffer) noexcept { allocator_free(buffer->data, buffer->capacity); }

void initialise(Buffer* buffer, void* data, size_t nbytes, size_t capacity, void (*deleter)(Buffer*) noexcept,
                void* owner, bool writable) noexcept {
  buffer->data = data;
  buffer->nbytes = nbytes;
  buffer->capacity = capacity;
  buffer->deleter = deleter;
  buffer->owner = owner;
  buffer->ready_event = nullptr;
  buffer->refcount.store(1, std::memory_order_relaxed);
  buffer->external_holds.store(0, std::memory_order_relaxed);
  buffer->device = 0;
  buffer->memory_kind = MemoryKind::kHost;
  buffer->writable = writable;
}

}  // namespace

void Buffer::destroy() noexcept {
  delete ready_event;
  if (deleter != nullptr) deleter(this);
  delete this;
}

BufferRef try_allocate(size_t nbytes) noexcept {
  size_t capacity;
  void* data = allocator_alloc(nbytes, &capacity);
  if (data == nullptr) return BufferRef();
  Buffer* buffer = new (std::nothrow) Buffer;
  if (buffer == nullptr) {
    allocator_free(data, capacity);
    return BufferRef();
  }
  initialise(buffer, data, nbytes, capacity, free_allocated, nullptr, true);
  return BufferRef::steal(buffer);
}

std::string allocation_failure_text(size_t nbytes, const std::string& purpose) {
  AllocatorStats stats = allocator_stats();
  return "out of memory allocating " + std::to_string(nbytes) + " bytes" + purpose + " (in use: " +
         std::to_string(stats.bytes_in_use) + " bytes, memory limit of this process: " +
         std::to_string(allocator_memory_limit()) + " bytes)";
}

BufferRef allocate(size_t nbytes) {
  BufferRef buffer = try_allocate(nbytes);
  if (!buffer) throw AllocationError(allocation_failure_text(nbytes));
  return buffer;
}

BufferRef borrow_memory(void* data, size_t nbytes, void (*deleter)(Buffer*) noexcept, void* owner, bool writable) {
  Buffer* buffer = new Buffer;
  initialise(buffer, data, nbytes, 0, deleter, owner, writable);
  return BufferRef::steal(buffer);
}

}  // namespace velax
