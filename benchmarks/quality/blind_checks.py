"""What the checks without clean images say of good and of wrong restorations of a knee, whose truth is known here.

One PD slice with white and with correlated noise (blurred by 1 px), restored in ways that are right and wrong. The
checks see the noisy and the restored image and the noise's model, never the clean image; the PSNR beside them does.

  python benchmarks/quality/blind_checks.py --input knee_mese
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.support import common
from quell.launch.evaluation.baselines import restore
from quell.losses.metrics.psnr import psnr
from quell.losses.noise.model import FieldNoise, spectrum_of_kernel
from quell.losses.noise.residuals import check_residual
from quell.pipelines.common.residual_checks import REMEDIES
from quell.shards.sources.knee_mese import read_contrasts

SLICE, SIGMA, BLUR_PX = 16, 0.1, 1.0

Array = NDArray[np.float64]


def noises() -> dict[str, FieldNoise]:
    """The kinds of noise."""
    impulse = np.zeros((13, 13))
    impulse[6, 6] = 1
    return {
        "white": FieldNoise(SIGMA),
        "correlated": FieldNoise(SIGMA, spectrum_of_kernel(gaussian_filter(impulse, BLUR_PX))),
    }


def restorations(clean: Array, noisy: Array, noise: FieldNoise, random: np.random.Generator) -> dict[str, Array]:
    """Right and wrong restorations by name."""
    double = FieldNoise(2 * noise.sigma, noise.spectrum)
    return {
        "the clean image": clean,
        "BM3D, told the noise": restore(noisy, "bm3d", data_range=1, noise=noise),
        "BM3D, told white noise": restore(noisy, "bm3d", data_range=1, noise=FieldNoise(noise.sigma)),
        "BM3D, told twice the noise": restore(noisy, "bm3d", data_range=1, noise=double),
        "blurred by 1.5 px": np.asarray(gaussian_filter(noisy, 1.5)),
        "the noisy image": noisy,
        "other noise subtracted": noisy - 0.92 * noise.sigma * random.standard_normal(noisy.shape),
    }


def rows(path: Path) -> list[list[str]]:
    """The rows of the table."""
    clean = read_contrasts(path)["pd"][SLICE].astype(np.float64)
    table = []
    for kind, noise in noises().items():
        random = np.random.default_rng(0)
        noisy = clean + noise.sample(random, (clean.shape[0], clean.shape[1]))
        for name, restored in restorations(clean, noisy, noise, random).items():
            checks = check_residual(noisy, restored, noise)._asdict()
            failed = [check for check, (threshold, _) in REMEDIES.items() if checks[check] > threshold]
            quality = psnr(restored, clean, data_range=1)
            shown = "" if quality is None or np.isinf(quality) else f"{quality:.2f}"
            values = [f"**{value:.2f}**" if check in failed else f"{value:.2f}" for check, value in checks.items()]
            table.append([kind, name, shown, *values])
    return table


def main() -> None:
    """Print the table; a value that does not pass is bold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="folder of the knee's .npz file")
    header = ("noise", "restored", "PSNR", "removed", "excess", "missing", "structure", "added")
    common.print_table(header, rows(parser.parse_args().input))


if __name__ == "__main__":
    main()
