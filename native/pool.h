// The thread pool. A job is a range cut into chunks by size alone, so results do not depend on the number of threads.
#pragma once
#include <cstdint>

namespace velax {

// Works on [lo, hi); `participant` is unique among the threads on this job, in [0, num_threads()). Nonzero stops
// the job.
using ChunkFn = int32_t (*)(void* env, int64_t lo, int64_t hi, int64_t participant);

// Runs `fn` over [0, total) in chunks of `grain` and returns when all is done: 0, or the nonzero result of one chunk
// (the chunks not begun by then are skipped). The caller works too, and works alone if the range is one chunk, the pool
// has one thread, or it is itself inside a chunk. Needs no GIL, and must not hold it if a chunk may take it.
int32_t parallel_for(int64_t total, int64_t grain, ChunkFn fn, void* env);

// The same over a callable `int32_t f(lo, hi, participant)`.
template <class F>
int32_t parallel_for(int64_t total, int64_t grain, const F& f) {
  return parallel_for(
      total, grain,
      [](void* env, int64_t lo, int64_t hi, int64_t participant) -> int32_t {
        return (*static_cast<const F*>(env))(lo, hi, participant);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

int num_threads();
// Affects jobs that start later; joins workers that are no longer wanted.
void set_num_threads(int n);
// VELAX_NUM_THREADS, or what affinity and the control group's processor quota allow.
int default_num_threads();
// Stops the workers and runs jobs on their callers from then on: for interpreter exit. Waits a second at most.
void shut_down_pool();

}  // namespace velax
