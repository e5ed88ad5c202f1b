"""Events that libraries report, and the listeners that hear of them.

Whoever wants to know registers a listener; whoever has something to tell records an event, by a name like a path
(``"/my_library/checkpoint_saved"``) with numbers or strings as further keywords.

Example:
  >>> from velax import monitoring
  >>> heard = []
  >>> def listener(event, **about):
  ...   heard.append((event, about))
  >>> monitoring.register_event_listener(listener)
  >>> monitoring.record_event("/my_library/started", attempt=2)
  >>> monitoring.unregister_event_listener(listener)
  >>> heard
  [('/my_library/started', {'attempt': 2})]
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "clear_event_listeners", "record_event", "record_event_duration_secs", "record_event_time_span", "record_scalar",
    "register_event_duration_secs_listener", "register_event_listener", "register_event_time_span_listener",
    "register_scalar_listener", "unregister_event_duration_listener", "unregister_event_listener",
    "unregister_event_time_span_listener", "unregister_scalar_listener",
]  # fmt: skip

_events: list[Callable[..., None]] = []
_durations: list[Callable[..., None]] = []
_time_spans: list[Callable[..., None]] = []
_scalars: list[Callable[..., None]] = []


def _tell(listeners, *args, **kwargs) -> None:
    for listener in tuple(listeners):  # a listener may unregister itself
        listener(*args, **kwargs)


def _remove(listeners, callback, kind: str) -> None:
    if callback not in listeners:
        raise ValueError(f"{callback!r} is not a registered listener of {kind}")
    listeners.remove(callback)


def record_event(event: str, **kwargs: str | int) -> None:
    """Tell listeners of `register_event_listener` that something happened: ``listener(event, **kwargs)``."""
    _tell(_events, event, **kwargs)


def record_event_duration_secs(event: str, duration: float, **kwargs: str | int) -> None:
    """Tell how many seconds something took: ``listener(event, duration, **kwargs)``."""
    _tell(_durations, event, duration, **kwargs)


def record_event_time_span(event: str, start_time: float, end_time: float, **kwargs: str | int) -> None:
    """Tell when something began and ended: ``listener(event, start_time, end_time, **kwargs)``."""
    _tell(_time_spans, event, start_time, end_time, **kwargs)


def record_scalar(event: str, value: float | int, **kwargs: str | int) -> None:
    """Tell a number: ``listener(event, value, **kwargs)``."""
    _tell(_scalars, event, value, **kwargs)


def register_event_listener(callback: Callable[..., None]) -> None:
    """Call ``callback(event, **kwargs)`` at each `record_event`."""
    _events.append(callback)


def register_event_duration_secs_listener(callback: Callable[..., None]) -> None:
    """Call ``callback(event, duration, **kwargs)`` at each `record_event_duration_secs`."""
    _durations.append(callback)


def register_event_time_span_listener(callback: Callable[..., None]) -> None:
    """Call ``callback(event, start_time, end_time, **kwargs)`` at each `record_event_time_span`."""
    _time_spans.append(callback)


def register_scalar_listener(callback: Callable[..., None]) -> None:
    """Call ``callback(event, value, **kwargs)`` at each `record_scalar`."""
    _scalars.append(callback)


def unregister_event_listener(callback: Callable[..., None]) -> None:
    """Undo `register_event_listener`; ValueError if it is not registered."""
    _remove(_events, callback, "events")


def unregister_event_duration_listener(callback: Callable[..., None]) -> None:
    """Undo `register_event_duration_secs_listener`; ValueError if it is not registered."""
    _remove(_durations, callback, "durations")


def unregister_event_time_span_listener(callback: Callable[..., None]) -> None:
    """Undo `register_event_time_span_listener`; ValueError if it is not registered."""
    _remove(_time_spans, callback, "time spans")


def unregister_scalar_listener(callback: Callable[..., None]) -> None:
    """Undo `register_scalar_listener`; ValueError if it is not registered."""
    _remove(_scalars, callback, "scalars")


def clear_event_listeners() -> None:
    """Unregister all listeners of every kind."""
    for listeners in (_events, _durations, _time_spans, _scalars):
        listeners.clear()
