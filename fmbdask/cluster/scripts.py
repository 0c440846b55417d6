"""Job scripts. Whatever comes from a file name or from YAML is quoted here, and only here."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import ClusterConfig, parse_walltime
from .protocol import GPU, LARGE, SLOTS

#: Workers and memory of each where neither the file nor the plan says anything [byte].
DEFAULT_WORKERS, DEFAULT_MEMORY = 4, 2 * 10**9
#: Exit status of a job that cannot load a module.
MODULE_MISSING = 81
#: Seconds that a worker looks for its scheduler before it gives up: a job whose coordinator is dead ends.
DEATH_TIMEOUT = 60
#: What Slurm is asked for beyond the anonymous memory of the worker processes. Slurm counts resident pages of
#: mapped files too, where sites poll instead of using cgroups: a quarter more leaves room for the chunks that
#: are mapped. And each worker process has a nanny of 76 MB and maps libraries of 202 MB (measured).
MARGIN, BESIDE = 1.25, 300 * 10**6


@dataclass(frozen=True)
class Pool:
    """Jobs of one kind.

    Attributes
    ----------
    name : str
        ``cpu``, ``large`` or ``gpu``.
    jobs : int
        How many are wanted.
    processes, threads : int
        Worker processes of a job, and threads of each.
    memory : int
        Anonymous memory of a worker process [byte].
    offers : mapping
        Resources of a worker process.
    queue, walltime, directives
        What Slurm is asked for.
    """

    name: str
    jobs: int
    processes: int
    threads: int
    memory: int
    offers: Mapping[str, float]
    queue: str | None
    walltime: str
    directives: tuple[str, ...] = ()

    @property
    def asked(self) -> int:
        """Memory that Slurm is asked for [byte]."""
        return int(self.processes * (MARGIN * self.memory + BESIDE))


def pools(config: ClusterConfig, workers: int, memory: int) -> dict[str, Pool]:
    """Kinds of jobs that a site's file asks for.

    Parameters
    ----------
    config : ClusterConfig
    workers : int
        Worker processes for ordinary tasks; 0 lets those with a GPU do everything.
    memory : int
        Anonymous memory of an ordinary one [byte].
    """
    per_job = min(config.processes, max(1, workers))
    found = {
        "cpu": Pool(
            "cpu",
            math.ceil(workers / per_job),
            per_job,
            config.threads,
            memory,
            {SLOTS: config.threads},
            config.queue,
            config.walltime,
            config.job_directives,
        )
    }
    if config.large is not None:
        found["large"] = Pool(
            "large",
            config.large.workers,
            1,
            config.threads,
            config.large.memory,
            {LARGE: 1},
            config.large.queue or config.queue,
            config.large.walltime or config.walltime,
            config.job_directives + config.large.job_directives,
        )
    if config.gpu is not None:
        threads = config.gpu.threads or config.threads
        found["gpu"] = Pool(
            "gpu",
            config.gpu.workers,
            1,
            threads,
            config.gpu.memory or memory,
            {GPU: config.gpu.gpus} | ({} if workers else {SLOTS: threads}),
            config.gpu.queue or config.queue,
            config.gpu.walltime or config.walltime,
            (*config.job_directives, f"--gres={config.gpu.gres}", *config.gpu.job_directives),
        )
    return found


def prologue(config: ClusterConfig) -> list[str]:
    """Lines of a shell that make a job ready: modules, variables, and what the site wants besides."""
    lines = [f"module load {shlex.quote(module)} || exit {MODULE_MISSING}" for module in config.modules]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in config.environment.items()]
    return lines + list(config.prologue)


def directives(
    config: ClusterConfig, pool: Pool, name: str, output: str, exclude: Sequence[str] = ()
) -> list[str]:
    """Options of sbatch for one job of a pool."""
    options = [f"--job-name={name}", f"--output={output}", "--open-mode=append"]
    options += [f"--partition={pool.queue}"] if pool.queue else []
    options += [f"--account={config.account}"] if config.account else []
    options += ["--ntasks=1", f"--cpus-per-task={pool.processes * pool.threads}"]
    options += [f"--mem={math.ceil(pool.asked / 2**20)}M", f"--time={pool.walltime}"]
    # One rule for every loss: a job that ended is over, and the coordinator asks for another one.
    options += ["--no-requeue"]
    options += [f"--exclude={','.join(exclude)}"] if exclude else []
    return [*options, *pool.directives]


def script(options: Sequence[str], body: Sequence[str]) -> str:
    """A script for sbatch."""
    head = ["#!/bin/bash", *(f"#SBATCH {shlex.quote(option)}" for option in options)]
    return "\n".join([*head, "", *body]) + "\n"


def worker_script(
    config: ClusterConfig,
    pool: Pool,
    *,
    name: str,
    worker: str,
    scheduler: str,
    log_folder: Path,
    exclude: Sequence[str] = (),
) -> str:
    """Script of a job of workers.

    Parameters
    ----------
    config : ClusterConfig
    pool : Pool
    name : str
        Of the job.
    worker : str
        Of the worker; a number follows where a job has several.
    scheduler : str
        Address of the scheduler.
    log_folder : Path
        Gets a file ``worker-JOB.log``.
    exclude : sequence of str
        Nodes to keep away from.
    """
    command = [config.python or sys.executable, "-m", "distributed.cli.dask_worker", scheduler]
    command += ["--name", worker, "--nworkers", str(pool.processes), "--nthreads", str(pool.threads)]
    # Dask's own limit counts mapped files, too: it is off, the worker watches its anonymous memory.
    command += ["--memory-limit", "0", "--nanny", "--no-dashboard", "--death-timeout", str(DEATH_TIMEOUT)]
    command += ["--resources", " ".join(f"{key}={value:g}" for key, value in pool.offers.items())]
    command += ["--interface", config.interface] if config.interface else []
    seconds = parse_walltime(pool.walltime)
    body = [
        *prologue(config),
        # older versions of Slurm do not tell a job its end, and options may have changed it
        'end=$(timeout 20 squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e 2>/dev/null)',
        f'export FMBDASK_JOB_END=${{SLURM_JOB_END_TIME:-$(date -d "${{end:-now + {seconds} seconds}}" +%s)}}',
        "export MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1",
        "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False",
        # as in dask_workers.SCHEDULER_SETTINGS: variables that are set come before Dask's own
        f"export MALLOC_TRIM_THRESHOLD_={2 * 2**25} MALLOC_MMAP_THRESHOLD_={2**25}",
        f'scratch={in_double_quotes(config.scratch)}/"fmbdask-$SLURM_JOB_ID"',
        'mkdir -p "$scratch" || exit 1',
        "trap 'rm -rf \"$scratch\"' EXIT",
        "trap : TERM  # the worker gets it as well, and closes",
        f'{shlex.join(command)} --local-directory "$scratch"',
    ]
    return script(directives(config, pool, name, pattern(log_folder) + "/worker-%j.log", exclude), body)


def pattern(path: Path) -> str:
    """A path as Slurm wants it in the name of a log, where % begins a replacement."""
    return str(path).replace("%", "%%")


def in_double_quotes(text: str) -> str:
    """Quote text for the shell, but let it name variables: ``$NAME``, ``${NAME}`` or ``${NAME:-default}``."""
    variable = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*(?::-[A-Za-z0-9_./-]*)?\})")
    quoted, position = [], 0
    for match in variable.finditer(text):
        quoted += [re.sub(r'([\\"`$])', r"\\\1", text[position : match.start()]), match[0]]
        position = match.end()
    quoted.append(re.sub(r'([\\"`$])', r"\\\1", text[position:]))
    return f'"{"".join(quoted)}"'
