"""The caches on disk: programs by their jaxpr, kernels by their text.

A folder holds one file an entry, ``<kind>-<hash>``. The hash covers everything the content depends on: the
canonical text, the target's features, and Velax itself, by its version and the sizes and times of its files.
A file is a header (magic, length, checksum) and the payload; it is written beside its place and renamed into
it, so that readers see a whole entry or none. Machine code is loaded from here, so the folder must belong to
the user and be writable by nobody else.

An entry that fails its checksum is dropped and made anew; an I/O error never deletes anything: the cache
warns once and goes on without (one that cannot be written is still read). With the option
``jax_raise_persistent_cache_errors`` both raise instead. The folder is kept under a size (1 GiB) by removing
what was used least recently, of what Velax stored there.

The options ``jax_compilation_cache_dir``, ``jax_compilation_cache_max_size`` and
``jax_enable_compilation_cache`` say where the folder is, its size, and whether it is used; they are looked at
whenever something is compiled. Where they leave it open, ``VELAX_CACHE_DIR``, ``VELAX_CACHE_MAX_BYTES`` and
``VELAX_CACHE`` (0 switches the cache off) do.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import stat
import struct
import time
import warnings

from velax import _native
from velax._lang.config import config
from velax._lang.digest import blake2b

__all__ = ["VERSION", "Cache", "disk_cache", "forget_open_cache", "key_hash", "package_stamp"]

#: part of every key: the format of the entries
VERSION = "velax-1"

_HEADER = struct.Struct("<8sQ16s")
_MAGIC = b"VELAXC01"
_REFRESH_SECONDS = 3600.0  # an entry's time of use is written at most this often
_OWN_NAME = r"(program|kernel)-\w+|\.new-\d+-\d+-\d+"  # of an entry, and of one that is being written
_HOW_TO_GO_ON = (
    "set VELAX_CACHE_DIR or jax_compilation_cache_dir to a folder that is yours alone, or VELAX_CACHE=0 or "
    "jax_enable_compilation_cache=False to switch the cache off"
)


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
        path = self._path(kind, key)
        with contextlib.suppress(OSError):
            os.unlink(path)
        if config.jax_raise_persistent_cache_errors:
            raise RuntimeError(f"the entry {path} of the cache of compiled programs was damaged; it has been removed")

    def trim(self) -> None:
        """Remove least recently used entries until they are below 80% of the cap, if they are above it.

        The folder may be one in which others keep files: these neither count nor go.
        """
        entries = []
        try:
            with os.scandir(self.folder) as found:
                for entry in found:
                    if not re.fullmatch(_OWN_NAME, entry.name):
                        continue
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
                if _is_ours(path):
                    os.unlink(path)
                total -= size

    def _mark_used(self, path: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > _REFRESH_SECONDS:
                os.utime(path)

    def _complain(self, what: str, error: OSError) -> None:
        if config.jax_raise_persistent_cache_errors:
            raise error
        if what in self._failed:  # another thread said so
            return
        self._failed.add(what)
        warnings.warn(
            f"Velax could not {what} its cache folder {self.folder}: {error}. It goes on without; {_HOW_TO_GO_ON}.",
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


def _is_ours(path: str) -> bool:
    """Whether a file that is named like one of the cache's is one."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)).startswith(_MAGIC[:6]) or os.path.basename(path).startswith(".new-")


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


#: by the options that say which cache it is
_open: dict[tuple[str | None, int], Cache | None] = {}


def disk_cache() -> Cache | None:
    """The cache in force, or None where it is switched off or cannot be used (with a warning, once)."""
    if not config.jax_enable_compilation_cache:
        return None
    settings = config.jax_compilation_cache_dir or None, config.jax_compilation_cache_max_size
    found = _open.get(settings, ...)
    return _open.setdefault(settings, _open_cache(*settings)) if found is ... else found


def forget_open_cache() -> None:
    """Have the environment and the folder looked at again at the next use."""
    _open.clear()


def _default_max_bytes() -> int:
    text = os.environ.get("VELAX_CACHE_MAX_BYTES", "")
    try:
        return int(text) if text else 1 << 30
    except ValueError:
        raise ValueError(f"VELAX_CACHE_MAX_BYTES must be a number of bytes, such as 1073741824, not {text!r}") from None


def _default_folder() -> str | None:
    if os.environ.get("VELAX_CACHE", "1").lower() in ("0", "false", "off", "no"):
        return None
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "velax")
    return os.environ.get("VELAX_CACHE_DIR") or default


def _open_cache(folder: str | None, max_bytes: int) -> Cache | None:
    folder = folder or _default_folder()
    if folder is None or max_bytes == 0:
        return None
    if max_bytes < 0:
        max_bytes = _default_max_bytes()
    try:
        if "://" in folder:
            raise OSError(f"{folder} is no folder of this machine's file system")
        return Cache(folder, max_bytes)
    except OSError as e:
        if config.jax_raise_persistent_cache_errors:
            raise
        warnings.warn(
            f"Velax compiles without its cache on disk: {e}. It goes on without; {_HOW_TO_GO_ON}.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
