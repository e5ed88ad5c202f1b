// Ctrl-C and other signals while the main thread is inside the executor without the GIL.
//
// Python handles signals on the main thread, between bytecodes: never while that thread runs a program. So a watchdog
// thread ticks while such a program runs. At each tick it raises `poll_due`, upon which the main thread, at its next
// step between launches, chunks and iterations, takes the GIL and lets Python handle what has arrived. A kernel that
// runs longer than a tick cannot be left and entered again, so it is only stopped for a signal that is known to
// raise: the watchdog, seeing Python's own KeyboardInterrupt handler in place, puts a C handler before it that also
// sets `interrupt_word()`.
#pragma once
#include <atomic>
#include <cstdint>

namespace velax {

struct Watch;  // what one watched execution is registered with

extern std::atomic<bool> poll_due;  // meaningful to watched executions only

// The word that kernels of this thread look at: never set unless the execution is watched.
volatile int32_t* interrupt_word(bool watched);

// Registers an execution that is about to release the GIL; nullptr (and nothing to end) off the main thread.
Watch* begin_watch();
void end_watch(Watch* watch);
// With the GIL, on the main thread, inside a watched execution: lets Python handle signals. False with the handler's
// exception set.
bool handle_signals();
// The same after a kernel stopped because of the interrupt word; always leaves an exception set.
void raise_interrupt();

// With the GIL: remembers which thread is the main one, and Python's default handler. False with a Python exception
// set.
bool init_interrupts();
// Joins the watchdog: for interpreter exit. Needs no GIL and must not hold it.
void shut_down_watchdog();

}  // namespace velax
