"""The site's file: what kind of cluster, and all that job scripts need to know of the place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from ..config import check_keys, explain, read_yaml
from ..errors import ConfigError

KINDS = ("local", "threads", "slurm", "runner", "tcp")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def parse_size(value: Any) -> Any:
    """``2GB`` or ``512MiB`` as bytes; numbers as they are."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"must be a size such as 2GB or 512MiB, not {value!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_walltime(text: str) -> int:
    """Seconds of a walltime as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a time such as 01:30:00 or 2-12:00:00, not {text!r}")
    days, parts = match[1], [int(part) for part in match.groups()[1:] if part is not None]
    if days is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) == 1:
        return parts[0] * 60
    hours, minutes, seconds = [0, *parts][-3:]
    return (hours * 60 + minutes) * 60 + seconds


def _one_line(value: Any) -> Any:
    """Refuse characters that would end a line of a job script."""
    if isinstance(value, str) and any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError(f"must be one line without control characters, not {value!r}")
    return value


def _as_text(value: Any) -> Any:
    """YAML reads 01:30:00 as a number in base 60: back to minutes and seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value // 3600}:{value // 60 % 60:02}:{value % 60:02}"
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Line = Annotated[str, BeforeValidator(_one_line), Field(min_length=1)]
Walltime = Annotated[str, BeforeValidator(_as_text), BeforeValidator(_one_line)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("walltime", check_fields=False)
    @classmethod
    def _walltime_is_a_time(cls, value: str | None) -> str | None:
        if value is not None and parse_walltime(value) < 60:
            raise ValueError(f"must be at least one minute, which is how Slurm counts, not {value!r}")
        return value


class LargeConfig(_Strict):
    """Jobs for regions that need more memory than others, asked for only when there is such a region.

    What is not set is as for the other jobs.
    """

    memory: Size
    workers: int = Field(default=1, ge=1)
    queue: Line | None = None
    walltime: Walltime | None = None
    job_directives: tuple[Line, ...] = ()


class GpuConfig(_Strict):
    """Jobs with a GPU, for stages that ask ``resources: {GPU: 1}``. What is not set is as for the others."""

    workers: int = Field(default=1, ge=1)
    gres: Line = "gpu:1"
    gpus: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    memory: Size | None = None
    queue: Line | None = None
    walltime: Walltime | None = None
    job_directives: tuple[Line, ...] = ()


class ClusterConfig(_Strict):
    """Where a survey runs.

    Attributes
    ----------
    kind : str
        ``local`` (processes on this machine), ``threads`` (of this process), ``slurm`` (jobs that this
        process asks for), ``runner`` (inside one allocation) or ``tcp`` (a Dask scheduler that is there).
    address : str, optional
        Of the scheduler, for ``tcp``.
    workers : int, optional
        Worker processes. Default: a core each for ``local``, 4 for ``slurm``, the tasks of the allocation
        for ``runner``. 0 under Slurm with a ``gpu`` section: the GPU workers do everything.
    processes : int
        Worker processes in one job.
    threads : int
        Threads of a worker process.
    memory : int, optional
        Anonymous memory that a worker process may use [byte]; what the plan projects by default.
    walltime, queue, account : str
        Of worker jobs.
    interface, scheduler_interface : str, optional
        Network interface of workers, and of the coordinator where that differs.
    python : str, optional
        Interpreter of the jobs; the one that runs this by default.
    modules, environment, prologue
        What a job loads, exports and runs before the worker.
    scratch : str
        Folder on the node for temporary files; may name variables of the job.
    job_directives : sequence of str
        More options of sbatch, ``--constraint=avx2``.
    large, gpu
        Further kinds of jobs.
    """

    kind: Literal["local", "threads", "slurm", "runner", "tcp"] = "slurm"
    address: Line | None = None
    workers: int | None = Field(default=None, ge=0)
    processes: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    memory: Size | None = None
    walltime: Walltime = "01:00:00"
    queue: Line | None = None
    account: Line | None = None
    interface: Line | None = None
    scheduler_interface: Line | None = None
    python: Line | None = None
    modules: tuple[Line, ...] = ()
    environment: dict[str, Annotated[str, BeforeValidator(_one_line)]] = Field(default_factory=dict)
    prologue: tuple[str, ...] = ()
    scratch: Line = "${TMPDIR:-/tmp}"
    job_directives: tuple[Line, ...] = ()
    large: LargeConfig | None = None
    gpu: GpuConfig | None = None

    @field_validator("environment")
    @classmethod
    def _names_of_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"holds {name!r}, which is no name of an environment variable")
        return value

    @field_validator("job_directives")
    @classmethod
    def _options_of_sbatch(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for option in value:
            if not option.startswith("-"):
                raise ValueError(f"holds {option!r}: write options of sbatch as --name=value")
        return value


def read_cluster(spec: str | Path | ClusterConfig) -> ClusterConfig:
    """What ``--cluster`` names: a kind, an address, or the path of a YAML file.

    ``runner:FILE`` takes from a site's file what holds inside an allocation, too.

    Raises
    ------
    ConfigError
        With the key, the file and what to write instead.
    """
    if isinstance(spec, ClusterConfig):
        return spec
    text = str(spec)
    if "://" in text:
        return ClusterConfig(kind="tcp", address=text)
    if text in ("local", "threads", "runner"):
        return _in_allocation(ClusterConfig.model_validate({"kind": text}))
    runner, text = text.startswith("runner:"), text.removeprefix("runner:")
    path = Path(text)
    if path.suffix.lower() not in (".yaml", ".yml") and not path.is_file():
        raise ConfigError(
            f"--cluster {text} is no kind of cluster: give local, threads, runner, runner:FILE, "
            "tcp://HOST:PORT or the path of a YAML file such as configs/cluster/slurm.yaml"
        )
    values = read_yaml(path)
    check_keys(ClusterConfig, values, str(path))
    try:
        config = ClusterConfig.model_validate(values)
    except ValidationError as error:
        origins = {key: str(path) for key in values}
        raise ConfigError(explain(error, origins, values)) from None
    if config.kind == "tcp" and config.address is None:
        raise ConfigError(f"{path}: kind tcp needs the address of the scheduler: address: tcp://HOST:8786")
    return _in_allocation(config.model_copy(update={"kind": "runner"}) if runner else config)


def _in_allocation(config: ClusterConfig) -> ClusterConfig:
    """Workers of a runner are as many as the step has tasks beside scheduler and coordinator."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    if config.kind != "runner" or not tasks.isdecimal():
        return config
    return config.model_copy(update={"workers": max(1, int(tasks) - 2)})
