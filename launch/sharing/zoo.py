"""The models that come with Quell, by name, and what their cards say in one table."""

from collections.abc import Iterable
from pathlib import Path

from quell.configs.baseline_names import TITLES
from quell.configs.errors import ConfigError
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.suggestions import did_you_mean
from quell.launch.checkpoints.layout import META, MODEL, is_shared
from quell.pipelines.reporting.noise_range import NoiseRange

PREFIX = "zoo:"
WEIGHTS = Path(__file__).resolve().parent.parent / "zoo" / "weights"
"""One folder per model, as `quell share` writes it."""


def names() -> list[str]:
    """The models, in the order of the alphabet."""
    return sorted(path.name for path in WEIGHTS.iterdir() if is_shared(path)) if WEIGHTS.is_dir() else []


def folder(name: str) -> Path:
    """The folder of a model. Raises ConfigError where there is none of this name."""
    if name not in names():
        raise ConfigError(f"no model '{name}' in the zoo; {did_you_mean(name, names())}; quell zoo lists them")
    return WEIGHTS / name


def rows() -> list[dict[str, str]]:
    """A row per model: what its card says, by the heading of the column."""
    table = []
    for name in names():
        facts: Record = read_json(WEIGHTS / name / META)["shared"]
        results = facts["results"]
        levels = [NoiseRange(**levels) for levels in facts["noise_ranges"].values()]
        table.append(
            {
                "model": name,
                "method": facts["method"],
                "reads": ", ".join(facts["fields"]) + f": {_joined(facts['fields'].values())}",
                "trained on noise of": _joined(span.words for span in levels) or "no one level",
                "PSNR gain (dB)": " / ".join(f"{gain:.1f}" for gain in results["gain_db"].values()),
                "over the best baseline (dB)": _over_baseline(results) or "not compared",
                "test images": str(results["images"]),
                "licence": facts["licence"],
                "MB": f"{(WEIGHTS / name / MODEL).stat().st_size / 1e6:.1f}",
            }
        )
    return table


def _over_baseline(results: Record) -> str:
    """How far each field's PSNR is above that of the best classical method."""
    found = [results["best_baseline"].get(field) for field in results["gain_db"]]
    return " / ".join(f"{best['gain_db']:+.1f} ({TITLES[best['name']]})" for best in found if best)


def _joined(values: Iterable[str]) -> str:
    """What the fields of a model have, each once."""
    return " / ".join(dict.fromkeys(values))
