"""What a critic's scores mean for the critic, and for the generator it judges."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from losses.common.pixel_differences import full_precision

Kind = Literal["lsgan", "vanilla", "wgan", "wgan_gp", "hinge"]


class Adversarial(nn.Module):
    """Losses of scores s of any shape (higher is more real), each the mean over all scores.

    | kind | critic, real | critic, fake | generator | source |
    |---|---|---|---|---|
    | lsgan | (s - 1)^2 | s^2 | (s - 1)^2 | Mao et al., ICCV 2017 |
    | vanilla | softplus(-s) | softplus(s) | softplus(-s) | Goodfellow et al., 2014, the non-saturating form |
    | wgan, wgan_gp | -s | s | -s | Arjovsky et al., 2017; Gulrajani et al., 2017 |
    | hinge | relu(1 - s) | relu(1 + s) | -s | Lim and Ye, 2017 |

    wgan bounds the critic's slope by clipping its weights, wgan_gp by `losses/gradient_penalty.py`; both belong to the
    method. Their critic is only bounded when real and fake images carry the same total weight.
    """

    def __init__(self, kind: Kind = "lsgan") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, scores: Tensor, *, real: bool) -> Tensor:
        """The critic's term: small when real images score high and fake ones low."""
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
        """The generator's term: small when its images score as real ones."""
        return -full_precision(scores).mean() if self.kind == "hinge" else self(scores, real=True)
