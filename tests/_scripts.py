"""What the scripts share that tests start as processes of their own."""

import os
import sys
from typing import NoReturn

import torch.distributed as dist


def leave(code: int = 0) -> NoReturn:
    """End this process now, with its output written and its result on disk, without Python's own teardown.

    After a world of processes gloo's threads may still run, and one that Python finds while it takes itself down can
    abort the process ("terminate called without an active exception"): a test would fail for what happened after it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Worlds:
    """Several worlds of the same processes, one after the other, in a script that torchrun started.

    torchrun's own store would still know the world before. Each gets a store at a port that its server never gives back
    in between, so no other program can take it.
    """

    def __init__(self) -> None:
        self.rank, self.host, self.number = int(os.environ["RANK"]), os.environ["MASTER_ADDR"], 0
        self.torchruns = dist.TCPStore(self.host, int(os.environ["MASTER_PORT"]))
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"

    def open(self) -> dist.TCPStore | None:
        """Wait for rank 0 and let all ranks know where the next world meets; to be kept until that world ends."""
        server, key = None, f"world-{self.number}"
        if self.rank == 0:
            server = dist.TCPStore(self.host, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
            self.torchruns.set(key, str(server.port))
        os.environ["MASTER_PORT"] = self.torchruns.get(key).decode()
        self.number += 1
        return server
