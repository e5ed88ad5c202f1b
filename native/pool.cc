// The thread pool: workers join published jobs and take chunks from an atomic counter.
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace velax {
namespace {

// How long a thread with nothing to do looks for work before it sleeps. Long enough to catch the next
// launch of a program, short enough that an idle process uses no processor time.
constexpr int64_t kSpinNanoseconds = 40'000;

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Spins until `done()` or the time is over; says whether it was done.
template <class Done>
bool spin_until(Done&& done) {
  int64_t deadline = 0;
  for (;;) {
    for (int i = 0; i < 64; i++) {
      if (done()) return true;
      cpu_relax();
    }
    int64_t now = now_ns();
    if (deadline == 0) deadline = now + kSpinNanoseconds;
    if (now >= deadline) return false;
  }
}

class SpinLock {
 public:
  void lock() {
    for (int tries = 0; flag_.test_and_set(std::memory_order_acquire); tries++) {
      if (tries < 1000) {
        cpu_relax();
      } else {
        std::this_thread::yield();  // the holder has lost its processor
      }
    }
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

// True while this thread runs a chunk: what it launches runs inline, its peers are busy already.
thread_local bool inside_chunk = false;

// One parallel_for. Lives on the stack of its caller, who returns only when no worker is inside.
struct Job {
  ChunkFn fn;
  void* env;
  int64_t total, grain, num_chunks;
  int32_t most_participants;
  alignas(64) std::atomic<int64_t> next{0};
  std::atomic<int32_t> result{0};
  std::atomic<int32_t> participants{1};
  // Workers inside, plus kWaiting once the caller sleeps until they have left. One word, because a worker must not
  // touch the job after the subtraction that lets the caller go.
  alignas(64) std::atomic<int32_t> active{0};
  Job* next_job = nullptr;

  static constexpr int32_t kWaiting = 1 << 30;

  bool wants_help() const {
    return next.load(std::memory_order_relaxed) < num_chunks &&
           participants.load(std::memory_order_relaxed) < most_participants;
  }

  void work(int64_t participant) {
    inside_chunk = true;
    for (;;) {
      int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= num_chunks) break;
      int64_t lo = chunk * grain;
      int32_t code = fn(env, lo, total - lo > grain ? lo + grain : total, participant);
      if (code != 0) {
        int32_t none = 0;
        result.compare_exchange_strong(none, code, std::memory_order_relaxed);
        next.store(num_chunks, std::memory_order_relaxed);
      }
    }
    inside_chunk = false;
  }
};

class Pool {
 public:
  explicit Pool(int threads) { resize(threads); }
  ~Pool() { resize(1); }

  int size() const { return size_.load(std::memory_order_relaxed); }

  // Joins all workers and starts anew, so that a worker's index is its place in the list. Concurrent jobs finish
  // on their callers.
  void resize(int threads) {
    std::lock_guard<std::mutex> resizing(resize_mutex_);
    size_.store(1, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      stopping_.store(true);
      sleep_cv_.notify_all();
    }
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_.store(false);
    try {
      for (int i = 1; i < threads; i++) {
        workers_.emplace_back([this] { worker_main(); });
        std::lock_guard<std::mutex> lock(sleep_mutex_);
        running_++;
      }
    } catch (const std::exception&) {
      // The system has no more threads or memory to give: the pool is as large as it got.
    }
    size_.store(static_cast<int>(workers_.size()) + 1, std::memory_order_relaxed);
  }

  // For exit: joins the workers, unless some are caught in a long chunk of a thread that nobody waits for.
  void stop_within(std::chrono::milliseconds time) {
    std::lock_guard<std::mutex> resizing(resize_mutex_);
    size_.store(1, std::memory_order_relaxed);
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    stopping_.store(true);
    sleep_cv_.notify_all();
    bool all_left = left_cv_.wait_for(lock, time, [this] { return running_ == 0; });
    lock.unlock();
    for (std::thread& worker : workers_) all_left ? worker.join() : worker.detach();
    workers_.clear();
  }

  int32_t run(int64_t total, int64_t grain, int64_t num_chunks, ChunkFn fn, void* env) {
    Job job{fn, env, total, grain, num_chunks, size()};
    publish(&job);
    job.work(0);
    retract(&job);
    auto left = [&job] { return job.active.load(std::memory_order_acquire) == 0; };
    if (!spin_until(left)) {
      job.active.fetch_add(Job::kWaiting, std::memory_order_acq_rel);
      std::unique_lock<std::mutex> lock(done_mutex_);
      done_cv_.wait(lock, [&job] { return job.active.load(std::memory_order_acquire) == Job::kWaiting; });
    }
    return job.result.load(std::memory_order_relaxed);
  }

 private:
  void publish(Job* job) {
    lock_.lock();
    job->next_job = jobs_;
    jobs_ = job;
    lock_.unlock();
    // Sequentially consistent with `sleepers_`: either the worker about to sleep sees the new epoch, or we see it
    // sleeping.
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    int sleepers = sleepers_.load(std::memory_order_seq_cst);
    if (sleepers == 0) return;
    int64_t wanted = job->num_chunks - 1;
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    if (wanted >= sleepers) {
      sleep_cv_.notify_all();
    } else {
      for (int64_t i = 0; i < wanted; i++) sleep_cv_.notify_one();
    }
  }

  void retract(Job* job) {
    lock_.lock();
    Job** link = &jobs_;
    while (*link != job) link = &(*link)->next_job;
    *link = job->next_job;
    lock_.unlock();
  }

  Job* join_any(int64_t* participant) {
    lock_.lock();
    Job* job = jobs_;
    while (job != nullptr && !job->wants_help()) job = job->next_job;
    if (job != nullptr) {
      job->active.fetch_add(1, std::memory_order_relaxed);
      *participant = job->participants.fetch_add(1, std::memory_order_relaxed);
    }
    lock_.unlock();
    return job;
  }

  void worker_main() {
    serve();
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    running_--;
    left_cv_.notify_all();
  }

  // Works on jobs until the pool stops.
  void serve() {
    for (;;) {
      uint64_t seen = epoch_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_relaxed)) return;
      int64_t participant = 0;
      if (Job* job = join_any(&participant)) {
        job->work(participant);
        if (job->active.fetch_sub(1, std::memory_order_acq_rel) == Job::kWaiting + 1) {
          std::lock_guard<std::mutex> lock(done_mutex_);
          done_cv_.notify_all();
        }
        continue;
      }
      auto changed = [this, seen] {
        return epoch_.load(std::memory_order_acquire) != seen || stopping_.load(std::memory_order_relaxed);
      };
      if (spin_until(changed)) continue;
      std::unique_lock<std::mutex> lock(sleep_mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      sleep_cv_.wait(lock, [this, seen] {
        return epoch_.load(std::memory_order_seq_cst) != seen || stopping_.load(std::memory_order_relaxed);
      });
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  SpinLock lock_;  // guards jobs_ and its links
  Job* jobs_ = nullptr;
  alignas(64) std::atomic<uint64_t> epoch_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> size_{1};
  std::mutex sleep_mutex_, done_mutex_, resize_mutex_;
  std::condition_variable sleep_cv_, done_cv_, left_cv_;
  int running_ = 0;  // workers that have not left; guarded by sleep_mutex_
  std::vector<std::thread> workers_;
};

// The pool is made when first needed, and again in a forked child, which has none of its threads. It is never
// destroyed: other threads may still be running when static objects die.
std::atomic<Pool*> the_pool{nullptr};
std::atomic<int> wanted_threads{0};  // 0: the default
std::atomic<bool> shut_down{false};
std::atomic_flag making_pool = ATOMIC_FLAG_INIT;

void forget_pool_in_child() {
  the_pool.store(nullptr);
  making_pool.clear();
}

Pool* pool() {
  Pool* found = the_pool.load(std::memory_order_acquire);
  if (found != nullptr) return found;
  while (making_pool.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
  found = the_pool.load(std::memory_order_acquire);
  if (found == nullptr) {
    static bool registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child) == 0;
    (void)registered;
    int threads = wanted_threads.load();
    found = new Pool(threads > 0 ? threads : default_num_threads());
    the_pool.store(found, std::memory_order_release);
  }
  making_pool.clear(std::memory_order_release);
  return found;
}

// The processors a control group's quota is worth, or 0 for no limit.
double quota_of(const std::string& quota_text, const std::string& period_text) {
  char* end = nullptr;
  double quota = std::strtod(quota_text.c_str(), &end);
  if (end == quota_text.c_str() || quota <= 0) return 0;  // "max", "-1", nothing
  double period = std::strtod(period_text.c_str(), nullptr);
  return period > 0 ? quota / period : 0;
}

std::string first_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// The least quota of the group and its ancestors up to the mount point. `read` maps a folder to its quota or 0.
template <class Read>
double least_quota(const std::string& mount, std::string group, Read&& read) {
  double least = 0;
  for (;;) {
    double here = read(mount + group);
    if (here > 0 && (least == 0 || here < least)) least = here;
    if (group.empty()) return least;
    group.erase(group.find_last_of('/'));
  }
}

double cgroup_quota() {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  double least = 0;
  auto take = [&least](double quota) {
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  };
  while (std::getline(groups, line)) {
    // hierarchy-id:controllers:path, with no controllers in version 2
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (group == "/" || group.empty() || group[0] != '/') group.clear();
    if (controllers.empty()) {
      take(least_quota("/sys/fs/cgroup", group, [](const std::string& folder) {
        std::ifstream file(folder + "/cpu.max");
        std::string quota, period;
        file >> quota >> period;
        return quota_of(quota, period);
      }));
      continue;
    }
    std::stringstream names(controllers);
    std::string name;
    while (std::getline(names, name, ',')) {
      if (name != "cpu") continue;
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
        take(least_quota(mount, group, [](const std::string& folder) {
          return quota_of(first_word(folder + "/cpu.cfs_quota_us"), first_word(folder + "/cpu.cfs_period_us"));
        }));
      }
    }
  }
  return least;
}

}  // namespace

int default_num_threads() {
  if (const char* text = std::getenv("VELAX_NUM_THREADS")) {
    char* end = nullptr;
    long n = std::strtol(text, &end, 10);
    if (end != text && *end == '\0' && n >= 1 && n <= 4096) return static_cast<int>(n);
    std::fprintf(stderr, "velax: VELAX_NUM_THREADS=%s is not a number of threads (1 to 4096) and is ignored\n", text);
  }
  int n = 1;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    n = CPU_COUNT(&set);
  } else {  // more processors than cpu_set_t has room for
    n = static_cast<int>(std::thread::hardware_concurrency());
  }
  double quota = cgroup_quota();
  if (quota > 0) n = std::min(n, static_cast<int>(std::ceil(quota)));
  return std::max(n, 1);
}

int num_threads() {
  if (shut_down.load(std::memory_order_relaxed)) return 1;
  Pool* made = the_pool.load(std::memory_order_acquire);
  if (made != nullptr) return made->size();
  int wanted = wanted_threads.load();
  return wanted > 0 ? wanted : default_num_threads();
}

void set_num_threads(int n) {
  wanted_threads.store(n);
  Pool* made = the_pool.load(std::memory_order_acquire);
  if (made != nullptr && made->size() != n) made->resize(n);
}

void shut_down_pool() {
  shut_down.store(true);
  Pool* made = the_pool.load(std::memory_order_acquire);
  if (made != nullptr) made->stop_within(std::chrono::seconds(1));
}

int32_t parallel_for(int64_t total, int64_t grain, ChunkFn fn, void* env) {
  if (total <= 0) return 0;
  if (grain < 1) grain = 1;
  int64_t num_chunks = (total - 1) / grain + 1;
  if (num_chunks > 1 && !inside_chunk && !shut_down.load(std::memory_order_relaxed)) {
    Pool* shared = pool();
    if (shared->size() > 1) return shared->run(total, grain, num_chunks, fn, env);
  }
  // Alone, the chunks are the same: what a chunk computes may depend on its bounds.
  for (int64_t chunk = 0; chunk < num_chunks; chunk++) {
    int64_t lo = chunk * grain;
    int32_t code = fn(env, lo, total - lo > grain ? lo + grain : total, 0);
    if (code != 0) return code;
  }
  return 0;
}

}  // namespace velax
