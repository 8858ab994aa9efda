"""Measure a trained run on a split: one row per image, mean ± std, against classical baselines, with a picture."""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: the folder on the path must be the project's, not launch/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.support.arguments import whole
from launch import cli

BASELINES = ("noisy", "gaussian", "nlm", "bm3d")


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, measure, write the report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder, or one checkpoint folder inside it")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which checkpoint of the run")
    parser.add_argument("--data", metavar="DIR", help="folder of shards; default the run's own data.root")
    parser.add_argument("--split", default=None, metavar="NAME", help="split to measure; default the run's test_split")
    parser.add_argument(
        "--baseline", action="append", choices=BASELINES, default=[], help="also measure this; repeatable"
    )
    parser.add_argument(
        "--tune",
        type=whole(0),
        default=0,
        metavar="N",
        help="choose each baseline's strength on the first N training samples (needs clean images)",
    )
    parser.add_argument(
        "--preset",
        choices=("tuned", "seed"),
        default="tuned",
        help="NLM's and BM3D's parameters: from the estimated noise (tuned), or the fixed ones of the "
        "published scripts (seed)",
    )
    parser.add_argument(
        "--rois",
        metavar="JSON",
        help="regions for cnr, enl and msr: "
        '{"background": [[row, column, height, width], ...], "foreground": [...]}; else they are found',
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="files of losses/metrics/; default psnr ssim rmse")
    parser.add_argument("--limit", type=whole(1), metavar="N", help="only the first N images")
    parser.add_argument("--pictures", type=whole(0), default=2, metavar="N", help="samples in the picture")
    parser.add_argument(
        "--output", metavar="JSON", help="report file; .md and .png are written beside it; default RUN/report.json"
    )
    options = cli.parse(parser, arguments)

    def work() -> int:
        from launch.evaluation import evaluate_run

        return evaluate_run.evaluate(options)

    return cli.run(work)


if __name__ == "__main__":
    cli.leave(main())
