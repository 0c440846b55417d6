"""Slurm's commands, played by stubs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmbdask.cluster import jobs
from fmbdask.errors import ClusterError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that come before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def command(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def test_states_are_read_and_forgotten_jobs_are_over(commands: Path) -> None:
    command(commands, "squeue", "printf '12|RUNNING|n1|None\\n13|PENDING||Priority\\n'")
    found = jobs.job_states(["12", "13", "14"])
    assert found["12"] == jobs.JobState("RUNNING", "n1", "None")
    assert found["13"].reason == "Priority"
    assert found["14"].is_over
    assert not found["12"].is_over
    command(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert jobs.job_states(["12"])["12"].is_over
    command(commands, "squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ClusterError, match="squeue failed: Unable to contact slurm controller"):
        jobs.job_states(["12"])


def test_only_living_jobs_of_that_name_are_cancelled(commands: Path, tmp_path: Path) -> None:
    command(commands, "squeue", "printf '1|COMPLETED|n1|x\\n2|RUNNING|n1|x\\n3|PENDING||x\\n'")
    command(commands, "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    for job in "123":
        jobs.record_job(tmp_path, job, "fmbdask-a-1")
    with (tmp_path / jobs.LIST).open("a") as file:
        file.write('{"job": "4", "na')  # torn by a kill
    assert jobs.cancel_recorded(tmp_path) == ["2", "3"]
    words = (tmp_path / "cancelled").read_text().split()
    assert words[-2:] == ["2", "3"]
    assert "--name=fmbdask-a-1" in words


def test_without_recorded_jobs_slurm_is_not_asked(commands: Path, tmp_path: Path) -> None:
    command(commands, "squeue", "exit 9")
    assert jobs.cancel_recorded(tmp_path) == []


def test_a_cancelled_job_that_has_just_ended_is_no_error(commands: Path) -> None:
    command(commands, "scancel", "exit 1")
    command(commands, "squeue", "echo '1|COMPLETING|n1|x'")
    jobs.cancel(["1"], "name")
    command(commands, "squeue", "echo '1|RUNNING|n1|x'")
    with pytest.raises(ClusterError, match="scancel failed"):
        jobs.cancel(["1"], "name")


def test_a_job_does_not_inherit_the_job_of_its_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", "12")
    monkeypatch.setenv("SLURM_CONF", "/somewhere/slurm.conf")
    found = jobs.environment()
    assert "SLURM_JOB_END_TIME" not in found
    assert found["SLURM_CONF"] == "/somewhere/slurm.conf"


def test_slurm_that_is_not_there_is_said(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(commands))
    with pytest.raises(ClusterError, match="squeue is not on this machine"):
        jobs.job_states(["1"])
