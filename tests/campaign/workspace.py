"""The runs and shards that a campaign disturbs, made once, and copies of them for each attempt."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.processes import outcome, train_words
from tests.support.pairs import write_pairs
from tests.support.runs import read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG, write_mini

STEPS = 6
SMALL = (
    "--config", SMALL_CONFIG, f"loop.max_steps={STEPS}", "checkpoint.every_steps=1", "evaluation.every_steps=2",
    "evaluation.limit=1", "loop.ema_decay=0.9", "tracking.log_every=1", "data.verify=always",
)  # fmt: skip
"""A run of milliseconds a step, which saves after every step and keeps the last two."""

GAN_STEPS_PER_KILL = 10
"""Steps of the run for every kill; some lives end before their first step, others make a hundred."""

GAN = (
    "--config", "configs/tcfl.yaml", "data.crop=32", "data.batch_size=4", "data.normalise=none", "loop.epochs=null",
    "loop.threads=1", "checkpoint.every_steps=2", "evaluation.every_epochs=null",
    "tracking.tensorboard=false", "pipeline.generator.width=4", "pipeline.generator.depth=3",
    "pipeline.critic.width=2", "pipeline.pool_size=2", "pipeline.gan=wgan_gp", "pipeline.weights.critic_fake=null",
    "pipeline.critic_updates=2", "loop.accumulate=2",
)  # fmt: skip
"""An adversarial run with image pools, two optimizers and accumulated micro-batches, for two processes."""


@dataclass(frozen=True)
class Workspace:
    """A temporary folder with shards, an undisturbed run, and how long that took."""

    root: Path
    shards: Path
    undisturbed: Path
    seconds: float

    @property
    def words(self) -> tuple[object, ...]:
        """Arguments of launch/train.py for the small run."""
        return (*SMALL, f"data.root={self.shards}")

    def is_right(self, run: Path, step: int = STEPS) -> bool:
        """Whether a run ended with the weights and averages of the undisturbed one, bit for bit."""
        return all(
            same_bits(read_weights(run, step, name), read_weights(self.undisturbed, step, name))
            for name in ("weights", "ema")
        )

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one attempt, removed afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def workspace() -> Iterator[Workspace]:
    """Make the shards and the undisturbed run; everything is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="quell-campaign-") as made:
        root = Path(made)
        shards = write_mini(root / "shards")
        run = root / "undisturbed"
        started = time.monotonic()
        code = outcome(train_words((*SMALL, f"data.root={shards}"), run), root / "undisturbed-log")
        assert code == 0, (root / "undisturbed-log.0").read_text()
        yield Workspace(root, shards, run, time.monotonic() - started)


def gan_shards(root: Path) -> Path:
    """Shards of small noisy and clean images for the adversarial run."""
    return write_pairs(root, cells=(5, 6), cell_px=8)
