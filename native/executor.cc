// The executor proper: lays a frame out for a program and runs its instructions.
#include "executor.h"

#include <algorithm>
#include <cstring>

#include "frame.h"
#include "pool.h"

namespace velax {
namespace {

constexpr size_t kInlineArena = 2048;             // arenas up to this size are on the stack
constexpr int64_t kCopyGrain = int64_t{1} << 20;  // larger copies go through the pool

struct Scratch {
  void* memory = nullptr;
  size_t capacity = 0;
  ~Scratch() {
    if (memory != nullptr) allocator_free(memory, capacity);
  }
};
thread_local Scratch scratch;

// Like memmove, with all threads where there is much to copy.
void copy_bytes(void* to, const void* from, int64_t nbytes) {
  char* destination = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
  bool overlap = destination < source + nbytes && source < destination + nbytes;
  if (nbytes <= kCopyGrain || overlap) {
    std::memmove(to, from, static_cast<size_t>(nbytes));
    return;
  }
  parallel_for(nbytes, kCopyGrain, [=](int64_t lo, int64_t hi, int64_t) {
    std::memcpy(destination + lo, source + lo, static_cast<size_t>(hi - lo));
    return 0;
  });
}

// What the threads that share a launch need.
struct Launch {
  Frame* frame;
  KernelFn function;
  const int64_t* extents;
};

int32_t run_chunk(void* env, int64_t lo, int64_t hi, int64_t participant) {
  auto* launch = static_cast<Launch*>(env);
  Frame& frame = *launch->frame;
  // Participant 0 is the thread that executes the program.
  if (participant == 0 && !frame.poll()) return kStopFailed;
  int64_t scratch_bytes = frame.program.scratch_bytes;
  Ctx ctx{frame.interrupt, thread_scratch(scratch_bytes), scratch_bytes, participant, &frame.error};
  if (ctx.scratch == nullptr && scratch_bytes > 0) return kStopOutOfMemory;
  return launch->function(&ctx, frame.buffers, launch->extents, lo, hi);
}

inline void gather_buffers(Frame& frame, const Instruction& in) {
  const uint32_t* operands = frame.program.operands.data() + in.slots;
  for (uint32_t i = 0; i < in.nslots; i++) frame.buffers[i] = frame.slots[operands[i]];
}

int32_t run_launch(Frame& frame, const Instruction& in) {
  if (in.x == 0) return 0;
  gather_buffers(frame, in);
  Launch launch{&frame, frame.parts.kernels[in.target]->function.load(std::memory_order_acquire),
                frame.program.words.data() + in.params};
  int32_t code = in.x <= in.y ? run_chunk(&launch, 0, in.x, 0) : parallel_for(in.x, in.y, run_chunk, &launch);
  return code != 0 ? code : frame.error;
}

int32_t run_call(Frame& frame, const Instruction& in) {
  gather_buffers(frame, in);
  int64_t scratch_bytes = frame.program.scratch_bytes;
  Ctx ctx{frame.interrupt, thread_scratch(scratch_bytes), scratch_bytes, 0, &frame.error};
  if (ctx.scratch == nullptr && scratch_bytes > 0) return kStopOutOfMemory;
  int32_t code = frame.parts.functions[in.target].function(&ctx, frame.buffers, frame.program.words.data() + in.params);
  return code != 0 ? code : frame.error;
}

int32_t run_block(Frame& frame, uint32_t block);

int32_t run_while(Frame& frame, const Instruction& in) {
  for (;;) {
    if (!frame.poll()) return kStopFailed;
    if (int32_t code = run_block(frame, in.target)) return code;
    if (*static_cast<const unsigned char*>(frame.slots[in.a]) == 0) return 0;
    if (int32_t code = run_block(frame, in.b)) return code;
  }
}

int32_t run_loop(Frame& frame, const Instruction& in) {
  for (int64_t i = 0; i < in.x; i++) {
    if (!frame.poll()) return kStopFailed;
    int64_t counter = in.b != 0 ? in.x - 1 - i : i;
    std::memcpy(frame.slots[in.a], &counter, sizeof counter);
    if (int32_t code = run_block(frame, in.target)) return code;
  }
  return 0;
}

int32_t run_cond(Frame& frame, const Instruction& in) {
  int32_t index;
  std::memcpy(&index, frame.slots[in.a], sizeof index);
  index = std::clamp(index, int32_t{0}, static_cast<int32_t>(in.nslots) - 1);
  return run_block(frame, frame.program.operands[in.slots + static_cast<uint32_t>(index)]);
}

int32_t run_instruction(Frame& frame, const Instruction& in) {
  switch (in.op) {
    case Opcode::kLaunch:
      return run_launch(frame, in);
    case Opcode::kCopy:
      copy_bytes(static_cast<char*>(frame.slots[in.a]) + in.x, static_cast<char*>(frame.slots[in.b]) + in.y, in.z);
      return 0;
    case Opcode::kSwap:
      std::swap(frame.slots[in.a], frame.slots[in.b]);
      return 0;
    case Opcode::kCall:
      return run_call(frame, in);
    case Opcode::kWhile:
      return run_while(frame, in);
    case Opcode::kLoop:
      return run_loop(frame, in);
    case Opcode::kCond:
      return run_cond(frame, in);
    case Opcode::kCallback:
      return run_callback(frame, in);
  }
  return 0;
}

int32_t run_block(Frame& frame, uint32_t block) {
  const Block& range = frame.program.blocks[block];
  for (uint32_t i = range.begin; i < range.end; i++) {
    const Instruction& in = frame.program.instructions[i];
    if (!frame.poll()) return kStopFailed;
    if (int32_t code = run_instruction(frame, in)) {
      if (frame.stopped_at == nullptr) frame.stopped_at = &in;
      return code;
    }
  }
  return 0;
}

bool refuse_input_count(const Executable* e, size_t n) {
  PyErr_Format(PyExc_TypeError, "this executable takes %zu arrays, got %zu", e->parts->in_avals.size(), n);
  return false;
}

// Arrays whose signature is not the very one: weak types may differ, everything else must agree.
bool check_input(const AvalInfo* wanted, const AvalInfo* got, size_t k) {
  if (same_type(*wanted, *got)) return true;
  PyErr_Format(PyExc_TypeError, "argument %zu of this executable must be %s, got %s", k, aval_to_string(wanted).c_str(),
               aval_to_string(got).c_str());
  return false;
}

// The holds on input memory while others may run: another thread, or a callback, could delete the arrays.
class InputHolds {
 public:
  InputHolds(ArrayImpl* const* inputs, size_t n, bool wanted) : buffers_(wanted ? n : 0), n_(wanted ? n : 0) {
    for (size_t k = 0; k < n_; k++) {
      buffers_[k] = inputs[k]->buffer;
      if (buffers_[k] != nullptr) buffers_[k]->retain();
    }
  }
  ~InputHolds() {
    for (size_t k = 0; k < n_; k++) {
      if (buffers_[k] != nullptr) buffers_[k]->release();
    }
  }

 private:
  SmallArray<Buffer*, 16> buffers_;
  size_t n_;
};

// Which memory is passed for several inputs. Sorted: a donated input asks for each of its outputs.
class PassedTwice {
 public:
  PassedTwice(ArrayImpl* const* inputs, size_t n, bool wanted) {
    if (!wanted) return;
    buffers_.reserve(n);
    for (size_t k = 0; k < n; k++) buffers_.push_back(inputs[k]->buffer);
    std::sort(buffers_.begin(), buffers_.end());
  }
  bool contains(const Buffer* buffer) const {
    auto [first, last] = std::equal_range(buffers_.begin(), buffers_.end(), buffer);
    return last - first > 1;
  }

 private:
  std::vector<const Buffer*> buffers_;
};

struct Arena {
  explicit Arena(size_t nbytes) : memory(inline_memory) {
    if (nbytes > kInlineArena) {
      memory = static_cast<char*>(allocator_alloc(nbytes, &capacity));
      if (memory == nullptr) {
        throw AllocationError(allocation_failure_text(nbytes, " of temporaries of a compiled function"));
      }
    }
  }
  ~Arena() {
    if (memory != inline_memory) allocator_free(memory, capacity);
  }
  Arena(const Arena&) = delete;
  char* memory;
  size_t capacity = 0;
  alignas(64) char inline_memory[kInlineArena];
};

BufferRef allocate_output(const ExecutableParts& parts, size_t j) {
  const auto nbytes = static_cast<size_t>(parts.program->outputs[j].nbytes);
  BufferRef buffer = try_allocate(nbytes);
  if (!buffer) {
    throw AllocationError(allocation_failure_text(nbytes, " for a result " + aval_to_string(parts.out_avals[j])));
  }
  return buffer;
}

bool execute_checked(Executable* e, ArrayImpl* const* inputs, size_t n, PyObject** outputs) {
  const ExecutableParts& parts = *e->parts;
  const Program& program = *parts.program;
  size_t num_out = program.outputs.size();
  SmallArray<BufferRef, 8> results(num_out);
  // Where each input's contents are for this frame: an aliased input is its output.
  SmallArray<void*, 16> input_data(n);
  bool committed = false;
  for (size_t k = 0; k < n; k++) {
    committed |= inputs[k]->committed;
    Buffer* buffer = inputs[k]->buffer;
    if (buffer == nullptr) continue;  // deleted, but never looked at
    input_data[k] = buffer->data;
    if (buffer->ready_event != nullptr) buffer->wait();
  }

  struct PendingCopy {
    void* to;
    const void* from;
    int64_t nbytes;
  };
  std::vector<PendingCopy> copies;
  const PassedTwice passed_twice(inputs, n, !parts.consumed.empty());
  PyObject* device = n > 0 ? inputs[0]->device : nullptr;
  for (size_t j = 0; j < num_out; j++) {
    const Output& output = program.outputs[j];
    if (output.kind == OutputKind::kForward) results[j] = BufferRef::share(inputs[output.input]->buffer);
  }
  // Forwarded inputs have two references by now, so their memory is not reused below.
  for (size_t j = 0; j < num_out; j++) {
    const Output& output = program.outputs[j];
    if (output.kind == OutputKind::kFresh) {
      results[j] = allocate_output(parts, j);
    } else if (output.kind == OutputKind::kAlias) {
      size_t k = output.input;
      if (!(parts.donated[k] && inputs[k]->buffer->can_donate() && !passed_twice.contains(inputs[k]->buffer))) {
        results[j] = allocate_output(parts, j);
        copies.push_back({results[j]->data, input_data[k], output.nbytes});
        input_data[k] = results[j]->data;
      }
    }
  }
  InputHolds holds(inputs, n, parts.holds_inputs);
  // Only now that no allocation can fail any more are donated arrays emptied.
  Arena arena(static_cast<size_t>(program.arena_bytes));
  for (size_t j = 0; j < num_out; j++) {
    if (program.outputs[j].kind == OutputKind::kAlias && !results[j]) {
      results[j] = array_take_buffer(reinterpret_cast<PyObject*>(inputs[program.outputs[j].input]));
    }
  }

  SmallArray<void*, 32> slots(program.slots.size());
  for (size_t s = 0; s < program.slots.size(); s++) {
    const Slot& slot = program.slots[s];
    char* base = nullptr;
    switch (slot.kind) {
      case SlotKind::kInput:
        base = static_cast<char*>(input_data[slot.index]);
        break;
      case SlotKind::kOutput:
        base = static_cast<char*>(results[slot.index]->data);
        break;
      case SlotKind::kArena:
        base = arena.memory;
        break;
      case SlotKind::kLiteral:
        base = program.literals.get();
        break;
    }
    slots[s] = base + slot.offset;
  }
  SmallArray<void*, 16> buffers(program.max_buffers);

  Frame frame{parts, program, slots.data(), buffers.data()};
  if (parts.releases_gil) {
    frame.watch = begin_watch();
    frame.saved = PyEval_SaveThread();
  }
  frame.interrupt = interrupt_word(frame.watch != nullptr);
  for (const PendingCopy& copy : copies) copy_bytes(copy.to, copy.from, copy.nbytes);
  int32_t code = run_block(frame, 0);
  if (parts.releases_gil) {
    frame.acquire_gil();
    end_watch(frame.watch);
  }
  if (code != 0) {
    raise_stop(frame, code);
    return false;
  }
  for (size_t j = 0; j < num_out; j++) {
    ArrayImpl* array = array_new(std::move(results[j]), parts.out_avals[j], device, committed);
    if (array == nullptr) {
      while (j > 0) Py_CLEAR(outputs[--j]);
      return false;
    }
    outputs[j] = reinterpret_cast<PyObject*>(array);
  }
  for (size_t k : parts.consumed) {
    Buffer* buffer = inputs[k]->buffer;
    if (buffer == nullptr || !buffer->writable || buffer->external_holds.load(std::memory_order_acquire) != 0) continue;
    if (!passed_twice.contains(buffer)) array_take_buffer(reinterpret_cast<PyObject*>(inputs[k])).reset();
  }
  return true;
}

}  // namespace

void* thread_scratch(int64_t nbytes) {
  if (nbytes == 0) return nullptr;
  auto wanted = static_cast<size_t>(nbytes);
  if (scratch.capacity < wanted) {
    if (scratch.memory != nullptr) allocator_free(scratch.memory, scratch.capacity);
    scratch.memory = allocator_alloc(wanted, &scratch.capacity);
    if (scratch.memory == nullptr) scratch.capacity = 0;
  }
  return scratch.memory;
}

void raise_stop(Frame& frame, int32_t code) {
  if (PyErr_Occurred() != nullptr) return;
  if (code == kStopInterrupted) {
    raise_interrupt();
    return;
  }
  const char* kind = "program";
  const char* name = "";
  if (frame.stopped_at != nullptr && frame.stopped_at->op == Opcode::kLaunch) {
    kind = "kernel ";
    name = frame.program.kernels[frame.stopped_at->target].c_str();
  } else if (frame.stopped_at != nullptr && frame.stopped_at->op == Opcode::kCall) {
    kind = "library function ";
    name = frame.program.functions[frame.stopped_at->target].c_str();
  }
  if (code == kStopOutOfMemory) {
    PyErr_Format(PyExc_MemoryError, "%s%s found no memory for its temporaries", kind, name);
  } else if (code == kStopBadParams) {
    PyErr_Format(runtime_error_type(), "INVALID_ARGUMENT: %s%s was called with parameters that it does not take", kind,
                 name);
  } else {
    PyErr_Format(runtime_error_type(), "INTERNAL: %s%s stopped with code %d", kind, name, code);
  }
}

size_t num_inputs(const Executable* e) { return e->parts->in_avals.size(); }
size_t num_outputs(const Executable* e) { return e->parts->out_avals.size(); }
AvalInfo* const* input_avals(const Executable* e) { return e->parts->in_avals.data(); }
AvalInfo* const* output_avals(const Executable* e) { return e->parts->out_avals.data(); }

bool execute(Executable* e, ArrayImpl* const* inputs, size_t n, PyObject** outputs) {
  const ExecutableParts& parts = *e->parts;
  if (n != parts.in_avals.size()) return refuse_input_count(e, n);
  for (size_t k = 0; k < n; k++) {
    if (inputs[k]->info != parts.in_avals[k] && !check_input(parts.in_avals[k], inputs[k]->info, k)) return false;
    if (inputs[k]->buffer == nullptr && parts.reads[k]) {
      array_buffer(reinterpret_cast<PyObject*>(inputs[k]));  // sets the error for deleted arrays
      return false;
    }
  }
  return guarded(false, [=, &parts] {
    // A callback may drop the last other reference to the executable.
    Ref held(parts.holds_inputs ? Py_NewRef(reinterpret_cast<PyObject*>(e)) : nullptr);
    return execute_checked(e, inputs, n, outputs);
  });
}

}  // namespace velax
