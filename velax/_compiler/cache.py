"""The caches on disk: programs by their jaxpr, kernels by their text.

A folder holds one file an entry, ``<kind>-<hash>``. The hash covers everything the content depends on: the
canonical text, the target's features, and Velax itself, by its version and the sizes and times of its files.
A file is a header (magic, length, checksum) and the payload; it is written beside its place and renamed into
it, so that readers see a whole entry or none. Machine code is loaded from here, so the folder must belong to
the user and be writable by nobody else.

An entry that fails its checksum is dropped and made anew; an I/O error never deletes anything: the cache
warns once and goes on without (one that cannot be written is still read). The folder is kept under
``VELAX_CACHE_MAX_BYTES`` (1 GiB) by removing what was used least recently. ``VELAX_CACHE_DIR`` says where it
is, ``VELAX_CACHE=0`` switches it off.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import stat
import struct
import time
import warnings

from velax import _native
from velax._lang.digest import blake2b

__all__ = ["VERSION", "Cache", "disk_cache", "forget_open_cache", "key_hash", "package_stamp"]

#: part of every key: the format of the entries
VERSION = "velax-1"

_HEADER = struct.Struct("<8sQ16s")
_MAGIC = b"VELAXC01"
_REFRESH_SECONDS = 3600.0  # an entry's time of use is written at most this often


#: what decides on the code made for a key; the rest of the package makes the jaxprs that keys hold
_STAMPED = ("_backends", "_compiler", "_ir", "_lang", "_transforms", "lax", "random")


@functools.cache
def package_stamp(folder: str = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) -> str:
    """A hash of the paths, sizes and times of the package's files: an edit of the compiler makes all older
    entries unknown.

    A tenth of the time that reading the files takes. Empty for a package that does not lie in a folder.
    """
    try:
        stamps = _native.file_stamps(folder, _STAMPED)
    except OSError:
        return ""
    return blake2b(stamps, digest_size=16).hexdigest()


def key_hash(*parts: str | bytes) -> str:
    """The hash of a key's parts, unambiguous in their boundaries, and of `VERSION` and `package_stamp`."""
    digest = blake2b(digest_size=20)
    for part in (VERSION, package_stamp(), *parts):
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


class Cache:
    """A folder of entries.

    Args:
      folder: made if it does not exist, readable by the user alone.
      max_bytes: kept under this by removing the least recently used entries.

    Raises:
      PermissionError: if the folder belongs to another user, or others may write into it.
    """

    def __init__(self, folder: str | os.PathLike, max_bytes: int):
        folder = os.fspath(folder)
        self.folder, self.max_bytes = folder, max_bytes
        self._failed: set[str] = set()  # "read", "write": what is not tried again
        self._stored_since_trim = max_bytes  # the first store looks at the whole folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        info = os.stat(folder)
        if info.st_uid != os.geteuid():
            raise PermissionError(f"the cache folder {folder} belongs to another user (uid {info.st_uid})")
        if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(
                f"the cache folder {folder} is writable by others (mode {stat.S_IMODE(info.st_mode):o}); run chmod "
                "700 on it"
            )

    def _path(self, kind: str, key: str) -> str:
        return f"{self.folder}/{kind}-{key}"

    def load(self, kind: str, key: str) -> bytes | None:
        """The payload of an entry, or None if there is none that is whole."""
        if "read" in self._failed:
            return None
        path = self._path(kind, key)
        try:
            data = _read(path)
        except FileNotFoundError:
            return None
        except OSError as e:
            self._complain("read", e)
            return None
        payload = data[_HEADER.size :]
        if len(data) >= _HEADER.size:
            magic, length, checksum = _HEADER.unpack_from(data)
            if magic == _MAGIC and length == len(payload) and checksum == _checksum(payload):
                self._mark_used(path)
                return payload
        self.drop(kind, key)
        return None

    def store(self, kind: str, key: str, payload: bytes) -> None:
        """Publish an entry; a failure to is no error of the program."""
        if "write" in self._failed:
            return
        path = self._path(kind, key)
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)  # somebody may have emptied his caches
            handle, temporary = _new_file(self.folder)
            try:
                with os.fdopen(handle, "wb") as f:
                    f.write(_HEADER.pack(_MAGIC, len(payload), _checksum(payload)))
                    f.write(payload)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as e:
            self._complain("write", e)
            return
        self._stored_since_trim += len(payload)
        if self._stored_since_trim > self.max_bytes // 8:
            self._stored_since_trim = 0
            self.trim()

    def drop(self, kind: str, key: str) -> None:
        """Remove an entry that turned out not to be what it should."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(kind, key))

    def trim(self) -> None:
        """Remove least recently used entries until the folder is below 80% of the cap, if it is above it."""
        entries = []
        try:
            with os.scandir(self.folder) as found:
                for entry in found:
                    with contextlib.suppress(FileNotFoundError):  # another process is trimming too
                        info = entry.stat()
                        entries.append((info.st_mtime, info.st_size, entry.path))
        except OSError as e:
            self._complain("read", e)
            return
        total = sum(size for _, size, _ in entries)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(entries):
            if total <= self.max_bytes * 0.8:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size

    def _mark_used(self, path: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > _REFRESH_SECONDS:
                os.utime(path)

    def _complain(self, what: str, error: OSError) -> None:
        if what in self._failed:  # another thread said so
            return
        self._failed.add(what)
        warnings.warn(
            f"Velax could not {what} its cache folder {self.folder}: {error}. It goes on without; set "
            "VELAX_CACHE_DIR to a folder you can "
            "read and write, or VELAX_CACHE=0 to switch the cache off.",
            RuntimeWarning,
            stacklevel=3,
        )


_numbers = itertools.count()


def _new_file(folder: str) -> tuple[int, str]:
    """An open file for the user alone under a name that no other has, and its path."""
    path = f"{folder}/.new-{os.getpid()}-{next(_numbers)}-{time.monotonic_ns()}"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


_open: dict[str, Cache | None] = {}


def disk_cache() -> Cache | None:
    """The cache of this process, or None where it is switched off or cannot be used (with a warning, once)."""
    if "cache" not in _open:
        _open["cache"] = _open_cache()
    return _open["cache"]


def forget_open_cache() -> None:
    """Have the environment looked at again at the next use."""
    _open.clear()


def _max_bytes() -> int:
    text = os.environ.get("VELAX_CACHE_MAX_BYTES", "")
    try:
        return int(text) if text else 1 << 30
    except ValueError:
        raise ValueError(f"VELAX_CACHE_MAX_BYTES must be a number of bytes, such as 1073741824, not {text!r}") from None


def _open_cache() -> Cache | None:
    if os.environ.get("VELAX_CACHE", "1").lower() in ("0", "false", "off", "no"):
        return None
    folder = os.environ.get("VELAX_CACHE_DIR")
    if not folder:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "velax")
    try:
        return Cache(folder, _max_bytes())
    except OSError as e:
        warnings.warn(
            f"Velax compiles without its cache on disk: {e}. Set VELAX_CACHE_DIR to a folder that is yours alone, "
            "or VELAX_CACHE=0 to switch the cache off.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
