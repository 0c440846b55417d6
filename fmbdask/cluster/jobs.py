"""Slurm's commands: what became of jobs, cancelling them, and a list that outlives the coordinator."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClusterError

#: File in the log folder of a run, a line for each job that was asked for.
LIST = "slurm-jobs.jsonl"
#: How long a command of Slurm may take before it counts as failed [s]; it tries by itself for some time.
PATIENCE = 60.0
#: States in which a job is over.
OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)


@dataclass(frozen=True)
class JobState:
    """What Slurm says of a job.

    Attributes
    ----------
    state : str
        As ``squeue`` writes it: ``PENDING``, ``RUNNING``, ``TIMEOUT``.
    node : str
        Where it runs or ran; empty before.
    reason : str
        Why it waits, or ended.
    """

    state: str
    node: str = ""
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER


#: Of jobs that Slurm has forgotten: they ended some time ago.
FORGOTTEN = JobState("COMPLETED", reason="Slurm does not remember it")


def slurm(*command: str) -> str:
    """Output of a Slurm command.

    Raises
    ------
    ClusterError
        If it is not installed, fails or does not answer.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env=environment(),
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(
            f"{command[0]} is not on this machine: run this where Slurm's commands are, on a login node say"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{command[0]} has not answered in {PATIENCE:.0f} s: is Slurm's controller up?"
        ) from None
    if done.returncode:
        text = " ".join((done.stderr or done.stdout).replace(f"{command[0]}: error: ", "").split())
        raise ClusterError(f"{command[0]} failed: {text or f'exit status {done.returncode}'}")
    return done.stdout


def environment() -> dict[str, str]:
    """Environment for Slurm's commands: without that of a job in which this process may run itself.

    ``sbatch`` passes on what it is given, so a worker job would take the end time, memory and tasks of the
    coordinator's job for its own.
    """
    keep = ("SLURM_CONF", "SLURM_CLUSTERS")
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in keep}


def job_states(ids: Iterable[str]) -> Mapping[str, JobState]:
    """What Slurm says of jobs; those it has forgotten count as completed.

    Raises
    ------
    ClusterError
        If Slurm does not answer.
    """
    ids = list(ids)
    if not ids:
        return {}
    try:
        listed = slurm(
            "squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T|%N|%r"
        )
    except ClusterError as error:
        if "Invalid job id" not in str(error):
            raise
        listed = ""  # none of them is remembered
    found = {}
    for line in listed.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 4:
            found[fields[0]] = JobState(*fields[1:])
    return {job: found.get(job, FORGOTTEN) for job in ids}


def record_job(folder: Path, job: str, name: str) -> None:
    """Remember that a job was asked for."""
    line = json.dumps({"job": job, "name": name}) + "\n"
    with (folder / LIST).open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def recorded_jobs(folder: Path) -> dict[str, str]:
    """Every job that was asked for: its id and its name."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[str(entry["job"])] = str(entry["name"])
        except (ValueError, KeyError, TypeError):  # a torn line
            continue
    return found


def forget_jobs(folder: Path) -> None:
    """Begin a new list."""
    (folder / LIST).unlink(missing_ok=True)


def live_jobs(folder: Path) -> list[str]:
    """Ids of the recorded jobs that run or wait.

    Raises
    ------
    ClusterError
        If Slurm does not answer.
    """
    return [job for job, state in job_states(recorded_jobs(folder)).items() if not state.is_over]


def cancel_recorded(folder: Path) -> list[str]:
    """Cancel the jobs of a run, also when nobody coordinates it any more.

    Only jobs of this user are touched that still bear the name they were given: Slurm may have used a
    number again.

    Parameters
    ----------
    folder : Path
        ``logs/`` of the run.

    Returns
    -------
    list of str
        Ids of the jobs that ran or waited.

    Raises
    ------
    ClusterError
        If Slurm does not answer.
    """
    names = recorded_jobs(folder)
    alive = live_jobs(folder) if names else []
    for name in sorted({names[job] for job in alive}):
        cancel([job for job in alive if names[job] == name], name)
    return alive


def cancel(ids: Iterable[str], name: str) -> None:
    """Cancel jobs of this user that bear a name; those that are over already are no error."""
    ids = list(ids)
    if not ids:
        return
    try:
        slurm("scancel", "--quiet", f"--user={getpass.getuser()}", f"--name={name}", *ids)
    except ClusterError:  # so it says of jobs that have just ended, too
        if any(not (state.is_over or state.state == "COMPLETING") for state in job_states(ids).values()):
            raise
