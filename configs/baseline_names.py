"""Names of the classical baselines, for code that must know them without importing scipy, scikit-image or torch."""

from typing import Literal, get_args

Baseline = Literal["noisy", "gaussian", "nlm", "bm3d"]
"""What launch/evaluation/baselines.py can restore with."""

BASELINES: tuple[Baseline, ...] = get_args(Baseline)

DEFAULT_BASELINES: tuple[Baseline, ...] = ("noisy", "nlm")
"""The baselines that experiments and studies compare every run with, unless they name others."""

TITLES: dict[Baseline, str] = {"noisy": "noisy", "gaussian": "Gaussian", "nlm": "NLM", "bm3d": "BM3D"}
"""What tables and pictures call a baseline."""

Preset = Literal["tuned", "published"]
"""Where the parameters of NLM and BM3D come from: the noise level of the image, or the published TCFL scripts."""

PRESETS: tuple[Preset, ...] = get_args(Preset)
