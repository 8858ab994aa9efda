"""Which rank is to blame when ranks lose each other: its name instead of the communication library's own message.

Every rank tells a shared store, about once a second, that it is alive. When a collective operation fails, the rank that
notices it watches these signs of life: a rank that gives none is frozen, or its machine is gone. Ranks that end because
of another one say so, and are not blamed.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch.distributed as dist

from quell.configs.errors import MachineError
from quell.launch.machine.acceleration import TIMEOUT

BEAT_S = 1.0
PATIENCE_S = 5.0
"""How long a rank may give no sign of life before it is blamed."""

_COMMUNICATION = re.compile(
    r"gloo|NCCL|Connection (closed|reset|refused)|[Tt]imed out (waiting|after)|process group|TCPStore|[Ss]ocket|"
    r"Broken pipe|collective",
)
_SAME_GPU = re.compile(r"Duplicate GPU detected")
_TIMED_OUT = re.compile(r"[Tt]imed? ?out")
_PREFIX, _LEFT = "quell/rank/", "left"


class SignsOfLife:
    """This rank's signs of life in a store, and what can be said of the others'; a context manager.

    Args:
        own: A connection to the store, to write to.
        others: Another one, to read from: one that is in use by two threads may block both.
        rank: This rank.
        world: World size.
    """

    def __init__(self, own: dist.Store, others: dist.Store, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._own, self._others, self._ended = own, others, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="quell-signs-of-life", daemon=True)

    def __enter__(self) -> "SignsOfLife":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(BEAT_S)  # the store may be gone, and then its last word is worth no waiting

    def silent(self) -> list[int]:
        """The other ranks that give no sign of life and did not say that they end; takes up to a few PATIENCE_S.

        Where the store itself does not answer, that is the process which holds it: rank 0, or the launcher.
        """
        found: list[list[int]] = []

        def watch() -> None:
            with contextlib.suppress(RuntimeError):
                found.append(self._watch())

        thread = threading.Thread(target=watch, name="quell-watch", daemon=True)
        thread.start()
        thread.join(2 * PATIENCE_S)
        if found:
            return found[0]
        return [0] if self.rank else []

    def _watch(self) -> list[int]:
        first = self._counts()
        missing = [rank for rank in range(self.world) if rank != self.rank]
        deadline = time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < deadline:
            time.sleep(BEAT_S / 4)
            now = self._counts()
            missing = [rank for rank in missing if now.get(rank) == first.get(rank) and now.get(rank) != _LEFT]
        return missing

    def _counts(self) -> dict[int, str]:
        keys = {rank: f"{_PREFIX}{rank}" for rank in range(self.world)}
        return {rank: self._others.get(key).decode() for rank, key in keys.items() if self._others.check([key])}

    def _beat(self) -> None:
        count, key = 0, f"{_PREFIX}{self.rank}"
        with contextlib.suppress(RuntimeError):
            while not self._ended.wait(BEAT_S if count else 0):
                count += 1
                self._own.set(key, str(count))
            self._own.set(key, _LEFT)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn an error of the communication between ranks inside the block into a MachineError that names the rank."""
    with contextlib.ExitStack() as stack:
        signs = None
        if dist.is_initialized() and dist.get_world_size() > 1:
            own, others = _connect(), _connect()
            if own is not None and others is not None:
                signs = SignsOfLife(own, others, dist.get_rank(), dist.get_world_size())
        if signs is not None:
            stack.enter_context(signs)
        try:
            yield
        except RuntimeError as error:
            if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not is_communication_error(error):
                raise
            raise MachineError(sentence(error, signs)) from error


def is_communication_error(error: RuntimeError) -> bool:
    """Whether an error is that of a collective operation or of the store where ranks meet."""
    return isinstance(error, dist.DistError) or bool(_COMMUNICATION.search(str(error)))


def sentence(error: RuntimeError, signs: SignsOfLife | None) -> str:
    """What went wrong between the ranks, naming those to blame as far as that is known."""
    timed_out = bool(_TIMED_OUT.search(str(error)))
    minutes = TIMEOUT.total_seconds() / 60
    who = "another rank"
    if signs is not None:
        silent = signs.silent()
        if silent:
            who = f"rank{'s' if len(silent) > 1 else ''} {', '.join(map(str, silent))}"
    if _SAME_GPU.search(str(error)):
        return (
            "two ranks on one machine have the same GPU: start as many processes there as it has GPUs, and give each "
            "task either all of them or one of its own"
        )
    if timed_out:
        return (
            f"{who} did not answer for {minutes:g} minutes: its process is frozen, or its machine or network has "
            "failed; look at its log, and start the same command again (QUELL_TIMEOUT_MINUTES sets the time)"
        )
    return (
        f"lost the connection to {who}: its process ended, or its machine or network has failed; look at its log, and "
        "start the same command again"
    )


def _connect() -> dist.Store | None:
    """A connection of its own to the store where the ranks met; None where there is none to be had."""
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=2 * PATIENCE_S))
        return dist.PrefixStore(os.environ.get("TORCHELASTIC_RUN_ID", "run"), store)
    except (KeyError, ValueError, RuntimeError):
        return None
