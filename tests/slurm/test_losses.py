"""Jobs, nodes and networks are lost under a run: it ends complete, with the bits of one left alone."""

from __future__ import annotations

import os
import signal
import time

from fmbdask.cluster.jobs import record_job
from fmbdask.cluster.opening import open_cluster

from .conftest import Survey
from .minicluster import MiniSlurm


def test_job_cancelled_node_killed_frozen_and_cut(survey: Survey, nodes: MiniSlurm) -> None:
    site = survey.site()
    run = survey.start_gated(site)
    survey.gate_workers(3)

    [first, *_] = survey.jobs()
    nodes.client("scancel", first)
    survey.happens(" was cancelled: job ")
    survey.gate_workers(3)

    for how, undo in (("kill", "start"), ("freeze", "thaw"), ("cut", "join")):
        node = survey.hosts()[0]
        getattr(nodes, how)(node)
        survey.happens(f"on {node} ended because its node went down: job ")
        getattr(nodes, undo)(node)
        survey.gate_workers(3)
        nodes.wait_up()

    survey.gate.unlink()
    assert survey.ends(run) == 0, survey.said()
    survey.check_complete()
    assert survey.wait(lambda: not survey.jobs())


def test_preempted_by_a_job_of_more_importance(survey: Survey, nodes: MiniSlurm) -> None:
    site = survey.site(queue="scavenge")
    run = survey.start_gated(site)
    survey.gate_workers(3)
    other = nodes.client(
        "sbatch",
        "--parsable",
        "-p",
        "normal",
        "-N4",
        "--exclusive",
        "--output=/dev/null",
        "--wrap",
        "sleep 60",
    )
    survey.happens("was preempted: job ")
    assert survey.hosts() == []
    nodes.client("scancel", other.strip())
    survey.gate_workers(3)
    survey.gate.unlink()
    assert survey.ends(run) == 0, survey.said()
    survey.check_complete()


def test_coordinator_killed_then_stopped_beside_a_run_that_meets_its_walltime(
    survey: Survey, another: Survey
) -> None:
    # a plan refuses a walltime that is hardly longer than a job takes to start: here an option shortens it
    short = another.site(workers=1, walltime="00:02:00", job_directives=["--time=1"])
    # 24 regions of 3 s on one worker: longer than a job, which begins none that it could not end
    patient = another.start("run", another.configure(options={"seconds": 3.0}), "--cluster", short)

    site = survey.site()
    run = survey.start_gated(site)
    survey.gate_workers(3)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    survey.wait(lambda: not survey.jobs())  # without a coordinator they end by themselves

    sbatch = ("sbatch", "--parsable", f"--job-name={survey.job_name}", "--begin=now+1hour")
    left = survey.slurm.client(
        *sbatch, "--output=/dev/null", "--wrap", "true"
    ).strip()  # as one that still waited when the coordinator died
    record_job(survey.run.logs, left, survey.job_name)
    survey.call("stop", survey.run.path)
    assert not survey.jobs()

    again = survey.start("resume", survey.run.path, "--cluster", site)
    survey.gate_workers(3)
    survey.call("stop", survey.run.path)
    assert survey.ends(again) == 1
    survey.wait(lambda: not survey.jobs())
    assert "fmbdask survey resume" in survey.said()

    survey.gate.unlink()
    survey.call("resume", survey.run.path, "--cluster", site)
    survey.check_complete()

    assert another.ends(patient) == 0, another.said()
    another.check_complete(once=True)
    assert any("nears its walltime: job " in note for note in another.notes()), another.notes()
    assert not [record for record in another.records() if record.kind in ("lost", "failed")]


def test_a_worker_that_does_not_even_let_itself_be_killed(survey: Survey, nodes: MiniSlurm) -> None:
    site = survey.site(workers=1, large={"memory": "1GB"})
    with open_cluster(site, memory=300 * 10**6, log_folder=survey.run.logs) as cluster:
        survey.wait(lambda: cluster.slots() == 1)
        [worker] = cluster.client.scheduler_info(n_workers=-1)["workers"]
        assert cluster.larger()
        ask = cluster.resources({}, alone=True, large=True)
        assert cluster.client.submit(os.getenv, "SLURM_JOB_ID", resources=ask).result(60) == cluster.jobs()[1]
        assert (cluster.allowance(), cluster.allowance(large=True)) == (300 * 10**6, 10**9)
        frozen = [pid for node in nodes.nodes for pid in nodes.pids(node) if nodes.runs(pid, "cpu-1")]
        for pid in frozen:  # slurmd goes on, so Slurm sees nothing
            os.kill(pid, signal.SIGSTOP)
        future = cluster.client.submit(time.sleep, 0, workers=[worker], pure=False)
        cluster.restart(worker)
        said: list[str] = []
        survey.wait(lambda: said.extend(cluster.top_up()) or any("does not answer" in each for each in said))
        survey.wait(lambda: cluster.slots() == 1)
        assert worker not in cluster.client.scheduler_info(n_workers=-1)["workers"]
        assert future.status == "error"
        for pid in frozen:
            if nodes.runs(pid, "cpu-1"):
                os.kill(pid, signal.SIGCONT)
    survey.wait(lambda: not survey.jobs())


def test_several_workers_in_a_job(survey: Survey, nodes: MiniSlurm) -> None:
    site = survey.site(workers=4, processes=2)
    with open_cluster(site, memory=200 * 10**6, log_folder=survey.run.logs) as cluster:
        survey.wait(lambda: cluster.slots() == 4)
        before = cluster.jobs()
        assert len(before) == 2
        nodes.client("scancel", before[0])
        said: list[str] = []
        survey.wait(lambda: said.extend(cluster.top_up()) or said)
        assert [note.partition(": job ")[0][-13:] for note in said] == ["was cancelled"]
        survey.wait(lambda: cluster.slots() == 4)
        assert len(cluster.jobs()) == 2
        assert before[1] in cluster.jobs()
    survey.wait(lambda: not survey.jobs())


def test_jobs_that_cannot_work_end_the_run_with_a_sentence(survey: Survey) -> None:
    site = survey.site(workers=1, prologue=["echo no such thing here; exit 1"])
    survey.call("run", survey.configure(), "--cluster", site, status=1)
    said = " ".join(survey.said().split())
    assert "3 jobs in a row ended before their worker appeared; the last: job" in said
    assert "ends with: no such thing here" in said
    assert "fmbdask cluster check" in said
    assert not survey.jobs()
