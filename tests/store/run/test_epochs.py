"""Who reigns: exactly one of many, whoever died, froze, was released or lives elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmbdask.errors import LockedError, RunError, SupersededError
from fmbdask.store.run import epochs
from fmbdask.store.run.epochs import acquire, acquire_part, check_reign, current_epoch, owner_of

#: Says whether it reigns, then waits for the end of its input.
CLAIM = """
import sys
from pathlib import Path
from fmbdask.errors import LockedError
from fmbdask.store.run import epochs
epochs.RENEWAL = 0.05
print("ready", flush=True)
sys.stdin.readline()
try:
    epochs.acquire(Path(sys.argv[1]), silence=float(sys.argv[2]))
except LockedError as error:
    print("refused:", error, flush=True)
else:
    print("reigns", flush=True)
    sys.stdin.read()
"""


class Claimant:
    """Another process that claims the run when it is told to."""

    def __init__(self, folder: Path, silence: float = 60.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(folder), str(silence)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()


@pytest.fixture
def claimants() -> Iterator[Any]:
    made: list[Claimant] = []

    def make(folder: Path, **options: Any) -> Claimant:
        made.append(Claimant(folder, **options))
        assert made[-1].read() == "ready"
        return made[-1]

    yield make
    for claimant in made:
        if claimant.process.poll() is None:
            claimant.end()
        for stream in (claimant.process.stdin, claimant.process.stdout):
            assert stream is not None
            stream.close()


def test_of_many_that_try_at_once_one_reigns(tmp_path: Path, claimants: Any) -> None:
    folder = tmp_path / "run" / "epochs"
    crowd = [claimants(folder) for _ in range(6)]
    for claimant in crowd:
        claimant.go()
    said = [claimant.read() for claimant in crowd]
    assert said.count("reigns") == 1
    winner = crowd[said.index("reigns")].process.pid
    # one that came too late for the file of this epoch cannot tell yet who made it first
    assert all(s == "reigns" or f"process {winner} of" in s for s in said)
    assert current_epoch(folder) == 1
    assert (owner_of(folder) or {})["pid"] == winner
    assert not [p for p in folder.iterdir() if p.name.endswith(".partial")]


def test_a_dead_owner_is_replaced_at_once(tmp_path: Path, claimants: Any) -> None:
    first = claimants(tmp_path)
    first.go()
    assert first.read() == "reigns"
    with pytest.raises(LockedError, match=f"process {first.process.pid} of .* on .*fmbdask survey stop"):
        acquire(tmp_path)
    first.process.kill()  # not waited for: a zombie still has its id
    deadline = time.monotonic() + 30
    while Path(f"/proc/{first.process.pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
    assert owner_of(tmp_path) is None
    reign = acquire(tmp_path)
    assert (reign.epoch, reign.claim) == (2, 2)
    reign.release()


def test_a_frozen_owner_is_replaced_after_its_silence_and_stops_when_it_thaws(
    tmp_path: Path, claimants: Any
) -> None:
    frozen = claimants(tmp_path)
    frozen.go()
    assert frozen.read() == "reigns"
    frozen.process.send_signal(signal.SIGSTOP)
    with pytest.raises(LockedError):
        acquire(tmp_path)
    claim = tmp_path / "00001.json"
    past = time.time() - 100  # silent for so long
    os.utime(claim, (past, past))
    reign = acquire(tmp_path)
    assert reign.epoch == 2
    frozen.process.send_signal(signal.SIGCONT)
    check_reign(tmp_path, 2)
    with pytest.raises(SupersededError, match="taken over"):
        check_reign(tmp_path, 1)
    reign.release()


def test_a_living_owner_renews_its_claim(tmp_path: Path, claimants: Any) -> None:
    owner = claimants(tmp_path)
    owner.go()
    assert owner.read() == "reigns"
    claim = tmp_path / "00001.json"
    os.utime(claim, (1, 1))
    deadline = time.monotonic() + 30
    while claim.stat().st_mtime < 2:
        assert time.monotonic() < deadline
    with pytest.raises(LockedError):
        acquire(tmp_path)


def test_a_released_reign_is_over(tmp_path: Path) -> None:
    first = acquire(tmp_path)
    first.check()
    first.release()
    assert owner_of(tmp_path) is None
    second = acquire(tmp_path)
    assert second.epoch == 2
    with pytest.raises(SupersededError):
        first.check()
    second.release()


def claim_of(folder: Path, number: int = 1, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:05d}.json"
    path.write_text(json.dumps(epochs.this_process() | changed))
    return path


def test_the_id_of_a_dead_owner_may_be_given_to_another_process(tmp_path: Path) -> None:
    claim_of(tmp_path, started=epochs.this_process()["started"] - 5)
    assert owner_of(tmp_path) is None
    acquire(tmp_path).release()


def test_ids_of_another_host_or_container_say_nothing(tmp_path: Path) -> None:
    for changed in ({"host": "elsewhere"}, {"boot": "another"}):
        path = claim_of(tmp_path, pid=2**22 + 1, **changed)
        with pytest.raises(LockedError):
            acquire(tmp_path)
        os.utime(path, (1, 1))
        acquire(tmp_path).release()
        for left in tmp_path.iterdir():
            left.unlink()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 5}', "\0" * 50])
def test_a_damaged_claim_counts_until_it_is_silent(tmp_path: Path, content: str) -> None:
    path = claim_of(tmp_path)
    path.write_text(content)
    (tmp_path / "00x.json").write_text("")
    with pytest.raises(LockedError):
        acquire(tmp_path)
    os.utime(path, (1, 1))
    acquire(tmp_path).release()


def test_parts_of_a_job_array(tmp_path: Path) -> None:
    one, two = acquire_part(tmp_path, 1, 2), acquire_part(tmp_path, 2, 2)
    with pytest.raises(LockedError, match="part 1/2 works on"):
        acquire_part(tmp_path, 1, 2)
    with pytest.raises(LockedError, match="a part of a job array works on"):
        acquire(tmp_path)
    one.release()
    again = acquire_part(tmp_path, 1, 2)
    assert (again.epoch, again.claim) == (0, 2)
    again.release()
    with pytest.raises(LockedError, match="a part of a job array"):
        acquire(tmp_path)
    two.release()
    coordinator = acquire(tmp_path)
    with pytest.raises(LockedError, match="a coordinator works on"):
        acquire_part(tmp_path, 1, 2)
    with pytest.raises(SupersededError):
        again.check()
    coordinator.release()


def test_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    reign = acquire(tmp_path)
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        acquire(tmp_path)
    reign.release()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"epochs cannot be written \(Not a directory\)"):
        acquire(tmp_path / "file" / "epochs")
