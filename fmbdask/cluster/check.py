"""Is the site's file right? A tiny job of each kind tells, and what is wrong is told with its cure."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..errors import ClusterError
from .config import ClusterConfig, parse_walltime
from .existing import installed_version
from .jobs import JobState, cancel, job_states, slurm
from .scripts import (
    DEFAULT_MEMORY,
    DEFAULT_WORKERS,
    MODULE_MISSING,
    Pool,
    directives,
    in_double_quotes,
    pools,
    prologue,
    script,
)
from .slurm import interface_option

#: Exit statuses of the job.
NO_FOLDER, NO_PYTHON, NO_SCRATCH, NO_PACKAGE, NO_PROBE = 82, 83, 84, 85, 86
#: How long the job may wait and run by default, and time between two looks [s].
PATIENCE, INTERVAL = 180.0, 0.5
NAME = "fmbdask-check"

#: Reasons for which a job waits for ever, the setting they are about (or none), and the cure.
WAITS = (
    ("PartitionConfig", "", ""),
    ("TimeLimit|MaxWall", "walltime", "ask for less, `sinfo -o '%R %l'` shows the limits"),
    ("Account", "account", "`sacctmgr show associations user=$USER` shows yours"),
    ("Mem", "memory", "ask for less, or for another queue"),
    ("Cpu", "threads", "ask for fewer threads or processes"),
    ("PartitionDown|PartitionInactive", "queue", "choose another one, `sinfo` shows which are up"),
    ("QOS", "job_directives", "name a quality of service that you may use (--qos=...)"),
    ("NodeNotAvail|BadConstraints|PartitionNodeLimit", "job_directives", "loosen what they ask for"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the setting, what was seen, and what to write instead."""

    setting: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}; {self.cure}"


@dataclass(frozen=True)
class Checked:
    """Outcome for one kind of job: what is wrong, or what was found."""

    pool: str
    findings: tuple[Finding, ...]
    text: str = ""


def check(
    config: ClusterConfig,
    *,
    folder: Path | None = None,
    seconds: float = PATIENCE,
    progress: Callable[[str], None] | None = None,
) -> list[Checked]:
    """Submit a tiny job of each kind and look at how it fares.

    Parameters
    ----------
    config : ClusterConfig
        Of kind ``slurm``.
    folder : Path, optional
        Where runs will be written; the working directory by default. A folder is made in it for a while.
    seconds : float
        How long jobs may wait for their turn.
    progress : callable, optional
        Gets a sentence now and then.

    Raises
    ------
    ClusterError
        If Slurm is not there at all.
    """
    slurm("sinfo", "--version")
    try:
        interface = interface_option(config)
    except ClusterError as error:
        problem, _, cure = str(error).partition(": ")
        setting = "scheduler_interface" if config.scheduler_interface else "interface"
        return [Checked("cpu", (Finding(setting, problem, cure),))]
    workers = DEFAULT_WORKERS if config.workers is None else config.workers
    kinds = [p for p in pools(config, workers, config.memory or DEFAULT_MEMORY).values() if p.jobs]
    base = (folder or Path.cwd()).absolute()
    with place_for_answers(base) as place, listening(interface) as address:
        submitted: dict[str, tuple[Pool, str]] = {}
        checked = []
        try:
            for pool in kinds:
                outcome = submit(config, pool, place, address)
                if isinstance(outcome, Finding):
                    checked.append(Checked(pool.name, (outcome,)))
                else:
                    submitted[outcome] = (pool, outcome)
            if progress and submitted:
                progress(f"jobs {', '.join(submitted)} submitted, waiting for them")
            states = wait(list(submitted), seconds)
            for job, (pool, _) in submitted.items():
                checked.append(judge(config, pool, job, states[job], place))
        finally:
            cancel(submitted, NAME)
    return sorted(checked, key=lambda each: [pool.name for pool in kinds].index(each.pool))


@contextmanager
def place_for_answers(base: Path) -> Iterator[Path]:
    """A folder in which the jobs leave their answers, removed afterwards."""
    try:
        place = Path(tempfile.mkdtemp(prefix=".fmbdask-check-", dir=base))
    except OSError as error:
        raise ClusterError(f"{base} cannot be written ({error.strerror}): name another folder") from None
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def listening(interface: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A port where the scheduler would listen."""
    host = ""
    if interface:
        entries = psutil.net_if_addrs()[interface["interface"]]
        host = next((entry.address for entry in entries if entry.family == socket.AF_INET), "")
    with socket.create_server((host, 0)) as server:
        yield host or socket.gethostbyname(socket.gethostname()), server.getsockname()[1]


def submit(config: ClusterConfig, pool: Pool, place: Path, address: tuple[str, int]) -> str | Finding:
    """Submit the job of one kind: its id, or why it was refused."""
    request = place / f"{pool.name}.request.json"
    request.write_text(json.dumps({"interface": config.interface, "host": address[0], "port": address[1]}))
    python = shlex.quote(config.python or sys.executable)
    here = shlex.quote(str(place))
    body = [
        f"[ -e {shlex.quote(str(request))} ] || exit {NO_FOLDER}",
        f"exec >{here}/{pool.name}.log 2>&1",
        *prologue(config),
        f"command -v {python} >/dev/null && {python} -c '' || exit {NO_PYTHON}",
        f'scratch={in_double_quotes(config.scratch)}/"fmbdask-$SLURM_JOB_ID"',
        f'mkdir -p "$scratch" && touch "$scratch"/trial || exit {NO_SCRATCH}',
        "trap 'rm -rf \"$scratch\"' EXIT",
        f"{python} -c 'import fmbdask.cluster.probe' || exit {NO_PACKAGE}",
        f"{python} -m fmbdask.cluster.probe {here}/{pool.name}.request.json {here}/{pool.name}.json"
        f' "$scratch" || exit {NO_PROBE}',
    ]
    path = place / f"{pool.name}.sh"
    path.write_text(script(directives(config, pool, NAME, "/dev/null"), body))
    try:
        return slurm("sbatch", "--parsable", str(path)).strip().partition(";")[0]
    except ClusterError as error:
        return refused(config, pool, str(error))


def wait(jobs: list[str], seconds: float) -> dict[str, JobState]:
    """States of jobs when all are over, cannot begin, or the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        states = dict(job_states(jobs))
        settled = [state.is_over or cannot_begin(state) is not None for state in states.values()]
        if all(settled) or time.monotonic() > deadline:
            return states
        time.sleep(INTERVAL)


def cannot_begin(state: JobState) -> tuple[str, str] | None:
    """Setting and cure for a job that waits for what will never come."""
    if state.state == "PENDING":
        for pattern, setting, cure in WAITS:
            if re.search(pattern, state.reason):
                return setting, cure
    return None


def refused(config: ClusterConfig, pool: Pool, text: str) -> Finding:
    """What sbatch's refusal is about."""
    words = text.lower()
    section = "" if pool.name == "cpu" else f"{pool.name}."
    if "partition" in words and "invalid" in words:
        known = sorted(set(slurm("sinfo", "--noheader", "--format=%R").split()))
        return Finding(f"{section}queue", f"Slurm knows no {pool.queue}", f"it knows {', '.join(known)}")
    if "account" in words:
        return Finding("account", text, "`sacctmgr show associations user=$USER` shows yours")
    if "time limit" in words:
        return Finding(f"{section}walltime", text, "ask for less, `sinfo -o '%R %l'` shows the limits")
    if "gres" in words or "generic resource" in words:
        return Finding("gpu.gres", text, "`sinfo -o '%R %G'` shows what nodes have")
    if "memory" in words or "configuration is not available" in words:
        return too_large(pool, section, text)
    return Finding("job_directives", text, "look at each with `fmbdask cluster script`")


def too_large(pool: Pool, section: str, text: str) -> Finding:
    """Which of time, memory, cores and GPUs is nowhere to be had."""
    chosen = [f"--partition={pool.queue}"] if pool.queue else []
    listed = slurm("sinfo", "--noheader", *chosen, "--format=%m %c %l")
    nodes = [line.split() for line in listed.splitlines()]
    limits = {node[2] for node in nodes}
    if limits and all(limit[0].isdigit() for limit in limits):
        longest = max(limits, key=parse_walltime)
        if parse_walltime(pool.walltime) > parse_walltime(longest):
            problem = f"a job asks for {pool.walltime}, the limit is {longest}"
            return Finding(f"{section}walltime", problem, "ask for less")
    memory = max((int(re.sub(r"\D", "", node[0])) for node in nodes), default=0)
    cores = max((int(re.sub(r"\D", "", node[1])) for node in nodes), default=0)
    if pool.asked / 2**20 > memory:
        return Finding(
            f"{section}memory",
            f"a job of {pool.processes} workers asks for {pool.asked / 2**20:.0f} MB, nodes have {memory} MB",
            "ask for less, or for fewer processes a job",
        )
    if pool.processes * pool.threads > cores:
        return Finding(
            f"{section}threads",
            f"a job asks for {pool.processes * pool.threads} cores, nodes have {cores}",
            "ask for fewer threads or processes",
        )
    return Finding(f"{section}gres" if pool.name == "gpu" else "job_directives", text, "no node has all that")


def judge(config: ClusterConfig, pool: Pool, job: str, state: JobState, place: Path) -> Checked:
    """What the end of a job says of the settings."""
    if not state.is_over:
        stuck = cannot_begin(state)
        section = "" if pool.name == "cpu" else f"{pool.name}."
        if stuck and not stuck[0]:
            finding = too_large(pool, section, f"no node suits job {job} ({state.reason})")
        elif stuck:
            section = "" if stuck[0] == "account" else section
            finding = Finding(f"{section}{stuck[0]}", f"job {job} waits for ever ({state.reason})", stuck[1])
        else:
            finding = Finding(
                "queue",
                f"job {job} has not ended in time: it is {state.state} ({state.reason})",
                "nothing need be wrong; check again with a longer --timeout",
            )
        return Checked(pool.name, (finding,))
    status = exit_status(job)
    answer = place / f"{pool.name}.json"
    where = f"node {state.node}" if state.node else "its node"
    if status or not answer.is_file():
        return Checked(pool.name, (failed(config, status, where, place, last_line(place, pool), state),))
    found = json.loads(answer.read_text())
    findings = tuple(differences(config, found, where))
    address = found["interfaces"].get(config.interface or "", "")
    text = (
        f"job {job} ran on {found['node']}: Python {found['python']}, fmbdask {found['version']}, "
        + (f"{config.interface} {address}, " if address else "")
        + f"{found['free'] / 1e9:.0f} GB of scratch, {pool.asked / 2**20:.0f} MB asked for, "
        f"walltime {pool.walltime}"
    )
    return Checked(pool.name, findings, text)


def failed(config: ClusterConfig, status: int, where: str, place: Path, log: str, state: JobState) -> Finding:
    """What the exit status of the job says."""
    python = config.python or sys.executable
    said = f" ({log})" if log else ""
    known = {
        NO_FOLDER: Finding(
            "folder",
            f"{place.parent} cannot be seen on {where}",
            "run where all nodes see the folder, and write runs to such a place",
        ),
        MODULE_MISSING: Finding(
            "modules", f"one cannot be loaded on {where}{said}", "`module avail` shows them"
        ),
        NO_PYTHON: Finding(
            "python", f"{python} does not run on {where}{said}", "name one that nodes see, or load its module"
        ),
        NO_SCRATCH: Finding(
            "scratch",
            f"{config.scratch} cannot be written on {where}{said}",
            "name a folder of the node's own",
        ),
        NO_PACKAGE: Finding(
            "python",
            f"{python} on {where} cannot import fmbdask{said}",
            "install it there, or name the interpreter of an environment that all nodes see",
        ),
    }
    if status in known:
        return known[status]
    how = f"ended as {state.state} with exit status {status}{said}"
    return Finding("prologue", f"the job {how} on {where}", "look at it with `fmbdask cluster script`")


def differences(config: ClusterConfig, found: dict[str, Any], where: str) -> Iterator[Finding]:
    """What a job that ran found wrong."""
    if found["version"] != (here := installed_version()):
        yield Finding(
            "python", f"fmbdask {found['version']} on {where}, {here} here", "install the same version"
        )
    names = [name for name in found["interfaces"] if name != "lo"]
    if config.interface and config.interface not in found["interfaces"]:
        cure = (
            f"there are {', '.join(names)}; where the coordinator's differs, set scheduler_interface as well"
        )
        yield Finding("interface", f"there is no {config.interface} on {where}", cure)
    elif found["reached"]:
        cure = f"set interface to one of {', '.join(names)}, and scheduler_interface to one that nodes reach"
        yield Finding("interface", f"this machine cannot be reached from {where} ({found['reached']})", cure)


def exit_status(job: str) -> int:
    """Exit status of a job that is over."""
    match = re.search(r"\bExitCode=(\d+):(\d+)", slurm("scontrol", "show", "job", "--oneliner", job))
    if match is None:
        return 0
    return int(match[1]) or (128 + int(match[2]) if int(match[2]) else 0)


def last_line(place: Path, pool: Pool) -> str:
    """Last line that the job wrote."""
    try:
        lines = (place / f"{pool.name}.log").read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
