"""A real Slurm of a few nodes on one Debian machine, to be broken by tests.

    python tests/slurm/minicluster.py up /tmp/mini && . /tmp/mini/env.sh && sinfo
    python tests/slurm/minicluster.py kill /tmp/mini n2
    python tests/slurm/minicluster.py down /tmp/mini

Needs root and apt, but neither systemd nor cgroups nor containers: a node is a slurmd in namespaces of its
own (processes, host name, mounts, network), joined to this machine by a bridge. What `up` starts, and only
that, ends with `down`. Everything lies in one folder, and bridge, subnet and port are drawn from its name,
so that clusters do not get into each other's way.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NODES, CPUS, MEMORY, GPUS = 4, 4, 8000, 2
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "iproute2")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip")

CONFIGURATION = """\
ClusterName=mini
SlurmctldHost={host}({head})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
# Nodes have as many CPUs and as much memory as is said here, whatever the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
# Quick to see that a node is silent, and to take it back.
SlurmdTimeout=10
MessageTimeout=5
TCPTimeout=2
KillWait=5
UnkillableStepTimeout=20
BatchStartTimeout=5
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5,sched_min_interval=100000,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=DEFAULT Port={slurmd_port} CPUs={cpus} RealMemory={memory} Gres=gpu:fake:{gpus}
NodeName=n[1-{nodes}] NodeAddr={subnet}.[11-{last}]
PartitionName=normal Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=60 PriorityTier=10 PreemptMode=OFF
# Jobs on the least loaded node, where normal fills one node after the other.
PartitionName=spread Nodes=ALL LLN=YES MaxTime=1-0 DefaultTime=60 PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=5 DefaultTime=1 PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=ALL MaxTime=1-0 DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
"""

#: First process of a node: waits for its network, then starts slurmd and buries orphans. It outlives slurmd,
#: as a machine does. -b says that the node has just started, so that jobs it no longer knows are over.
INIT = """
read -r _
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs none "$2/headonly"
trap 'exit 0' TERM
slurmd -b -D -N "$1" -f "$2/slurm.conf" </dev/null &
while :; do wait -n || true; sleep 0.2; done
"""


class MiniSlurm:
    """The cluster whose state is in a folder.

    ``headonly/`` in the folder can be seen here, but not on the nodes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        number = int(hashlib.sha256(str(self.folder).encode()).hexdigest(), 16)
        self.bridge = f"mini{number % 16**6:06x}"
        self.subnet = f"10.{64 + number % 64}.{number // 64 % 250}"
        self.port = 21000 + 2 * (number // 16000 % 5000)
        self.nodes = [f"n{index}" for index in range(1, NODES + 1)]

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    # ---- the whole cluster

    def up(self) -> None:
        """Install what is missing, start everything, and wait until all nodes are idle."""
        install()
        for name in ("run", "log", "state", "spool", "tmp", "dev", "headonly"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._write_files()
        self._start_munge()
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        run("slurmctld", "-i", "-f", str(self.folder / "slurm.conf"), env=self.environment)
        for node in self.nodes:
            self.start(node)
        self.wait_idle()

    def wait_idle(self, seconds: float = 60) -> None:
        """Wait until every node is up and takes jobs, and nothing runs."""
        deadline = time.monotonic() + seconds
        while states := [state for state in self.states().values() if state != "idle"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nodes are {states} after {seconds} s; see {self.folder}/log")
            time.sleep(0.2)

    def wait_up(self, seconds: float = 60) -> None:
        """Wait until every node takes jobs."""
        deadline = time.monotonic() + seconds
        while bad := {
            node: s for node, s in self.states().items() if s not in ("idle", "mixed", "allocated")
        }:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nodes are {bad} after {seconds} s; see {self.folder}/log")
            time.sleep(0.2)

    def mend(self) -> None:
        """Undo whatever was done to nodes."""
        for node in self.nodes:
            try:
                self.thaw(node)
                self.join(node)
            except (OSError, RuntimeError):
                self.kill(node)
                self.start(node)

    def states(self) -> dict[str, str]:
        """State of each node."""
        listed = self.client("sinfo", "-h", "-N", "-p", "normal", "-o", "%N %T").split()
        found = dict(zip(listed[::2], listed[1::2], strict=True))
        return {node: found.get(node, "unknown") for node in self.nodes}

    def down(self) -> None:
        """End what was started: the controller first, so that it moves no jobs about; then the nodes."""
        for name in ("slurmctld", *(f"node.{node}" for node in self.nodes), "munged"):
            self._end(name)
        if shutil.which("ip"):
            subprocess.run(["ip", "link", "del", self.bridge], stderr=subprocess.DEVNULL, check=False)

    # ---- one node

    def start(self, node: str) -> None:
        """Power on."""
        log = (self.folder / "log" / f"{node}.out").open("a")
        spaces = ["--pid", "--uts", "--mount", "--net", "--fork", "--kill-child", "--mount-proc"]
        process = subprocess.Popen(
            ["unshare", *spaces, "bash", "-c", INIT, "node", node, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        (self.folder / "run" / f"node.{node}.pid").write_text(str(process.pid))
        pid, veth = str(self._init_of(node)), self._veth(node)
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "link", "set", veth, "master", self.bridge, "up")
        inside = ("nsenter", "--target", pid, "--net", "ip")
        run(*inside, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            run(*inside, "link", "set", device, "up")
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()

    def kill(self, node: str) -> None:
        """Power loss: the network is dead at once and says no farewell, then so is everything else."""
        subprocess.run(["ip", "link", "del", self._veth(node)], check=False)
        self._end(f"node.{node}", signal.SIGKILL)

    def freeze(self, node: str) -> None:
        """Nothing on the node runs any more."""
        for pid in self.pids(node):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        """It all goes on."""
        for pid in self.pids(node):
            os.kill(pid, signal.SIGCONT)

    def cut(self, node: str) -> None:
        """Unplug the network."""
        run("ip", "link", "set", self._veth(node), "down")

    def join(self, node: str) -> None:
        """Plug the network in again."""
        run("ip", "link", "set", self._veth(node), "up")

    def address(self, node: str) -> str:
        """IP address of a node."""
        return f"{self.subnet}.{10 + int(node[1:])}"

    def pids(self, node: str) -> list[int]:
        """Processes of a node, as this machine numbers them."""
        space = os.readlink(f"/proc/{self._init_of(node)}/ns/pid")
        return [pid for pid, other in pid_namespaces() if other == space]

    def runs(self, pid: int, word: str) -> bool:
        """Whether a process has a word in its command line, or in that of its parent."""
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, parent)]
        except OSError:
            return False
        return any(word.encode() in line.split(b"\0") for line in lines)

    def client(self, *command: str) -> str:
        """Output of a Slurm command."""
        return run(*command, env=self.environment)

    # ---- inside

    def _veth(self, node: str) -> str:
        return f"{self.bridge}{node}"

    def _init_of(self, node: str) -> int:
        """First process of a node, as this machine numbers it."""
        parent = int((self.folder / "run" / f"node.{node}.pid").read_text())
        deadline = time.monotonic() + 20
        while not (children := Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"node {node} does not start: see {self.folder}/log/{node}.out")
            time.sleep(0.02)
        return int(children[0])

    def _end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process of a pid file if it is the one that was started, and wait for its end."""
        file = self.folder / "run" / f"{name}.pid"
        if not file.exists():
            return
        pid, program = int(file.read_text()), "unshare" if name.startswith("node.") else name
        file.unlink()
        if command_of(pid) != program:
            return
        if program == "unshare":  # --kill-child: all of the node dies with it
            how = signal.SIGKILL
        os.kill(pid, how)
        deadline = time.monotonic() + 10
        while command_of(pid) == program:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            if program == "unshare":  # a child of this process, or of nobody
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "run/munged.pid"}
        names |= {"log-file": "log/munged.log", "seed-file": "munge.seed"}
        run("munged", *(f"--{option}={self.folder / name}" for option, name in names.items()))

    def _write_files(self) -> None:
        host = socket.gethostname()
        text = CONFIGURATION.format(
            host=host,
            head=f"{self.subnet}.1",
            folder=self.folder,
            port=self.port,
            slurmd_port=self.port + 1,
            subnet=self.subnet,
            nodes=NODES,
            last=10 + NODES,
            cpus=CPUS,
            memory=MEMORY,
            gpus=GPUS,
        )
        (self.folder / "slurm.conf").write_text(text)
        for index in range(GPUS):  # a file stands for a GPU; its number becomes CUDA_VISIBLE_DEVICES
            (self.folder / "dev" / f"gpu{index}").touch()
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{NODES}] Name=gpu Type=fake File={self.folder}/dev/gpu[0-{GPUS - 1}]\n"
        )
        hosts = [f"{self.address(node)} {node}" for node in self.nodes]
        hosts += ["127.0.0.1 localhost", f"{self.subnet}.1 {host}"]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        (self.folder / "env.sh").write_text(f"export SLURM_CONF={self.folder}/slurm.conf\n")


def why_not() -> str | None:
    """Why such a cluster cannot be had on this machine; None if it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    if not all(map(shutil.which, PROGRAMS)) and not shutil.which("apt-get"):
        return "Slurm is not installed, and only on Debian is it installed by the tests"
    trial = subprocess.run(
        ["unshare", "--pid", "--uts", "--mount", "--net", "--fork", "--mount-proc", "true"],
        capture_output=True,
    )
    return None if trial.returncode == 0 else "this machine does not permit namespaces (unshare)"


def install() -> None:
    """Install what is missing, without starting the daemons that the packages would start."""
    if all(map(shutil.which, PROGRAMS)):
        return
    policy = Path("/usr/sbin/policy-rc.d")
    mine = not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        options = ("-q", "-o", "DPkg::Lock::Timeout=300")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", *options, "update", env=quiet)
        run("apt-get", *options, "install", "-y", "--no-install-recommends", *PACKAGES, env=quiet)
    finally:
        if mine:
            policy.unlink()


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a command; its output, or an error that quotes it."""
    done = subprocess.run(
        command, env=os.environ | (env or {}), text=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def command_of(pid: int) -> str | None:
    """Name of a process' program; None when it is gone (or waits to be buried)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    return None if rest.split()[0] == "Z" else name


def pid_namespaces() -> Iterator[tuple[int, str]]:
    """Every process and its pid namespace."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield int(entry.name), os.readlink(entry / "ns" / "pid")
        except OSError:
            continue


def main(what: str, folder: str, node: str | None = None) -> None:
    """One command of this script."""
    cluster = MiniSlurm(folder)
    if what in ("up", "down"):
        getattr(cluster, what)()
    elif what in ("start", "kill", "freeze", "thaw", "cut", "join") and node in cluster.nodes:
        getattr(cluster, what)(node)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
