"""What scripts started by torchrun share; like the commands of launch/, they exit through `launch.cli.leave`."""

import os

import torch.distributed as dist


class Rendezvous:
    """Lets the processes of one torchrun form several process groups, one after another.

    torchrun's own store still has the keys of the previous group, so each group gets a new store. Rank 0 keeps the
    server of each store open from the moment its port is chosen, so that no other program can take the port.
    """

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.host = os.environ["MASTER_ADDR"]
        self.torchrun_store = dist.TCPStore(self.host, int(os.environ["MASTER_PORT"]))
        self.servers: list[dist.TCPStore] = []
        self.number = 0
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"

    def open(self) -> None:
        """Let all ranks connect to a new store, with a port chosen by rank 0, when they next form a group."""
        self.number += 1
        key = f"group-{self.number}"
        if self.rank == 0:
            server = dist.TCPStore(self.host, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
            self.servers.append(server)
            self.torchrun_store.set(key, str(server.port))
        os.environ["MASTER_PORT"] = self.torchrun_store.get(key).decode()

    def close(self) -> None:
        """Keep rank 0, which runs the servers, from exiting until no rank needs them."""
        self.torchrun_store.set(f"done-{self.rank}", "yes")
        if self.rank == 0:
            self.torchrun_store.wait([f"done-{rank}" for rank in range(self.size)])
