"""The files of a shared model."""

from quell.launch.checkpoints.layout import META, MODEL

CARD = "README.md"
"""The model card: for people, and for the Hub, which reads its front matter. It has no checksum: it may be edited."""
CONFIG = "config.yaml"
NOISE = "noise.npz"
"""The noise of the training images, where the method examined it."""

FILES = (MODEL, META, CONFIG, NOISE, CARD)
"""All of them; none is a pickle."""
