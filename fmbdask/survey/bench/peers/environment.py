"""A Python environment for the tools that the detector is compared with, apart from its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmbdask.errors import ConfigError, InputError

Report = Callable[[int, int, str], None]

STCAL = ("stcal==1.20.0",)
#: What ohana imports, in releases of today: it pins old ones that do not install beside stcal, and not all.
OHANA_NEEDS = (
    "scipy", "scikit-image", "numba", "pandas", "h5py", "PyYAML", "astropy", "tqdm", "matplotlib", "seaborn",
)  # fmt: skip
#: First, and without its own choice of version: ohana pins a torch that brings CUDA.
TORCH = ("torch==2.13.0",)
OHANA = ("--no-deps", "ohana==0.1.0")
#: Written last: an environment without it was not finished.
READY = "fmbdask_peers.json"


@dataclass(frozen=True)
class Peers:
    """Python of the environment, and why a tool is missing from it (empty where it is there)."""

    python: Path
    stcal: str
    ohana: str


def cache_folder() -> Path:
    """Where the environment is built unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fmbdask" / "peers"


def peer_environment(folder: Path | None = None, report: Report | None = None) -> Peers:
    """Open the environment, and build it where it is not there yet.

    Parameters
    ----------
    folder : Path, optional
        Where it is or will be.
    report : callable, optional
        Called with (parts done, parts, text).

    Returns
    -------
    Peers

    Raises
    ------
    ConfigError
        If the folder is the environment that runs this, or holds something else.
    InputError
        If neither of the tools can be installed.
    """
    folder = (folder or cache_folder()).expanduser().absolute()
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if folder.exists() and folder.resolve() == Path(sys.prefix).resolve():
        raise ConfigError(f"{folder} is the environment that runs fmbdask: name another folder with --env.")
    ready = folder / READY
    if ready.exists():
        known = json.loads(ready.read_text(encoding="utf-8"))
        return Peers(python, known["stcal"], known["ohana"])
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise ConfigError(f"{folder} holds other files: name an empty folder with --env.")
    shutil.rmtree(folder, ignore_errors=True)
    stages = (STCAL, TORCH, OHANA_NEEDS, OHANA)

    def tell(done: int, text: str) -> None:
        if report:
            report(done, len(stages) + 1, text)

    tell(0, "building the environment of the other tools, once")
    run([sys.executable, "-m", "venv", str(folder)])
    missing = {"stcal": "", "ohana": ""}
    for k, packages in enumerate(stages, 1):
        tell(k, f"installing {packages[-1]}")
        tool = "stcal" if packages is STCAL else "ohana"
        if not missing[tool]:
            missing[tool] = run([str(python), "-m", "pip", "install", "--quiet", *packages])
    if missing["stcal"]:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"stcal could not be installed into {folder} ({missing['stcal']}): connect to the network and "
            "run this again, or name an environment that an earlier run built with --env."
        )
    tell(len(stages) + 1, "environment of the other tools")
    # where only ohana failed, a later run tries it again
    (ready if not missing["ohana"] else folder / "unfinished.json").write_text(
        json.dumps(missing), encoding="utf-8"
    )
    return Peers(python, **missing)


def run(command: Sequence[str], timeout: float | None = None) -> str:
    """Run a command; returns the last line of its errors, empty where it succeeded."""
    ours = () if command[0] == sys.executable else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    clean = {k: v for k, v in os.environ.items() if k not in ours}
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        command, env=clean | one_core, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit status {done.returncode}"
