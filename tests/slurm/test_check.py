"""`fmbdask cluster check` with right settings, and with each wrong one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fmbdask.cluster.check import check
from fmbdask.cluster.config import read_cluster

from .conftest import Survey


def findings(survey: Survey, folder: Path | None = None, seconds: float = 60, **settings: Any) -> list[str]:
    """What is found wrong, as setting and problem."""
    config = read_cluster(survey.site(**settings))
    checked = check(config, folder=folder or survey.folder, seconds=seconds)
    return [f"{each.pool}: {finding}" for each in checked for finding in each.findings]


def test_right_settings(survey: Survey) -> None:
    config = read_cluster(survey.site(gpu={"workers": 1}, large={"memory": "1GB"}, processes=2))
    checked = {each.pool: each for each in check(config, folder=survey.folder)}
    assert [each.findings for each in checked.values()] == [(), (), ()]
    assert list(checked) == ["cpu", "large", "gpu"]
    assert "eth0 10." in checked["cpu"].text
    assert not list(survey.folder.glob(".fmbdask-check*"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"queue": "nosuch"}, "cpu: queue: Slurm knows no nosuch; it knows normal, scavenge, short, spread"),
        ({"interface": "ib0"}, "cpu: interface: there is no ib0 on node n1; there are eth0"),
        ({"interface": "lo"}, "cpu: interface: this machine cannot be reached from node n1"),
        (
            {"scheduler_interface": "ib7"},
            "cpu: scheduler_interface: this machine has no network interface ib7",
        ),
        ({"python": "/no/python"}, "cpu: python: /no/python does not run on node n1"),
        ({"python": "{bare}"}, "on node n1 cannot import fmbdask (ModuleNotFoundError"),
        ({"memory": "90GB"}, "cpu: memory: a job of 1 workers asks for 107574 MB, nodes have 8000 MB"),
        ({"threads": 64}, "cpu: threads: a job asks for 64 cores, nodes have 4"),
        ({"queue": "short", "walltime": "02:00:00"}, "cpu: walltime: "),
        ({"scratch": "/proc/none"}, "cpu: scratch: /proc/none cannot be written on node n1"),
        ({"modules": ["astro/1"]}, "cpu: modules: one cannot be loaded on node n1"),
        ({"prologue": ["exit 3"]}, "cpu: prologue: the job ended as FAILED with exit status 3"),
        ({"gpu": {"gres": "gpu:9"}}, "gpu: gpu.gres: "),
        ({"job_directives": ["--constraint=none"]}, "cpu: job_directives: sbatch failed: "),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named(survey: Survey, settings: dict[str, Any], words: str) -> None:
    if settings.get("python") == "{bare}":
        bare = survey.folder / "bare python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        bare.chmod(0o755)
        settings = {"python": str(bare)}
    assert any(words in found for found in findings(survey, **settings)), findings(survey, **settings)


def test_a_folder_that_nodes_do_not_see(survey: Survey) -> None:
    hidden = survey.slurm.folder / "headonly"
    assert findings(survey, hidden) == [
        f"cpu: folder: {hidden} cannot be seen on node n1; "
        "run where all nodes see the folder, and write runs to such a place"
    ]


def test_a_queue_that_is_full_is_no_mistake(survey: Survey) -> None:
    job = survey.slurm.client(
        "sbatch", "--parsable", "-N4", "--exclusive", "--output=/dev/null", "--wrap", "sleep 60"
    ).strip()
    survey.wait(lambda: survey.slurm.client("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING")
    [found] = findings(survey, seconds=3)
    assert "has not ended in time: it is PENDING" in found
    assert "nothing need be wrong" in found
