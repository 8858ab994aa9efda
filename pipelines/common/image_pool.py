"""A history of made images: a critic that also sees older ones does not forget what it has already told apart."""

import torch
from torch import Tensor

from pipelines.base import State


class ImagePool:
    """Up to `size` images of one kind (Shrivastava et al., CVPR 2017); size 0 hands every image straight through.

    Until it is full an image is stored and handed out. Afterwards, with probability one half, a stored image is handed
    out and the new one takes its place. The choices come from a random generator of the pool's own, which is part of
    its state: a resumed run goes on with the same images and the same choices.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.random = torch.Generator().manual_seed(seed)

    def exchange(self, images_NCHW: Tensor) -> Tensor:
        """As many images of the same shape, new or from the history; without gradients.

        A stored image of another shape than the new one is replaced by it and not handed out.
        """
        if self.size == 0:
            return images_NCHW.detach()
        return torch.stack([self._exchange(image) for image in images_NCHW.detach()])

    def state(self) -> State:
        """The images, on the CPU, and the random generator."""
        return {"images": [image.cpu() for image in self.images], "random": self.random.get_state()}

    def load(self, state: State) -> None:
        """Take back what `state` gave."""
        self.images = [image.clone() for image in state["images"]][: self.size]
        self.random.set_state(state["random"])

    def _exchange(self, image_CHW: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image_CHW.clone())
            return image_CHW
        if torch.rand((), generator=self.random) < 0.5:
            return image_CHW
        place = int(torch.randint(self.size, (), generator=self.random))
        stored, self.images[place] = self.images[place].to(image_CHW), image_CHW.clone()
        return stored if stored.shape == image_CHW.shape else image_CHW


class Pools:
    """One pool for each kind of image that a critic judges."""

    def __init__(self, kinds: tuple[str, ...], size: int) -> None:
        seed = torch.initial_seed() % 2**32
        self.pools = {kind: ImagePool(size, seed + number) for number, kind in enumerate(kinds)}

    def exchange(self, kind: str, images_NCHW: Tensor) -> Tensor:
        """`ImagePool.exchange` of one kind."""
        return self.pools[kind].exchange(images_NCHW)

    def state(self) -> State:
        """The state of every pool by kind."""
        return {kind: pool.state() for kind, pool in self.pools.items()}

    def load(self, state: State) -> None:
        """Take back what `state` gave; a kind that it lacks starts empty."""
        for kind in self.pools.keys() & state.keys():
            self.pools[kind].load(state[kind])
