"""`fmbdask cluster`: what the site's file makes of jobs, and what is said where there is no Slurm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def fmbdask(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fmbdask", "cluster", *words]
    return subprocess.run(
        command, cwd=folder, env=environment or None, capture_output=True, text=True, check=False
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(
        "queue: long one\nmodules: [python/3.12]\nenvironment: {A: \"it's\"}\nprologue: ['true']\n"
    )
    return path


def test_script_is_what_would_be_submitted(site: Path) -> None:
    done = fmbdask("script", str(site), folder=site.parent)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH '--partition=long one'" in done.stdout
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    done = fmbdask("script", str(site), "--pool", "gpu", folder=site.parent)
    assert done.returncode == 1
    assert "describes no gpu jobs, only cpu: add a section gpu" in done.stderr


def test_prologue_is_for_a_shell_to_evaluate(site: Path) -> None:
    site.write_text(site.read_text().replace("modules: [python/3.12]\n", ""))
    done = fmbdask("prologue", str(site), folder=site.parent)
    told = subprocess.run(
        ["bash", "-euc", 'eval "$1"; printf %s "$A"', "bash", done.stdout], capture_output=True, text=True
    )
    assert told.stdout == "it's"


def test_check_without_slurm_says_so(site: Path) -> None:
    done = fmbdask("check", str(site), folder=site.parent, PATH=str(site.parent))
    assert done.returncode == 1
    assert "sinfo is not on this machine" in done.stderr
    site.write_text("kind: local\n")
    done = fmbdask("check", str(site), folder=site.parent)
    assert "only kind slurm has jobs to try" in done.stderr
