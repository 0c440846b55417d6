"""The job scripts of jobs/, submitted as their heads say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import EXPOSURES, ROOT, Survey
from .minicluster import MiniSlurm

JOBS = ROOT / "jobs"


@pytest.fixture(autouse=True)
def program_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job gets the environment of whoever submits it."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def submit(survey: Survey, script: str, *words: str | Path, options: tuple[str, ...] = ()) -> str:
    """Submit a script from the survey's folder, with less memory than it asks for by itself."""
    command = ["sbatch", "--parsable", f"--chdir={survey.folder}", "--mem=1500", *options]
    return survey.slurm.client(*command, str(JOBS / script), *map(str, words)).strip()


def ends(survey: Survey, *jobs: str, seconds: float = 180) -> str:
    """Wait until jobs have ended well; what they wrote."""
    listing = ("squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%T")
    running = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}
    survey.wait(lambda: not running & set(survey.slurm.client(*listing).split()), seconds)
    logs = "\n".join(path.read_text() for path in sorted(survey.folder.glob("*.log")))
    assert set(survey.slurm.client(*listing).split()) == {"COMPLETED"}, logs
    return logs


def test_coordinator(survey: Survey) -> None:
    site = survey.site(workers=2)
    job = submit(survey, "survey_coordinator.sbatch", site, "run", survey.configure())
    said = ends(survey, job)
    assert f"{EXPOSURES} of {EXPOSURES} inputs done" in said
    survey.check_complete(once=True)
    assert {r.worker.partition("/")[0] for r in survey.records() if r.kind == "ended"} <= {
        "n1",
        "n2",
        "n3",
        "n4",
    }


def test_runner(survey: Survey) -> None:
    site = survey.site(memory="400MB")
    config = survey.configure()
    options = ("--ntasks=4", "--nodes=2", "--mem-per-cpu=700")
    job = survey.slurm.client(
        "sbatch", "--parsable", f"--chdir={survey.folder}", *options, str(JOBS / "survey_runner.sbatch"),
        str(site), "run", str(config),
    ).strip()  # fmt: skip
    ends(survey, job)
    survey.check_complete(once=True)
    assert any("began with 2 threads (runner)" in note for note in survey.notes())
    assert not list(survey.folder.glob(".fmbdask-scheduler-*"))


def test_gpu_pool_beside_a_cpu_pool(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    site = survey.site(workers=1, gpu={"workers": 1})
    monkeypatch.setenv("FMBDASK_SITE", str(site))
    config = survey.configure("both")
    job = submit(survey, "survey_gpu.sbatch", "run", config)
    ends(survey, job)
    workers: list[set[str]] = [set(), set()]
    for record in survey.records():
        if record.kind == "ended" and record.unit.region >= 0:
            workers[record.unit.stage].add(record.worker)
    assert len(workers[0]) == len(workers[1]) == 1
    assert workers[0] != workers[1]


def test_job_array_and_what_follows_it(survey: Survey) -> None:
    site = survey.site()
    survey.call("plan", survey.configure())
    run = survey.run.path
    array = submit(survey, "survey_array.sbatch", site, run, "3", options=("--array=1-3",))
    finish = submit(survey, "survey_finish.sbatch", site, run, options=(f"--dependency=afterany:{array}",))
    said = ends(survey, array, finish)
    assert f"{EXPOSURES} of {EXPOSURES} inputs done" in said
    survey.check_complete(once=True)


def test_ramps_scripts(survey: Survey) -> None:
    shutil.copytree(ROOT / "configs", survey.folder / "configs")
    small = survey.folder / "small.yaml"
    small.write_text("image_shape: [64, 64]\nnum_frames: 24\n")
    options = ("--array=0-1",)
    ends(survey, submit(survey, "ramps_simulate.sbatch", small, "data", options=options))
    made = sorted((survey.folder / "data").glob("*.fits"))
    assert len(made) == 2
    config = survey.folder / "configs" / "ramps" / "h2rg.yaml"
    ends(survey, submit(survey, "ramps_detect.sbatch", config, "out", *made, options=("--cpus-per-task=2",)))
    assert len(list((survey.folder / "out").glob("*/detections.parquet"))) == 2


def test_a_command_of_one_process_as_a_job(survey: Survey, nodes: MiniSlurm) -> None:
    site = survey.site(workers=1, memory="1GB")
    survey.configure()
    words = ("ramps", "ingest", f"{survey.folder}/data/exposure 0.npy", "-o", "out")
    command = [sys.executable, "-m", "fmbdask", *words, "--cluster", str(site)]
    done = subprocess.run(command, cwd=survey.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs this command" in done.stdout
    job = done.stdout.split()[2]
    ends(survey, job)
    assert list((survey.folder / "out").iterdir())
