"""The tables of a ledger, and how its file is opened."""

from __future__ import annotations

import errno
import fcntl
import sqlite3
from contextlib import suppress
from pathlib import Path

import xxhash

from .folder import write_durably

#: Version of the tables: a ledger of another one is built again.
VERSION = 3
_RESULT = """(
  stage INTEGER, item INTEGER, region INTEGER, generation INTEGER, file INTEGER, offset INTEGER,
  length INTEGER, checksum BLOB, seconds REAL, read REAL, write REAL, cpu REAL, nbytes INTEGER,
  peak INTEGER, time REAL, worker INTEGER, extra TEXT, PRIMARY KEY (stage, item, region"""
TABLES = f"""
CREATE TABLE IF NOT EXISTS journal (path TEXT PRIMARY KEY, bytes INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (id INTEGER PRIMARY KEY, path TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS worker (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS anew (
  item INTEGER, stage INTEGER, generation INTEGER, PRIMARY KEY (item, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retry (item INTEGER PRIMARY KEY, epoch INTEGER);
CREATE TABLE IF NOT EXISTS started (
  stage INTEGER, item INTEGER, region INTEGER, times INTEGER, PRIMARY KEY (stage, item, region)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended {_RESULT})) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spare {_RESULT}, file, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failed (
  stage INTEGER, item INTEGER, region INTEGER, generation INTEGER, epoch INTEGER, time REAL, worker TEXT,
  seconds REAL, cause TEXT, final INTEGER, counted INTEGER, note TEXT, log TEXT
);
CREATE INDEX IF NOT EXISTS failed_unit ON failed (item, stage, region);
CREATE TABLE IF NOT EXISTS void (
  stage INTEGER, item INTEGER, region INTEGER, file INTEGER, offset INTEGER,
  PRIMARY KEY (stage, item, region, file, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (epoch INTEGER, time REAL, note TEXT, extra TEXT);
PRAGMA user_version = {VERSION};
"""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file of a ledger, for the one writer or to look; it is an index, so no disk is waited for.

    Without locks (Lustre and NFS may be mounted so) one writer is enough: who that is, is known from the
    reign; a look at the wrong moment finds a damaged file, which is then built again in memory.
    """
    options = ["mode=ro"] * read_only + ["nolock=1"] * (not _has_locks(path.with_name("run.json")))
    address = f"{path.absolute().as_uri()}?{'&'.join(options)}"
    connection = sqlite3.connect(address, uri=True, timeout=2 if read_only else 5)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def seal(path: Path) -> None:
    """Keep the checksum of a ledger that is closed: bytes that change on the disk are found at its opening.

    A disk without room leaves it without a seal, as a killed process does.
    """
    with suppress(OSError):
        write_durably(_seal(path), _checksum(path).encode())


def sealed(path: Path) -> bool | None:
    """Whether a ledger is what it was when it was closed; None if it was never closed since."""
    try:
        return _seal(path).read_bytes().decode(errors="replace") == _checksum(path)
    except FileNotFoundError:
        return None
    except OSError:
        return False


def break_seal(path: Path) -> None:
    """Say that a ledger is about to be changed."""
    _seal(path).unlink(missing_ok=True)


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")


def _checksum(path: Path) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _has_locks(path: Path) -> bool:
    """Whether the file system knows locks; a file beside the ledger tells, as SQLite locks the ledger."""
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
    return True
