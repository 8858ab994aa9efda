"""Adversarial losses of a critic's scores, for the critic and for the generator it judges."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from quell.losses.common.pixel_differences import full_precision

Kind = Literal["lsgan", "vanilla", "wgan", "wgan_gp", "hinge"]


class Adversarial(nn.Module):
    """Losses of scores s, where a higher score means more real; each is the mean over all scores.

    | kind | critic, real | critic, fake | generator | source |
    |---|---|---|---|---|
    | lsgan | (s - 1)^2 | s^2 | (s - 1)^2 | Mao et al., ICCV 2017 |
    | vanilla | softplus(-s) | softplus(s) | softplus(-s) | Goodfellow et al., 2014, the non-saturating form |
    | wgan, wgan_gp | -s | s | -s | Arjovsky et al., 2017; Gulrajani et al., 2017 |
    | hinge | relu(1 - s) | relu(1 + s) | -s | Lim and Ye, 2017 |

    lsgan, vanilla and the critic's hinge are at least 0; wgan has no bounds. It needs a critic of bounded slope, which
    the method has to ensure: wgan by clipping the critic's weights, wgan_gp by `losses/gradient_penalty.py`. Real and
    fake images must also have the same total weight in the critic's loss, or shifting all scores would lower it
    forever.

    Args:
        kind: Name from the table.

    Shape:
        Scores of any shape, without final activation. Output: scalar, at least float32.
    """

    def __init__(self, kind: Kind = "lsgan") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, scores: Tensor, *, real: bool) -> Tensor:
        """The critic's loss: low if real images score high and fake ones low.

        Args:
            scores: The critic's scores of real images, or of fake ones.
            real: Whether the images are real.
        """
        scores = full_precision(scores)
        signed = scores if real else -scores
        if self.kind == "lsgan":
            return (scores - float(real)).square().mean()
        if self.kind == "vanilla":
            return functional.softplus(-signed).mean()
        if self.kind == "hinge":
            return functional.relu(1 - signed).mean()
        return -signed.mean()

    def fool(self, scores: Tensor) -> Tensor:
        """The generator's loss: low if the critic scores its images as real."""
        # For hinge the generator's loss has no hinge: it goes on pushing scores above 1.
        return -full_precision(scores).mean() if self.kind == "hinge" else self(scores, real=True)
