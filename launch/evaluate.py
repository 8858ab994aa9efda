"""Measure a trained run on a split: metrics per image, mean ± standard deviation, classical baselines and pictures."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.baseline_names import BASELINES, PRESETS
from quell.configs.support.arguments import CommandParser, whole_number
from quell.launch import cli
from quell.launch.options.choices import WHICH

FORMER_PRESETS = {"seed": "published"}
"""Former name of a preset -> its name; still accepted, so that commands in people's scripts keep working."""


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, measure, write the report; return the exit code."""
    options = cli.parse(_parser(), arguments)

    def work() -> int:
        from quell.launch.evaluation import evaluate_run  # imports torch, scipy and scikit-image: not for --help

        named = {field.name: getattr(options, field.name) for field in fields(evaluate_run.EvaluationOptions)}
        return evaluate_run.evaluate(evaluate_run.EvaluationOptions(**named))

    return cli.run(work)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--run",
        required=True,
        metavar="DIR",
        help="run folder, one checkpoint folder inside it, folder of a shared model, hub:owner/name[@revision] or "
        "zoo:NAME",
    )
    parser.add_argument("--which", choices=WHICH, default="best", help="which checkpoint of the run")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (default: the run's data.root)")
    parser.add_argument("--split", metavar="NAME", help="split to measure (default: the run's data.test_split)")
    parser.add_argument(
        "--baseline", action="append", choices=BASELINES, default=[], help="also measure this baseline; repeatable"
    )
    parser.add_argument(
        "--tune",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="choose each baseline's strength on the first N training samples (needs clean images)",
    )
    parser.add_argument(
        "--noise",
        metavar="NPZ",
        help="noise model that baselines are told, such as truth_noise.npz of made-up data (default: what was found in "
        "the run's training images)",
    )
    parser.add_argument(
        "--preset",
        type=lambda name: FORMER_PRESETS.get(name, name),
        choices=PRESETS,
        default="tuned",
        help="parameters of NLM and BM3D: from the estimated noise level (tuned), or the fixed ones of the scripts "
        "published with TCFL (published)",
    )
    parser.add_argument(
        "--rois",
        metavar="JSON",
        help='regions of interest for cnr, enl and msr: {"background": [[row, column, height, width], ...], '
        '"foreground": [...]} (default: detected automatically)',
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="files of losses/metrics/ (default: psnr ssim rmse)"
    )
    parser.add_argument(
        "--batch", type=whole_number(1), metavar="N", help="images restored together (default: data.eval_batch_size)"
    )
    parser.add_argument("--limit", type=whole_number(1), metavar="N", help="measure only the first N images")
    parser.add_argument("--pictures", type=whole_number(0), default=2, metavar="N", help="images shown in the .png")
    parser.add_argument(
        "--output", metavar="JSON", help="report file; .md and .png are written beside it (default: RUN/report.json)"
    )
    cli.add_trust_argument(parser)
    return parser


if __name__ == "__main__":
    cli.leave(main())
