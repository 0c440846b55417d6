"""Job scripts: run by a real shell, with a stub for Slurm and for Python, and names that would do harm."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.cluster.config import ClusterConfig
from fmbdask.cluster.scripts import in_double_quotes, pools, script, worker_script

NASTY = "a b'c\"d$(touch harm)`touch harm`;touch harm&é%j#"
#: Writes its arguments and some of its environment, instead of working.
STUB = """#!{python}
import json, os, sys
json.dump([sys.argv[1:], dict(os.environ)], open({answer!r}, "w"))
"""


def run_script(text: str, folder: Path, **variables: str) -> tuple[int, str]:
    path = folder / "job.sh"
    path.write_text(text)
    environment = os.environ | {"SLURM_JOB_ID": "7", "TMPDIR": str(folder / "tmp")} | variables
    done = subprocess.run(
        ["bash", str(path)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def stub(folder: Path, name: str = "py") -> tuple[Path, Path]:
    path, answer = folder / name, folder / "answer.json"
    path.write_text(STUB.format(python=sys.executable, answer=str(answer)))
    path.chmod(0o755)
    return path, answer


def test_what_comes_from_yaml_is_quoted(tmp_path: Path) -> None:
    python, answer = stub(tmp_path, NASTY.replace("/", ""))
    config = ClusterConfig(
        python=str(python),
        account=NASTY,
        queue=NASTY,
        environment={"NASTY": NASTY},
        interface=NASTY,
        scratch=f"{tmp_path}/s{NASTY}/$SLURM_JOB_ID",
        job_directives=(f"--comment={NASTY}",),
    )
    pool = pools(config, 2, 10**9)["cpu"]
    text = worker_script(
        config, pool, name="n", worker="cpu-1", scheduler="tcp://x:1", log_folder=tmp_path / NASTY
    )
    status, errors = run_script(text, tmp_path)
    assert (status, errors) == (0, "")
    arguments, environment = json.loads(answer.read_text())
    assert arguments[arguments.index("--interface") + 1] == NASTY
    assert environment["NASTY"] == NASTY
    assert arguments[arguments.index("--local-directory") + 1] == f"{tmp_path}/s{NASTY}/7/fmbdask-7"
    assert not list(tmp_path.rglob("harm"))
    options = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {f"--account={NASTY}", f"--partition={NASTY}", f"--comment={NASTY}"} <= set(options)
    assert f"--output={tmp_path}/{NASTY.replace('%', '%%')}/worker-%j.log" in options


def test_a_job_knows_its_end_and_removes_its_scratch_folder(tmp_path: Path) -> None:
    python, answer = stub(tmp_path)
    config = ClusterConfig(python=str(python), walltime="00:10:00")
    text = worker_script(
        config,
        pools(config, 1, 10**9)["cpu"],
        name="n",
        worker="w",
        scheduler="tcp://x:1",
        log_folder=tmp_path,
    )
    assert run_script(text, tmp_path, SLURM_JOB_END_TIME="1234")[0] == 0
    arguments, environment = json.loads(answer.read_text())
    assert environment["FMBDASK_JOB_END"] == "1234"
    assert arguments[arguments.index("--memory-limit") + 1] == "0"
    assert list((tmp_path / "tmp").iterdir()) == []
    before = int(subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout)
    environment = os.environ.copy()
    environment.pop("SLURM_JOB_END_TIME", None)
    assert run_script(text, tmp_path)[0] == 0
    end = int(json.loads(answer.read_text())[1]["FMBDASK_JOB_END"])
    assert before + 600 <= end <= before + 660


def test_a_module_that_is_missing_ends_the_job(tmp_path: Path) -> None:
    python, answer = stub(tmp_path)
    config = ClusterConfig(python=str(python), modules=("no module",))
    pool = pools(config, 1, 10**9)["cpu"]
    text = worker_script(config, pool, name="n", worker="w", scheduler="s", log_folder=tmp_path)
    assert run_script(text, tmp_path)[0] == 81
    assert not answer.exists()


def test_kinds_of_jobs_offer_what_tasks_ask_for() -> None:
    config = ClusterConfig.model_validate(
        {"processes": 4, "threads": 2, "large": {"memory": "8GB"}, "gpu": {"gpus": 2}}
    )
    found = pools(config, 10, 10**9)
    assert [(p.name, p.jobs, dict(p.offers)) for p in found.values()] == [
        ("cpu", 3, {"slots": 2}),
        ("large", 1, {"large": 1}),
        ("gpu", 1, {"GPU": 2}),
    ]
    assert found["cpu"].asked == 4 * (1.25e9 + 3e8)
    only_gpu = pools(config, 0, 10**9)
    assert only_gpu["cpu"].jobs == 0
    assert dict(only_gpu["gpu"].offers) == {"GPU": 2, "slots": 2}


@given(st.lists(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), min_size=1), max_size=4))
def test_options_survive_quoting(options: list[str]) -> None:
    lines = script(options, ["true"]).split("\n")
    assert [shlex.split(line, comments=False)[1] for line in lines if line.startswith("#SBATCH ")] == options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${TMPDIR:-/tmp}", "/t"),
        ("$TMPDIR/$NONE/x", "/t//x"),
        ("${NONE:-/tmp}/a b", "/tmp/a b"),
        ("$(echo harm)`echo harm`\\", "$(echo harm)`echo harm`\\"),
        ("${TMPDIR:-$(echo harm)}", "${TMPDIR:-$(echo harm)}"),
        ('"$', '"$'),
    ],
)
def test_only_variables_are_looked_up(text: str, value: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"printf %s {in_double_quotes(text)}"],
        env={"TMPDIR": "/t"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == value
