"""The card of a shared model: README.md, with the front matter that the Hugging Face Hub reads."""

from collections.abc import Iterator, Mapping

import yaml

from quell.configs.support.json_files import Record
from quell.launch.evaluation.report import markdown_table
from quell.launch.inference.noise_comparison import widened
from quell.launch.sharing.files import CONFIG
from quell.launch.sharing.writing.facts import ModelFacts
from quell.pipelines.reporting.noise_range import NoiseRange

LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense",
)  # fmt: skip
"""Identifiers that the Hub knows, of the licences that models most often have; others are named in words."""
TAGS = ("image-restoration", "denoising", "quell")


def model_card(facts: ModelFacts) -> str:
    """The whole card."""
    front_matter = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front_matter}---\n\n" + "\n".join(_lines(facts)) + "\n"


def _front_matter(facts: ModelFacts) -> Record:
    licence = facts.licence.lower()
    known: Record = {"license": licence}
    if licence not in LICENCES:
        known = {"license": "other", "license_name": facts.licence}
    measured = _measured(facts)
    return {
        **known,
        "library_name": "quell",
        "pipeline_tag": "image-to-image",
        "tags": [*TAGS, facts.method],
        **({"metrics": ["psnr", "ssim"], "model-index": [measured]} if measured["results"] else {}),
    }


def _measured(facts: ModelFacts) -> Record:
    """The PSNR of every field, as the Hub lists results."""
    source = str(facts.results.get("source") or "images")
    metrics = [
        {"type": "psnr", "name": f"PSNR of {field} (dB)", "value": round(psnr, 3)}
        for field, psnr in facts.results.get("psnr", {}).items()
    ]
    result = {
        "task": {"type": "image-to-image"},
        "dataset": {"name": source, "type": source, "split": facts.results.get("split", "test")},
        "metrics": metrics,
    }
    return {"name": facts.name, "results": [result] if metrics else []}


def _lines(facts: ModelFacts) -> Iterator[str]:
    kinds = ", ".join(f"{field} ({kind})" for field, kind in facts.fields.items())
    yield f"# {facts.name}\n"
    yield (
        f"A network of {facts.parameters:,} numbers that restores {kinds} images, trained with Quell's method "
        f"`{facts.method}`. Licence of the weights: {facts.licence}.\n"
    )
    yield from _usage(facts)
    yield from _images(facts)
    yield from _results(facts)
    yield from _limits(facts)
    yield from _training(facts)


def _usage(facts: ModelFacts) -> Iterator[str]:
    files = ",".join(f"{field}=FILE" for field in facts.fields) if len(facts.fields) > 1 else "FILES"
    yield "## Use\n"
    yield "With the folder of this card, or `hub:OWNER/NAME` for a model on the Hugging Face Hub:\n"
    yield f"```text\nquell denoise --run FOLDER {files} --output restored/\n```\n"
    given = "{" + ", ".join(f'"{field}": array' for field in facts.fields) + "}" if len(facts.fields) > 1 else "array"
    yield f'```python\nimport quell\n\nrestored = quell.load("FOLDER").restore({given})\n```\n'


def _images(facts: ModelFacts) -> Iterator[str]:
    yield "## Images and noise\n"
    yield "| field | images | noise of the training images | trained on noise of | accepts noise of |"
    yield "|---|---|---|---|---|"
    for field, kind in facts.fields.items():
        levels = facts.noise_ranges.get(field)
        trained = NoiseRange(**levels).words if levels else "not recorded"
        accepted = widened(NoiseRange(**levels)).words if levels else "any level"
        yield f"| {field} | {kind} | {facts.noise.get(field, 'not examined')} | {trained} | {accepted} |"
    yield "\nStandard deviations are in stored units: integers count as fractions of their type's maximum."
    if facts.noise_ranges:
        yield (
            "`quell denoise` measures the noise of every file, and refuses other noise, and what it cannot measure, "
            "unless `--force`\nis given."
        )
    yield ""


def _results(facts: ModelFacts) -> Iterator[str]:
    yield "## Results\n"
    if not facts.results:
        yield "Not measured.\n"
        return
    yield markdown_table(facts.results["table"])
    yield " ".join(facts.results["notes"]) or f"{facts.results['images']} images of {facts.results['split']}."
    yield (
        f"\nMeasured on the split `{facts.results['split']}` of `{facts.results['source'] or 'unknown source'}`, "
        f"fingerprint {facts.results['fingerprint'] or 'not recorded'}.\n"
    )


def _limits(facts: ModelFacts) -> Iterator[str]:
    yield "## Limits\n"
    if facts.assumes:
        yield f"- `{facts.method}` assumes: {facts.assumes}."
    if facts.results:
        yield f"- {_measured_where(facts)}; elsewhere it may remove detail or invent it."
    if limit := facts.data["notes"].get("limit"):
        yield f"- Of the training data: {limit}."
    yield from (f"- {warning}" for warning in facts.warnings)
    yield "- It is no medical device.\n"


def _measured_where(facts: ModelFacts) -> str:
    if facts.results["is_training_data_set"]:
        return "It was measured on images like those it was trained on only"
    trained = facts.data["notes"].get("source") or "unknown source"
    measured = facts.results["source"] or "unknown source"
    return f"It was trained on images of `{trained}`, and measured on another data set, of `{measured}`, only"


def _training(facts: ModelFacts) -> Iterator[str]:
    yield "## Training data\n"
    yield f"- samples: {facts.data['samples']}"
    yield f"- fingerprint: {facts.data['fingerprint'] or 'not recorded'}"
    yield f"- licence: {facts.data.get('licence') or 'not stated'}"
    yield from (f"- {key}: {value}" for key, value in facts.data["notes"].items() if key != "limit")
    yield "\n## Training\n"
    yield from (f"- {key}: {value or 'not recorded'}" for key, value in facts.training.items())
    yield f"- versions: {_numbers(facts.versions) or 'not recorded'}"
    yield f"- shared with: {_numbers(facts.shared_with)}"
    yield f"\n`{CONFIG}` is the complete configuration. On the same data, this trains such a model again:\n"
    yield f"```text\nquell train --config {CONFIG} --run-dir runs/{facts.name} data.root=SHARDS\n```"


def _numbers(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
