"""Image pools: a critic that also sees earlier generated images does not forget what it has learned to tell apart."""

from typing import TypedDict

import torch
from torch import Tensor

from quell.configs.fields import DRAWS
from quell.pipelines.common.random_numbers.split_mix import HostStream


class OlderPoolState(TypedDict):
    """The state of an image pool, as checkpoints of all versions hold it."""

    images: list[Tensor]
    random: Tensor
    """Of the generator of draws of version 1."""


class PoolState(OlderPoolState, total=False):
    """The state of an image pool, as a checkpoint holds it."""

    stream: list[int]
    """Seed and place of the stream of draws of version 2."""


class ImagePool:
    """A history of up to `size` generated images of one kind; size 0 passes images through.

    While the pool fills up, every image is stored and returned. Once it is full, with probability one half a stored
    image is returned and the new one takes its place. The pool draws from a stream of its own, whose place is part of
    its state, so that a resumed run continues with the same images and the same choices. Source: Shrivastava et al.,
    CVPR 2017.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.random = torch.Generator().manual_seed(seed)
        self.stream = HostStream(seed)

    def exchange(self, images_NCHW: Tensor, version: int = DRAWS) -> Tensor:
        """Exchange images (N, C, H, W) for as many new or stored ones, detached.

        A stored image whose shape differs from the new one's is replaced by it but not returned. `version` is that of
        the random draws.
        """
        if self.size == 0:
            return images_NCHW.detach()
        return torch.stack([self._exchange(image, version) for image in images_NCHW.detach()])

    def state(self) -> PoolState:
        """The images, on the CPU, and the state of the random generator."""
        return {
            "images": [image.cpu() for image in self.images],
            "random": self.random.get_state(),
            "stream": [self.stream.seed, self.stream.place],
        }

    def load(self, state: PoolState) -> None:
        """Restore what `state` returned; images beyond the size are dropped."""
        self.images = [image.clone() for image in state["images"]][: self.size]
        self.random.set_state(state["random"])
        if "stream" in state:
            self.stream = HostStream(*state["stream"])

    def _exchange(self, image_CHW: Tensor, version: int) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image_CHW.clone())
            return image_CHW
        if version == 1:
            keeps_new = bool(torch.rand((), generator=self.random) < 0.5)
            slot = -1 if keeps_new else int(torch.randint(self.size, (), generator=self.random))
        else:
            slot = self.stream.below(2 * self.size) - self.size
        if slot < 0:
            return image_CHW
        stored, self.images[slot] = self.images[slot].to(image_CHW), image_CHW.clone()
        return stored if stored.shape == image_CHW.shape else image_CHW


class Pools:
    """One pool for each kind of image that a critic judges."""

    def __init__(self, kinds: tuple[str, ...], size: int) -> None:
        seed = torch.initial_seed() % 2**32
        self.pools = {kind: ImagePool(size, seed + number) for number, kind in enumerate(kinds)}

    def exchange(self, kind: str, images_NCHW: Tensor, version: int = DRAWS) -> Tensor:
        """`ImagePool.exchange` of one kind."""
        return self.pools[kind].exchange(images_NCHW, version)

    def state(self) -> dict[str, PoolState]:
        """The state of every pool by kind."""
        return {kind: pool.state() for kind, pool in self.pools.items()}

    def load(self, state: dict[str, PoolState]) -> None:
        """Restore what `state` returned; kinds it does not hold start empty."""
        for kind in self.pools.keys() & state.keys():
            self.pools[kind].load(state[kind])
