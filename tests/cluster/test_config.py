"""The site's file: what it may say, and what is said of mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmbdask.cluster.config import ClusterConfig, parse_size, parse_walltime, read_cluster
from fmbdask.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("1:30", 90),
        ("01:00:00", 3600),
        ("2-0", 172800),
        ("1-01:30", 91800),
        ("1-00:00:01", 86401),
    ],
)
def test_walltimes_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert parse_walltime(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("512MiB", 2**29), ("1.5g", 15 * 10**8)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.yaml")), ids=lambda p: p.stem)
def test_templates_are_read(path: Path) -> None:
    assert read_cluster(path).kind == ("local" if path.stem == "local" else "slurm")


def test_kinds_addresses_and_files_are_told_apart(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("kind: slurm\nthreads: 3\nwalltime: 1:30:00\n")  # YAML reads this time as a number
    assert read_cluster("threads").kind == "threads"
    assert read_cluster("tcp://host:8786").address == "tcp://host:8786"
    assert read_cluster(site).walltime == "1:30:00"
    runner = read_cluster(f"runner:{site}")
    assert (runner.kind, runner.threads) == ("runner", 3)
    with pytest.raises(ConfigError, match="no kind of cluster: give local"):
        read_cluster("slurrm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker: 3", "no setting worker; the nearest is workers"),
        ("memory: lots", "memory must be a size such as 2GB"),
        ("walltime: soon", "walltime must be a time such as"),
        ("walltime: '0:30'", "at least one minute"),
        ('queue: "a\\nb"', "one line without control characters"),
        ('job_directives: ["x"]', "write options of sbatch as --name=value"),
        ("environment: {a b: c}", "no name of an environment variable"),
        ("kind: tcp", "needs the address"),
        ("gpu: {gress: 1}", "gpu.gres"),
    ],
)
def test_mistakes_are_named_with_their_file(text: str, message: str, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(text + "\n")
    with pytest.raises(ConfigError, match=message) as caught:
        read_cluster(site)
    assert str(site) in str(caught.value)


def test_a_configuration_is_passed_on() -> None:
    config = ClusterConfig(kind="local", workers=2)
    assert read_cluster(config) is config


def test_a_runner_has_the_tasks_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "6")
    assert read_cluster("runner").workers == 4
    assert read_cluster("local").workers is None
