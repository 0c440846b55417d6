"""Parts of a run without workers: whole inputs each, one catalogue at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmbdask.errors import LockedError, RunError
from fmbdask.store.run.epochs import acquire_part
from fmbdask.survey.running.array import finish, work
from fmbdask.survey.running.run import resume, run

from .whole import elsewhere, executions, exposure, files, nothing_done_again, planned, records

COUNT = 5


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return [exposure(folder / f"x{i}.fits", i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def whole(inputs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run(planned(inputs, path), cluster="threads", workers=1).complete
    return path


def test_parts_make_the_same_run(inputs: list[Path], whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    planned(inputs, path).save()
    first = work(path, 1, 2, threads=1)
    assert (first.done, first.complete) == (3, False)
    with pytest.raises(RunError, match=r"2 of 5 inputs are not done \(x1, x3\): run parts 2 of 2 again"):
        finish(path)
    assert work(path, 2, 2, threads=2).done == COUNT
    assert finish(path).complete
    assert finish(path).complete
    assert set(executions(path).values()) == {1}
    assert files(path) == files(whole)
    assert not list((path / "parts").rglob("*.parts"))


def test_a_part_that_is_done_again_does_nothing(inputs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    planned(inputs, path).save()
    work(path, 1, 3, threads=1)
    before = executions(path)
    work(path, 1, 3, threads=1)
    assert executions(path) == before


def test_a_coordinator_goes_on_where_parts_ended(inputs: list[Path], whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    plan = planned(inputs, path)
    plan.save()
    work(path, 1, 2, threads=1)
    with pytest.raises(RunError, match="resume"):
        run(plan, cluster="threads")
    assert resume(path, cluster="threads", workers=1).complete
    nothing_done_again(path)
    assert files(path) == files(whole)


def test_a_part_is_done_by_one_process(inputs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    planned(inputs, path).save()
    reign = acquire_part(path / "epochs", 1, 2)
    try:
        with pytest.raises(LockedError, match="part 1/2"):
            work(path, 1, 2)
        assert work(path, 2, 2, threads=1).done == 2
        with pytest.raises(LockedError, match="job array"):
            resume(path, cluster="threads")
    finally:
        reign.release()


def test_what_fails_in_a_part_is_listed_and_the_others_are_finished(
    inputs: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    plan = elsewhere(planned(inputs, tmp_path / "plan"), path)
    plan.save()
    hidden = inputs[1].with_suffix(".hidden")
    inputs[1].rename(hidden)
    try:
        work(path, 1, 1, threads=2)
    finally:
        hidden.rename(inputs[1])
    done = finish(path)
    assert (done.done, done.failed, done.complete) == (COUNT - 1, 1, True)
    assert any(record.kind == "failed" and record.final for record in records(path))


def test_a_part_that_is_asked_to_stop_is_done_later(inputs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    planned(inputs, path, span_seconds=0.01).save()

    def asking(done: int, total: int, text: str) -> None:
        (path / "stop").touch()

    stopped = work(path, 1, 1, threads=1, progress=asking)
    assert stopped.stopped
    assert stopped.done < COUNT
    assert work(path, 1, 1, threads=1).done == COUNT
    nothing_done_again(path)
