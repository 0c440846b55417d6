"""Who coordinates a run: reigns are numbered, and the file of a number can be made only once.

A coordinator owns the highest epoch. It renews its file while it lives; when it stops, dies on this host or
falls silent, the next one makes the next number. Whoever finds a number above its own has been superseded and
must not commit any more. Ages are differences of two times of the same file system, so clocks need not agree.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ...atomic import temporary_name
from ...errors import LockedError, RunError, SupersededError

#: A coordinator renews its file this often, and counts as gone after so long a silence [s].
RENEWAL, SILENCE = 5.0, 60.0


def this_process() -> dict[str, Any]:
    """What tells this process from every other one: where its id counts, the id, and when it started."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "user": os.environ.get("USER", str(os.getuid())),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def _boot() -> str:
    """Identity of the running system and of the space of its process ids: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return str(round(psutil.boot_time(), -1))


def _started(pid: int) -> float:
    """When a process started, 0 if there is none; a clock that was set does not change it on Linux."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0.0 if fields[0] in (b"Z", b"X") else float(fields[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0.0
    except OSError:  # it ended while it was looked at
        return 0.0
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


@dataclass
class Reign:
    """One process' claim, in a file that it renews until it is released.

    Attributes
    ----------
    path : Path
    epoch : int
        Its number; for a part of a job array that of the last coordinator.
    claim : int
        How often the part was claimed, this time included; the epoch for a coordinator.
    """

    path: Path
    epoch: int
    claim: int
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self) -> None:
        """Renew the file from a thread of its own."""
        threading.Thread(target=self._renew, name="reign", daemon=True).start()

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            try:
                os.utime(self.path)
            except OSError:  # the check before the next commit will tell
                continue

    def check(self) -> None:
        """Refuse to go on under a newer coordinator; to be called before each commit.

        Raises
        ------
        SupersededError
            If another process has taken over.
        """
        check_reign(self.path.parent, self.epoch)

    def release(self) -> None:
        """Say that this reign is over."""
        self._stop.set()
        try:
            owner = json.loads(self.path.read_text()) | {"released": True}
            temporary = temporary_name(self.path)
            temporary.write_text(json.dumps(owner))
            temporary.replace(self.path)
        except (OSError, ValueError):  # a full disk: as silent as if it had ended long ago
            with suppress(OSError):
                os.utime(self.path, (0, 0))


def check_reign(folder: Path, epoch: int) -> None:
    """Refuse to go on when an epoch after this one has begun: one look at the file system.

    Raises
    ------
    SupersededError
        If another process has taken over.
    """
    # network file systems ask the server again about a folder that is opened, and not about a missing name
    os.close(os.open(folder, os.O_RDONLY))
    if (folder / _name(epoch + 1)).exists():
        raise SupersededError(
            f"another coordinator has taken over the run in {folder.parent}: this one stops; "
            "`fmbdask survey status` shows how it goes on"
        )


def current_epoch(folder: Path) -> int:
    """Number of the last epoch that began, 0 before the first."""
    return _last(folder, "")


def acquire(folder: Path, *, silence: float = SILENCE) -> Reign:
    """Begin the next epoch.

    Parameters
    ----------
    folder : Path
        ``epochs/`` of the run.
    silence : float
        After how long a silence another host's coordinator, or one that stands still, counts as gone [s].

    Raises
    ------
    LockedError
        If another coordinator, or a part of a job array, is at work; says who.
    RunError
        If the folder cannot be written.
    """
    with _writing(folder):
        _refuse_parts(folder, silence)
        epoch = current_epoch(folder)
        if epoch:
            _refuse_if_alive(folder / _name(epoch), silence, "another coordinator")
        # a part that is claimed at this moment is superseded by the new epoch: it stops at its next unit
        return _claim(folder / _name(epoch + 1), epoch + 1, epoch + 1)


def acquire_part(folder: Path, part: int, parts: int, *, silence: float = SILENCE) -> Reign:
    """Claim one part of a run that a job array works on, without a coordinator.

    Raises
    ------
    LockedError
        If a coordinator or another process with the same part is at work; says who.
    RunError
        If the folder cannot be written.
    """
    prefix = f"part-{part:05d}-of-{parts:05d}."
    with _writing(folder):
        epoch = current_epoch(folder)
        if epoch:
            _refuse_if_alive(folder / _name(epoch), silence, "a coordinator")
        claim = _last(folder, prefix)
        if claim:
            _refuse_if_alive(folder / (prefix + _name(claim)), silence, f"part {part}/{parts}")
        reign = _claim(folder / (prefix + _name(claim + 1)), epoch, claim + 1)
        if current_epoch(folder) != epoch:
            reign.release()
            raise LockedError(f"{_words(folder / _name(epoch + 1), 'a coordinator')}: wait for it")
    return reign


def _refuse_parts(folder: Path, silence: float) -> None:
    for prefix in sorted({path.name.split(".")[0] + "." for path in folder.glob("part-*.json")}):
        path = folder / (prefix + _name(_last(folder, prefix)))
        _refuse_if_alive(path, silence, "a part of a job array")


def owner_of(folder: Path, *, silence: float = SILENCE) -> dict[str, Any] | None:
    """The coordinator at work, as :func:`this_process` describes it; None when there is none."""
    epoch = current_epoch(folder)
    path = folder / _name(epoch)
    return _read(path) if epoch and _alive(path, silence) else None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one sentence what a folder lacks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error.strerror}): choose a folder that you may write to, with room"
        ) from None


def _name(number: int) -> str:
    return f"{number:05d}.json"


def _last(folder: Path, prefix: str) -> int:
    """Highest number of the files of this prefix, 0 if there is none."""
    stems = [path.name[len(prefix) : -len(".json")] for path in folder.glob(f"{prefix}[0-9]*.json")]
    return max((int(stem) for stem in stems if stem.isdecimal()), default=0)


def _claim(path: Path, epoch: int, claim: int) -> Reign:
    """Make the file, which only one process can do, with its content already in it."""
    temporary = temporary_name(path)
    content = json.dumps(this_process())
    try:
        temporary.write_text(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if temporary.stat().st_nlink != 2:  # 2: it was made, and the answer of the server was lost
                raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            with path.open("x") as file:  # no links here: it is empty for a moment, which counts as alive
                file.write(content)
    except FileExistsError:
        raise LockedError(f"{_words(path, 'another process')}: wait for it, or stop it first") from None
    finally:
        temporary.unlink(missing_ok=True)
    reign = Reign(path, epoch, claim)
    reign.start()
    return reign


def _refuse_if_alive(path: Path, silence: float, what: str) -> None:
    if _alive(path, silence):
        raise LockedError(
            f"{_words(path, what)}: wait for it, or stop it with `fmbdask survey stop {path.parents[1]}`"
        )


def _words(path: Path, what: str) -> str:
    owner = _read(path) or {}
    job = f", Slurm job {owner['job']}" if owner.get("job") else ""
    return (
        f"{what} works on {path.parents[1]} (process {owner.get('pid', '?')} of {owner.get('user', '?')} "
        f"on {owner.get('host', '?')}{job})"
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _alive(path: Path, silence: float) -> bool:
    """Whether the owner of a claim is at work: not released, not dead on this host, not silent for long."""
    owner = _read(path)
    if owner is None:  # unreadable: as old as it is silent
        return path.exists() and _age(path) < silence
    if owner.get("released"):
        return False
    if (owner.get("host"), owner.get("boot")) == (socket.gethostname(), _boot()):
        try:
            started = _started(int(owner["pid"]))
        except (KeyError, TypeError, ValueError):
            return False
        if not started or started != owner.get("started"):
            return False
    return _age(path) < silence


def _age(path: Path) -> float:
    """Age of a file in the time of its own file system [s]."""
    probe = temporary_name(path)
    try:
        written = path.stat().st_mtime
    except OSError:
        return float("inf")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - written
    except OSError:  # who may not write has only a clock of his own
        return time.time() - written
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
