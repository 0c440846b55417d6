"""`--cluster FILE` and `--slurm`: the same command as a job, with all its other words, quoted."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from fmbdask.cli.app import main
from fmbdask.cli.elsewhere import without_cluster
from fmbdask.cluster.config import ClusterConfig
from fmbdask.cluster.submit import command_script


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that keeps the script it is given and takes the job as number 17."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "sbatch"
    program.write_text(f"#!/bin/sh\ncat > {shlex.quote(str(tmp_path / 'script'))}\necho '17;here'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "script"


@pytest.mark.parametrize("place", [["--cluster", "site.yaml"], ["--cluster=site.yaml"], ["--slurm"]])
def test_all_other_words_are_passed_on(
    place: list[str], sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = "kind: slurm\nqueue: short\nmodules: [python/3.12]\nworkers: 2\n"
    Path("site.yaml").write_text(site)
    Path("configs/cluster").mkdir(parents=True)
    Path("configs/cluster/slurm.yaml").write_text(site)
    with pytest.raises(SystemExit) as end:
        main(["ramps", "detect", "a file; rm -rf x.fits", *place, "-o", "out", "--gain", "1.5"])
    assert end.value.code == 0
    lines = sbatch.read_text().splitlines()
    assert shlex.split(lines[-1])[2:] == [
        "-m", "fmbdask", "ramps", "detect", "a file; rm -rf x.fits", "-o", "out", "--gain", "1.5",
    ]  # fmt: skip
    assert any("module load python/3.12" in line for line in lines)
    assert "#SBATCH --partition=short" in lines
    assert "#SBATCH --cpus-per-task=2" in lines
    said = capsys.readouterr().out
    assert "job 17" in said
    assert "fmbdask-ramps-detect-17.log" in said


def test_without_a_site_file_slurm_says_what_to_do(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ramps", "ingest", "x.fits", "-o", "out", "--slurm"])
    assert end.value.code == 1
    assert "fmbdask init" in capsys.readouterr().err


def test_another_kind_of_cluster_is_refused(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("site.yaml").write_text("kind: local\n")
    with pytest.raises(SystemExit):
        main(["bench", "truth", "--cluster", "site.yaml"])
    assert "of kind local" in capsys.readouterr().err
    assert not sbatch.exists()


def test_words_after_two_dashes_are_left_alone() -> None:
    assert without_cluster(["a", "--slurm", "--", "--slurm", "--cluster"]) == [
        "a",
        "--",
        "--slurm",
        "--cluster",
    ]


def test_the_script_begins_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    text = command_script(["bench", "kernels"], ClusterConfig(kind="slurm"), tmp_path)
    assert f"cd {shlex.quote(str(folder))} || exit 1" in text.splitlines()
