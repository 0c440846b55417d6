"""Who coordinates a run: reigns are numbered, and the file of a number can be made only once.

A coordinator owns the highest epoch. It renews its file while it lives; when it stops, dies on this host or
falls silent, the next one makes the next number. Whoever finds a number above its own has been superseded and
must not commit any more. Ages are differences of two times of the same file system, so clocks need not agree.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ...errors import LockedError, SupersededError

#: A coordinator renews its file this often, and counts as gone after so long a silence [s].
RENEWAL, SILENCE = 5.0, 60.0


def this_process() -> dict[str, Any]:
    """What tells this process from every other one: host, boot, process id and when it started."""
    return {
        "host": socket.gethostname(),
        "boot": psutil.boot_time(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "user": os.environ.get("USER", str(os.getuid())),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


@dataclass
class Reign:
    """One process' claim, in a file that it renews until it is released.

    Attributes
    ----------
    path : Path
    epoch : int
    """

    path: Path
    epoch: int
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
            self.path.write_text(json.dumps(owner))
        except (OSError, ValueError):  # a full disk: the process ends anyway, which is seen
            pass


def check_reign(folder: Path, epoch: int) -> None:
    """Refuse to go on when an epoch after this one has begun: one look at the file system.

    Raises
    ------
    SupersededError
        If another process has taken over.
    """
    if (folder / _name(epoch + 1)).exists():
        raise SupersededError(
            f"another coordinator has taken over the run in {folder.parent}: this one stops; "
            "`fmbdask survey status` shows how it goes on"
        )


def current_epoch(folder: Path) -> int:
    """Number of the last epoch that began, 0 before the first."""
    return max((int(p.stem) for p in folder.glob("[0-9]*.json")), default=0)


def acquire(folder: Path, *, silence: float = SILENCE) -> Reign:
    """Begin the next epoch.

    Parameters
    ----------
    folder : Path
        ``epochs/`` of the run.
    silence : float
        After how long a silence another host's coordinator counts as gone [s].

    Raises
    ------
    LockedError
        If another coordinator, or a part of a job array, is at work; says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("part-*.json")):
        _refuse_if_alive(path, silence, "a part of a job array")
    epoch = current_epoch(folder)
    if epoch:
        _refuse_if_alive(folder / _name(epoch), silence, "another coordinator")
    return _claim(folder / _name(epoch + 1), epoch + 1)


def acquire_part(folder: Path, part: int, parts: int, *, silence: float = SILENCE) -> Reign:
    """Claim one part of a run that a job array works on, without a coordinator.

    Raises
    ------
    LockedError
        If a coordinator or another process with the same part is at work; says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    epoch = current_epoch(folder)
    if epoch:
        _refuse_if_alive(folder / _name(epoch), silence, "a coordinator")
    path = folder / f"part-{part:05d}-of-{parts:05d}.json"
    _refuse_if_alive(path, silence, f"part {part}/{parts}")
    path.unlink(missing_ok=True)
    return _claim(path, epoch)


def owner_of(folder: Path, *, silence: float = SILENCE) -> dict[str, Any] | None:
    """The coordinator at work, as :func:`this_process` describes it; None when there is none."""
    epoch = current_epoch(folder)
    path = folder / _name(epoch)
    return _read(path) if epoch and _alive(path, silence) else None


def _name(epoch: int) -> str:
    return f"{epoch:05d}.json"


def _claim(path: Path, epoch: int) -> Reign:
    """Make the file, which only one process can do, with its content already in it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_text(json.dumps(this_process()))
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise LockedError(f"{_words(path, 'another coordinator')}: wait for it, or stop it first") from None
    finally:
        temporary.unlink(missing_ok=True)
    reign = Reign(path, epoch)
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
    here = this_process()
    if (owner.get("host"), owner.get("boot")) == (here["host"], here["boot"]):
        try:
            if psutil.Process(int(owner["pid"])).create_time() != owner["started"]:
                return False
        except (psutil.Error, KeyError, ValueError):
            return False
    return _age(path) < silence


def _age(path: Path) -> float:
    """Age of a file in the time of its own file system [s]."""
    probe = path.with_name(f".now-{os.getpid()}-{threading.get_ident()}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return float("inf") if not path.exists() else 0.0
    finally:
        probe.unlink(missing_ok=True)
