#include "interrupt.h"

#include <Python.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "gil.h"

namespace velax {

std::atomic<bool> poll_due{false};

namespace {

constexpr auto kTick = std::chrono::milliseconds(50);
constexpr int kIdleTicks = 20;  // ticks without work after which the watchdog sleeps until it is called

volatile int32_t interrupted = 0;
volatile int32_t never_interrupted = 0;
std::atomic<pthread_t> main_thread;
PyObject* getsignal_function;   // signal.getsignal
PyObject* default_int_handler;  // signal.default_int_handler
struct sigaction previous_action;

void on_interrupt(int number, siginfo_t* info, void* context) {
  interrupted = 1;
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(number);
  }
}

// Whether Ctrl-C would raise KeyboardInterrupt. Needs the GIL.
bool interrupt_raises() {
  PyObject* number = PyLong_FromLong(SIGINT);
  PyObject* handler = number == nullptr ? nullptr : PyObject_CallOneArg(getsignal_function, number);
  Py_XDECREF(number);
  bool raises = handler == default_int_handler;
  Py_XDECREF(handler);
  PyErr_Clear();  // a thread that only watches has nobody to tell
  return raises;
}

}  // namespace

struct Watch {
  std::atomic<int> active{0};
  std::atomic<uint64_t> begun{0};
  std::atomic<bool> asleep{false};
  std::atomic<bool> armed{false};
  bool stopping = false;
  std::mutex mutex;
  std::condition_variable cv;
  std::thread thread;

  void main() {
    uint64_t seen = 0;
    int idle = 0;
    std::unique_lock<std::mutex> lock(mutex);
    while (!stopping) {
      if (active.load() == 0 && ++idle > kIdleTicks) {
        asleep.store(true);
        cv.wait(lock, [this] { return stopping || active.load() > 0; });
        asleep.store(false);
        idle = 0;
        continue;
      }
      cv.wait_for(lock, kTick, [this] { return stopping; });
      if (active.load() == 0) continue;
      idle = 0;
      poll_due.store(true, std::memory_order_relaxed);
      uint64_t now = begun.load();
      // The same execution as a tick ago: it is a long one.
      if (now == seen && !armed.load()) {
        lock.unlock();
        arm();
        lock.lock();
      }
      seen = now;
    }
  }

  void arm() {
    bool raises = false;
    with_gil([&raises] { raises = interrupt_raises(); });
    if (!raises) return;
    std::lock_guard<std::mutex> lock(mutex);
    if (sigaction(SIGINT, nullptr, &previous_action) != 0) return;
    struct sigaction ours = {};
    ours.sa_sigaction = on_interrupt;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous_action.sa_flags & SA_RESTART);
    ours.sa_mask = previous_action.sa_mask;
    if (sigaction(SIGINT, &ours, nullptr) != 0) return;
    armed.store(true);
    // The execution may have ended meanwhile. Its end looks at `armed` after leaving `active`, so one of the two sees
    // it.
    if (active.load() == 0) disarm();
  }

  // With the mutex.
  void disarm() {
    if (!armed.load()) return;
    struct sigaction current;
    // Whoever installed another handler since has replaced ours for good.
    if (sigaction(SIGINT, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) != 0 &&
        current.sa_sigaction == on_interrupt) {
      sigaction(SIGINT, &previous_action, nullptr);
    }
    armed.store(false);
    interrupted = 0;
  }
};

namespace {

std::atomic<Watch*> the_watch{nullptr};  // leaked by a forked child, which has no such thread
std::atomic<bool> watchdog_shut_down{false};

void forget_watch_in_child() {
  Watch* parents = the_watch.exchange(nullptr);
  if (parents != nullptr && parents->armed.load()) sigaction(SIGINT, &previous_action, nullptr);
  main_thread.store(pthread_self());
  interrupted = 0;
}

}  // namespace

volatile int32_t* interrupt_word(bool watched) { return watched ? &interrupted : &never_interrupted; }

Watch* begin_watch() {
  if (!pthread_equal(pthread_self(), main_thread.load(std::memory_order_relaxed)) || watchdog_shut_down) return nullptr;
  Watch* watch = the_watch.load(std::memory_order_acquire);
  if (watch == nullptr) {
    watch = new Watch;
    try {
      watch->thread = std::thread([watch] { watch->main(); });
    } catch (const std::system_error&) {
      delete watch;  // no thread to be had: this execution is not interruptible
      return nullptr;
    }
    the_watch.store(watch, std::memory_order_release);
  }
  watch->begun.fetch_add(1, std::memory_order_relaxed);
  watch->active.fetch_add(1);
  if (watch->asleep.load()) {
    std::lock_guard<std::mutex> lock(watch->mutex);
    watch->cv.notify_one();
  }
  return watch;
}

void end_watch(Watch* watch) {
  if (watch == nullptr || watch != the_watch.load(std::memory_order_acquire)) return;
  bool last = watch->active.fetch_sub(1) == 1;
  if (last && watch->armed.load()) {
    std::lock_guard<std::mutex> lock(watch->mutex);
    if (watch->active.load() == 0) watch->disarm();
  }
}

bool handle_signals() {
  poll_due.store(false, std::memory_order_relaxed);
  interrupted = 0;
  return PyErr_CheckSignals() == 0;
}

void raise_interrupt() {
  if (PyErr_Occurred() != nullptr) return;
  if (handle_signals()) PyErr_SetNone(PyExc_KeyboardInterrupt);
}

bool init_interrupts() {
  PyObject* threading = PyImport_ImportModule("threading");
  PyObject* thread = threading == nullptr ? nullptr : PyObject_CallMethod(threading, "main_thread", nullptr);
  PyObject* ident = thread == nullptr ? nullptr : PyObject_GetAttrString(thread, "ident");
  PyObject* signals = ident == nullptr ? nullptr : PyImport_ImportModule("signal");
  if (signals != nullptr) {
    main_thread.store(static_cast<pthread_t>(PyLong_AsUnsignedLong(ident)));
    getsignal_function = PyObject_GetAttrString(signals, "getsignal");
    default_int_handler = PyObject_GetAttrString(signals, "default_int_handler");
  }
  Py_XDECREF(threading);
  Py_XDECREF(thread);
  Py_XDECREF(ident);
  Py_XDECREF(signals);
  if (PyErr_Occurred() != nullptr) return false;
  pthread_atfork(nullptr, nullptr, forget_watch_in_child);
  return true;
}

void shut_down_watchdog() {
  watchdog_shut_down = true;
  Watch* watch = the_watch.load();
  if (watch == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(watch->mutex);
    watch->stopping = true;
    watch->cv.notify_one();
  }
  watch->thread.join();
}

}  // namespace velax
