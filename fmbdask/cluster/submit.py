"""A command of this program as one Slurm job: `--cluster FILE` and `--slurm` of commands of one process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, InputError
from .config import ClusterConfig, read_cluster
from .jobs import environment
from .scripts import Pool, directives, pattern, prologue, script

#: The site's file, where `fmbdask init` writes it.
SITE = Path("configs/cluster/slurm.yaml")
#: Threads of a job and memory of each where the site's file does not say.
THREADS, MEMORY = 4, 2 * 10**9


@dataclass(frozen=True)
class Submitted:
    """A job that Slurm has taken."""

    job: str
    log: Path


def site_file() -> Path:
    """The site's own description of its cluster: what ``--slurm`` is short for.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from ..config import local_file

    beside = [SITE]
    local = local_file()
    if local is not None:
        beside.append(local.parent / SITE)
    for path in beside:
        if path.is_file():
            return path
    raise ConfigError(
        f"--slurm reads {SITE}, which is not here: `fmbdask init .` writes a template, or name a file with "
        "--cluster"
    )


def job_name(words: Sequence[str]) -> str:
    """Name a job after its command."""
    return "-".join(["fmbdask", *[word for word in words[:2] if word.isalpha()]])


def command_script(words: Sequence[str], config: ClusterConfig, log_folder: Path) -> str:
    """Script of a job that runs one command of this program.

    Parameters
    ----------
    words : sequence of str
        Arguments of the program, the command's name first.
    config : ClusterConfig
        What the site needs.
    log_folder : Path
        Gets a file ``<command>-JOB.log``.
    """
    threads = config.threads * config.processes * (config.workers or THREADS)
    memory = (config.memory or MEMORY) * max(threads // config.threads, 1)
    pool = Pool("command", 1, 1, threads, memory, {}, config.queue, config.walltime, config.job_directives)
    name = job_name(words)
    command = [config.python or sys.executable, "-m", "fmbdask", *words]
    body = [
        *prologue(config),
        "export MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1",
        f"cd {shlex.quote(os.getcwd())} || exit 1",
        f"exec {shlex.join(command)}",
    ]
    return script(directives(config, pool, name, f"{pattern(log_folder)}/{name}-%j.log"), body)


def submit(
    words: Sequence[str], spec: str | Path | ClusterConfig, *, log_folder: Path | None = None
) -> Submitted:
    """Run a command of this program as a Slurm job, with all its other arguments.

    Parameters
    ----------
    words : sequence of str
        Arguments of the program, without those that led here.
    spec : path or ClusterConfig
        The site's file.
    log_folder : Path, optional
        Of the log; ``logs`` in the working folder by default.

    Returns
    -------
    Submitted

    Raises
    ------
    ConfigError
        If the file does not describe a Slurm cluster.
    InputError
        If Slurm does not take the job; says why.
    """
    config = read_cluster(spec)
    if config.kind != "slurm":
        raise ConfigError(
            f"this command runs as one job of Slurm, and {spec} is of kind {config.kind}: leave --cluster out"
        )
    folder = (log_folder or Path("logs")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    text = command_script(words, config, folder)
    try:
        answer = subprocess.run(
            ["sbatch", "--parsable"],
            input=text,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except FileNotFoundError:
        raise InputError(
            "there is no sbatch on this machine: submit from a login node, or leave --cluster out"
        ) from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or "no reason given"
        raise InputError(f"Slurm did not take the job ({said}): correct {spec}") from None
    except subprocess.TimeoutExpired:
        raise InputError(
            "Slurm did not answer within a minute: try again when its controller is up"
        ) from None
    job = answer.stdout.strip().partition(";")[0]
    return Submitted(job, folder / f"{job_name(words)}-{job}.log")
