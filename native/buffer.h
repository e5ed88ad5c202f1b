// Buffers: reference-counted pieces of memory.
//
// Everything here may be used without the GIL, with one exception that the implementation deals with itself: dropping
// the last reference to a buffer that borrows memory from a Python object (NumPy, DLPack) takes the GIL.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "allocator.h"

namespace velax {

enum class MemoryKind : uint8_t { kHost = 0, kPinnedHost = 1, kDevice = 2 };

// Completion of the work that fills a buffer. The CPU fills buffers synchronously and has none.
class ReadyEvent {
 public:
  virtual ~ReadyEvent() = default;
  virtual void wait() = 0;
  virtual bool is_ready() = 0;
};

struct Buffer {
  void* data;
  size_t nbytes;
  size_t capacity;                    // the allocator's size of the block (0 for borrowed memory)
  void (*deleter)(Buffer*) noexcept;  // releases `data`; does not free the Buffer itself
  void* owner;                        // what a deleter of borrowed memory needs
  ReadyEvent* ready_event;            // owned, nullptr when the data is there already
  std::atomic<int32_t> refcount;
  // Views of the memory that others hold: memoryviews, NumPy views, DLPack tensors. They keep a reference too.
  std::atomic<int32_t> external_holds;
  int32_t device;
  MemoryKind memory_kind;
  bool writable;  // false for borrowed memory: never written in place or donated

  void retain() noexcept { refcount.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refcount.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  // An external view begins or ends; each also keeps the buffer alive.
  void hold() noexcept {
    retain();
    external_holds.fetch_add(1, std::memory_order_acq_rel);
  }
  void unhold() noexcept {
    external_holds.fetch_sub(1, std::memory_order_acq_rel);
    release();
  }
  // True when the caller's reference is the only one, nobody views the memory and it is ours to write.
  bool can_donate() const noexcept {
    return refcount.load(std::memory_order_acquire) == 1 && external_holds.load(std::memory_order_acquire) == 0 &&
           writable;
  }
  void wait() {
    if (ready_event != nullptr) ready_event->wait();
  }

 private:
  void destroy() noexcept;
};

// Intrusive smart pointer of Buffer.
class BufferRef {
 public:
  BufferRef() noexcept = default;
  // Takes over one reference.
  static BufferRef steal(Buffer* buffer) noexcept { return BufferRef(buffer); }
  // Adds one reference.
  static BufferRef share(Buffer* buffer) noexcept {
    if (buffer != nullptr) buffer->retain();
    return BufferRef(buffer);
  }
  BufferRef(const BufferRef& other) noexcept : buffer_(other.buffer_) {
    if (buffer_ != nullptr) buffer_->retain();
  }
  BufferRef(BufferRef&& other) noexcept : buffer_(other.buffer_) { other.buffer_ = nullptr; }
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~BufferRef() {
    if (buffer_ != nullptr) buffer_->release();
  }
  Buffer* get() const noexcept { return buffer_; }
  Buffer* operator->() const noexcept { return buffer_; }
  Buffer& operator*() const noexcept { return *buffer_; }
  explicit operator bool() const noexcept { return buffer_ != nullptr; }
  // Gives the reference to the caller.
  Buffer* detach() noexcept {
    Buffer* buffer = buffer_;
    buffer_ = nullptr;
    return buffer;
  }
  void reset() noexcept { *this = BufferRef(); }

 private:
  explicit BufferRef(Buffer* buffer) noexcept : buffer_(buffer) {}
  Buffer* buffer_ = nullptr;
};

// An uninitialised host buffer. Throws AllocationError naming the bytes asked for.
BufferRef allocate(size_t nbytes);
// The same, but an empty reference instead of an exception.
BufferRef try_allocate(size_t nbytes) noexcept;
// The text of the AllocationError for so many bytes, for callers that know more about what they are for.
std::string allocation_failure_text(size_t nbytes, const std::string& purpose = {});
// A buffer over memory that somebody else owns; `deleter` (may be nullptr) is called when the last reference goes.
BufferRef borrow_memory(void* data, size_t nbytes, void (*deleter)(Buffer*) noexcept, void* owner, bool writable);

}  // namespace velax
