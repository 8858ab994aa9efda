"""A real SLURM for one test session: munged, slurmctld, and one slurmd per virtual node, with its own folder and ports.

The daemons run in the foreground as children of the test process and die with it. Nodes are named by loopback addresses
(127.0.0.2, 127.0.0.3, ...), so that a job's MASTER_ADDR resolves without an entry in /etc/hosts.
"""

import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from tests.support.ports import free_ports

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol"]
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG = 1
_LAST_MESSAGES_S = 3
GPU_TYPE = "test"
"""Type of the nodes' GPUs."""

# SLURM's timeouts are long where a loaded machine might exceed them, and short where tests would wait for them. For
# TCPTimeout seconds, the controller tries to reach a node that is gone.
_CONF = """\
ClusterName=quell
SlurmctldHost={host}({controller})
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
MessageTimeout=100
TCPTimeout=10
BatchStartTimeout=300
UnkillableStepTimeout=300
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,defer_batch
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait={kill_wait_s}
OverTimeLimit=10
MinJobAge=3600
InactiveLimit=0
JobRequeue=1
FirstJobId={first_job}
MaxJobCount=180
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
RebootProgram=/bin/false
{nodes}
PartitionName=main Nodes={common} Default=YES MaxTime=60 State=UP PreemptMode=off
PartitionName=low Nodes={contested} MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=high Nodes={contested} MaxTime=60 State=UP PriorityTier=9 PreemptMode=off
"""


def missing_programs() -> list[str]:
    """The SLURM programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def install() -> str:
    """Install the Debian packages if this is root; why SLURM is still missing, empty if it is not."""
    if not (missing := missing_programs()):
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"SLURM programs are missing ({', '.join(missing)}): apt-get install {' '.join(PACKAGES)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-yq", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            return f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}"
    missing = missing_programs()
    return f"still missing after installing: {', '.join(missing)}" if missing else ""


class Cluster:
    """A running SLURM of `nodes` virtual nodes; a context manager.

    The last node is for preemption: a job in partition `high` preempts one in `low`. The others are in `main`.
    """

    controller = "127.0.0.1"
    """The controller's address."""

    def __init__(
        self, *, nodes: int = 4, cpus: int = 4, gpus: int = 2, kill_wait_s: int = 60, grace_s: int = 300
    ) -> None:
        self.names = [f"127.0.0.{index + 2}" for index in range(nodes)]
        self._kill_wait_s, self._grace_s = kill_wait_s, grace_s
        self._cpus, self.gpus = cpus, gpus if os.geteuid() == 0 else 0
        self._user = pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="quell-slurm-"))
        self.conf = self.folder / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        """By the name of the node, or of the program."""
        self._spawner = ThreadPoolExecutor(1)
        """Starts them: they die with the thread that does, and this one lives as long as the cluster."""

    def __enter__(self) -> "Cluster":
        try:
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's commands reach this cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SUBMITIT"))}
        return {**kept, "SLURM_CONF": str(self.conf), "PATH": f"{kept.get('PATH', '')}:{_PATH}"}

    def run(self, *command: str, timeout_s: float = 120) -> str:
        """Standard output of a SLURM command; AssertionError if it fails."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def start_requeued(self) -> None:
        """Let jobs start that were requeued long enough ago; SLURM delays them by two minutes.

        The delay keeps the messages of a job's last start from ending its next one. Here they arrive within seconds.
        """
        settled = datetime.now() - timedelta(seconds=_LAST_MESSAGES_S)
        queue = self.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%V|%r")
        for job, queued, reason in (line.split("|") for line in queue.splitlines()):
            if reason == "BeginTime" and datetime.fromisoformat(queued) < settled:
                # the exit code is ignored because the job may have started meanwhile
                command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                subprocess.run(command, env=self.environment(), capture_output=True, timeout=120)

    def resume_drained(self) -> None:
        """Let jobs start again on the nodes that SLURM has drained."""
        for node in self._nodes("drain"):
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def fail(self, node: str) -> None:
        """Take a node away as a power failure does: whatever runs there is gone at once."""
        if daemon := self._daemons.pop(node, None):
            daemon.kill()
            daemon.wait()
        for process in self._processes(node):  # what dies must not be able to report it
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")
        while processes := self._processes(node):
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=60)

    def _processes(self, node: str) -> list[psutil.Process]:
        """The jobs' processes on a node, and those of SLURM that look after them."""
        return [process for process in psutil.process_iter() if self._runs_on(process, node)]

    def _runs_on(self, process: psutil.Process, node: str) -> bool:
        try:
            if process.name() == "slurmstepd":  # it has overwritten its environment
                return any(file.path == f"{self.folder}/slurmd-{node}.log" for file in process.open_files())
            variables = process.environ()
        except psutil.Error:
            return False
        return (variables.get("SLURM_CONF"), variables.get("SLURMD_NODENAME")) == (str(self.conf), node)

    def repair(self, node: str) -> None:
        """Bring a node back, once the controller has given up telling it to end the jobs that it lost.

        A job that starts there again is otherwise ended in place of its earlier start, because `start_requeued` does
        not leave it the two minutes within which that cannot happen.
        """
        if node not in self._daemons:
            _wait_until(self._has_said_all, "an idle controller")
            self._start_node(node)  # it registers, and ReturnToService=2 takes it back
        state = ["sinfo", "-h", "-n", node, "-o", "%t"]
        _wait_until(lambda: set(self.run(*state).split()) <= {"idle", "mix", "alloc"}, node)

    def _has_said_all(self) -> bool:
        """Whether the controller waits for no node to take a message."""
        counts = re.findall(r"^Agent (?:queue size|count): +(\d+)", self.run("sdiag"), re.MULTILINE)
        assert counts, "sdiag has no line on its agents"
        return set(counts) == {"0"}

    def kill_controller(self) -> None:
        """Kill the controller; jobs go on without it."""
        daemon = self._daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def start_controller(self) -> None:
        """Start the controller again, with the state it had saved."""
        self._spawn("slurmctld", "-D", "-f", str(self.conf))
        _wait_until(lambda: "UP" in self._ping(), "the controller")

    def close(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        if len(self._daemons) > 1:
            self._cancel_everything()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for daemon in self._daemons.values():
                if daemon.poll() is None:
                    daemon.send_signal(signum)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and any(daemon.poll() is None for daemon in self._daemons.values()):
                time.sleep(0.05)
        self._daemons.clear()
        self._spawner.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        ports = free_ports(len(self.names) + 1)
        host = socket.gethostname().split(".")[0]
        user = self._user
        devices = self._devices()
        gres = f"Gres=gpu:{GPU_TYPE}:{self.gpus}" if self.gpus else ""
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr={name} Port={port} CPUs={self._cpus} RealMemory=8000 {gres} "
            "State=UNKNOWN"
            for name, port in zip(self.names, ports[1:], strict=True)
        ]
        text = _CONF.format(
            host=host, user=user, port=ports[0], folder=self.folder, nodes="\n".join(lines),
            common=",".join(self.names[:-1]), controller=self.controller,
            kill_wait_s=self._kill_wait_s, grace_s=self._grace_s, contested=self.names[-1],
            first_job=1000 + ports[0] % 9000,
        )  # fmt: skip
        self.conf.write_text(text)
        gres_line = f"NodeName={','.join(self.names)} Name=gpu Type={GPU_TYPE} File={devices}\n" if self.gpus else ""
        (self.folder / "gres.conf").write_text(gres_line)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        (self.folder / "state").mkdir()
        self.folder.chmod(0o755)

    def _devices(self) -> str:
        """Create device files that stand in for GPUs (SLURM requires character devices); nothing opens them."""
        for index in range(self.gpus):
            os.mknod(self.folder / f"gpu{index}", 0o20666, os.makedev(1, 3))
        return f"{self.folder}/gpu[0-{self.gpus - 1}]"

    def _start(self) -> None:
        socket_path = self.folder / "munge.sock"
        self._spawn(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", f"--socket={socket_path}",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        _wait_until(socket_path.exists, "munged")
        self._spawn("slurmctld", "-D", "-f", str(self.conf))
        for name in self.names:
            (self.folder / f"spool-{name}").mkdir()
            self._start_node(name)
        _wait_until(self._all_idle, f"the nodes (logs in {self.folder})")

    def _start_node(self, name: str) -> None:
        self._spawn("slurmd", "-D", "-N", name, "-f", str(self.conf), node=name)

    def _spawn(self, program: str, *arguments: str, node: str = "") -> None:
        path = shutil.which(program, path=_PATH)
        assert path, program
        log = (self.folder / f"{program}.out").open("ab")
        with log:
            self._daemons[node or program] = self._spawner.submit(
                subprocess.Popen,
                [*self._inside(node), path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                env=self.environment(),
                start_new_session=True,
            ).result()

    def _inside(self, node: str) -> list[str]:
        """What starts a program on a node; nothing where all nodes share this machine's network."""
        return []

    def _all_idle(self) -> bool:
        return self._nodes("idle") == set(self.names)

    def _nodes(self, states: str) -> set[str]:
        """The nodes in one of these states."""
        command = ["sinfo", "-h", "-N", "-t", states, "-o", "%N"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120)
        return set(done.stdout.split())

    def _ping(self) -> str:
        command = ["scontrol", "ping"]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=300).stdout

    def _cancel_everything(self) -> None:
        try:
            self.run("scancel", "--full", "--signal=KILL", f"--user={self._user}", timeout_s=60)
            self.run("scancel", f"--user={self._user}", timeout_s=60)
            _wait_until(lambda: not self.run("squeue", "-h", timeout_s=60), "the queue to empty")
        except (AssertionError, subprocess.TimeoutExpired):
            pass  # the daemons are stopped next in any case


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until(condition: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come up in {seconds} s")
        time.sleep(0.05)
