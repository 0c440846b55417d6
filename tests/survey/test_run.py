"""Runs begun, resumed, extended, tried again and stopped, on threads of this process."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from fmbdask.errors import ChangedError, LockedError, RunError, SupersededError
from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.units import REDUCE, WHOLE_RUN, Unit
from fmbdask.survey.planning.plan import Plan
from fmbdask.survey.running.run import add, resume, retry, run, stop
from fmbdask.survey.worker import doing

from .medians import SLOW
from .whole import elsewhere, executions, exposure, files, nothing_done_again, planned, records

COUNT, REGIONS = 6, 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return [exposure(folder / f"x{i}.fits", i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def plan(inputs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return planned(inputs, tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    done = run(elsewhere(plan, path), cluster="threads", workers=1)
    assert (done.done, done.failed, done.complete, done.stopped) == (COUNT, 0, True, "")
    return path


def test_every_unit_is_done_once(whole: Path) -> None:
    times = executions(whole)
    assert set(times.values()) == {1}
    assert len(times) == COUNT * (REGIONS + 2) + 1
    assert not list((whole / "parts").rglob("*.parts"))
    assert (whole / "report.html").is_file()


def test_what_is_complete_is_not_done_again(whole: Path) -> None:
    before = files(whole), executions(whole)
    assert resume(whole, cluster="threads").complete
    assert (files(whole), executions(whole)) == before
    with pytest.raises(RunError, match="resume"):
        run(Plan.load(whole), cluster="threads")


def test_a_ledger_that_was_deleted_is_built_again(whole: Path) -> None:
    (whole / "ledger.sqlite").unlink()
    before = executions(whole)
    assert resume(whole, cluster="threads").done == COUNT
    assert executions(whole) == before


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_gives_the_same_bits(
    plan: Plan, whole: Path, tmp_path: Path, threads: int
) -> None:
    assert run(elsewhere(plan, tmp_path / "run"), cluster="threads", workers=threads).complete
    assert files(tmp_path / "run") == files(whole)


def test_a_run_that_is_asked_to_stop_goes_on_later(plan: Plan, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"

    def asking(done: int, total: int, text: str) -> None:
        if total > 1:
            (path / "stop").touch()

    stopped = run(elsewhere(plan, path), cluster="threads", workers=1, progress=asking)
    assert "stop" in stopped.stopped
    assert "resume" in stopped.describe()
    assert stopped.done < COUNT
    assert resume(path, cluster="threads", workers=1).complete
    nothing_done_again(path)
    assert files(path) == files(whole)
    assert "no coordinator" in stop(path)


def test_a_second_coordinator_is_refused_and_told_who_is_there(whole: Path) -> None:
    reign = acquire(whole / "epochs")
    try:
        with pytest.raises(LockedError, match=str(os.getpid())):
            resume(whole, cluster="threads")
    finally:
        reign.release()


def test_who_was_superseded_commits_nothing_more(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "run"
    seen = []

    def supersede(done: int, total: int, text: str) -> None:
        if total > 1 and not (path / "epochs" / "00002.json").exists():
            (path / "epochs" / "00002.json").write_text("{}")
            seen.append((path / "ledger.sqlite").read_bytes())

    with pytest.raises(SupersededError):
        run(elsewhere(plan, path), cluster="threads", workers=1, progress=supersede)
    assert (path / "ledger.sqlite").read_bytes() == seen[0]
    assert not any(record.kind == "ended" and record.unit.item == WHOLE_RUN for record in records(path))


def test_changed_inputs_are_refused_or_begun_anew(tmp_path: Path) -> None:
    inputs = [exposure(tmp_path / f"x{i}.fits", i) for i in range(3)]
    path = tmp_path / "run"
    assert run(planned(inputs, path), cluster="threads", workers=1).complete
    before = files(path)
    exposure(inputs[1], 100)
    os.utime(inputs[1], ns=(1, 1))
    with pytest.raises(ChangedError, match=r"x1\.fits"):
        resume(path, cluster="threads")
    assert resume(path, cluster="threads", workers=1, accept_changes=True).complete
    after = files(path)
    assert {Path(name).parts[1] for name in after if after[name] != before[name]} >= {"x1"}
    assert not {Path(n).parts[1] for n in after if after[n] != before[n] and n.startswith("products")} - {
        "x1"
    }
    times = Counter(u.item for u, n in executions(path).items() for _ in range(n) if u.item != WHOLE_RUN)
    assert times == {0: REGIONS + 2, 1: 2 * (REGIONS + 2), 2: REGIONS + 2}
    nothing_done_again(path)


def test_inputs_are_added(inputs: list[Path], whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert run(planned(inputs[:4], path), cluster="threads", workers=1).done == 4
    assert add(path, inputs) == 2
    assert add(path, inputs) == 0
    done = resume(path, cluster="threads", workers=1)
    assert (done.items, done.done, done.complete) == (COUNT, COUNT, True)
    assert files(path) == files(whole)
    assert executions(path).pop(Unit(0, WHOLE_RUN, REDUCE)) == 2
    nothing_done_again(path)


def test_what_failed_is_tried_again_when_asked(inputs: list[Path], whole: Path, tmp_path: Path) -> None:
    path, plan = tmp_path / "run", planned(inputs, tmp_path / "run")
    hidden = inputs[2].with_suffix(".hidden")
    inputs[2].rename(hidden)
    try:
        done = run(plan, cluster="threads", workers=1)
        assert (done.done, done.failed) == (COUNT - 1, 1)
        failed = (path / "failures.csv").read_text()
        assert "x2" in failed
    finally:
        hidden.rename(inputs[2])
    assert resume(path, cluster="threads", workers=1).failed == 1
    with pytest.raises(RunError, match="x3 did not fail"):
        retry(path, names=["x3"], cluster="threads")
    done = retry(path, cluster="threads", workers=1)
    assert (done.done, done.failed, done.complete) == (COUNT, 0, True)
    assert files(path) == files(whole)
    nothing_done_again(path)


def test_damaged_products_are_made_again(
    plan: Plan, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    assert run(elsewhere(plan, path), cluster="threads", workers=1).complete
    next((path / "products" / "x1").rglob("c/*/*/*")).write_bytes(b"damaged")
    monkeypatch.setattr(doing, "_checked", set())  # as in another process
    assert add(path, [exposure(tmp_path / "more.fits", 50)]) == 1
    assert resume(path, cluster="threads", workers=1).complete
    now = {n: b for n, b in files(path).items() if "more" not in n and n.startswith("products")}
    assert now == {n: b for n, b in files(whole).items() if n.startswith("products")}
    nothing_done_again(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    inputs = [exposure(tmp_path / f"x{i}.fits", i, SLOW * (i == 3)) for i in range(5)]
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=True)
    try:
        path, filler = disk / "run", disk / "filler"

        def fill(done: int, total: int, text: str) -> None:
            if done >= REGIONS and not filler.exists():
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while file.write(bytes(65536)) == 65536:
                        pass

        done = run(planned(inputs, path), cluster="threads", workers=1, progress=fill)
        assert "make room" in done.stopped
        assert not done.complete
        filler.unlink()
        assert resume(path, cluster="threads", workers=1).complete
        nothing_done_again(path)
        run(planned(inputs, tmp_path / "other"), cluster="threads", workers=2)
        assert files(path) == files(tmp_path / "other")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
