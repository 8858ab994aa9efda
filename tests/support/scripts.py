"""What the scripts share that tests start by torchrun; they end by `launch.cli.leave`, like those of launch/."""

import os

import torch.distributed as dist


class Worlds:
    """Several worlds of the same processes, one after the other, in a script that torchrun started.

    torchrun's own store would still know the world before. Each gets a store whose server, in rank 0, keeps its port
    from the moment it is chosen, so no other program can take it.
    """

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.host = os.environ["MASTER_ADDR"]
        self.torchruns = dist.TCPStore(self.host, int(os.environ["MASTER_PORT"]))
        self.servers: list[dist.TCPStore] = []
        self.number = 0
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"

    def open(self) -> None:
        """Wait for rank 0, and let all ranks know where the next world meets."""
        self.number += 1
        key = f"world-{self.number}"
        if self.rank == 0:
            server = dist.TCPStore(self.host, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
            self.servers.append(server)
            self.torchruns.set(key, str(server.port))
        os.environ["MASTER_PORT"] = self.torchruns.get(key).decode()

    def close(self) -> None:
        """Wait in rank 0, which has the servers, until no rank needs them."""
        self.torchruns.set(f"done-{self.rank}", "yes")
        if self.rank == 0:
            self.torchruns.wait([f"done-{rank}" for rank in range(self.size)])
