"""Facts about a synthetic run, for tests of the diagnostic rules."""

from collections.abc import Sequence

from quell.configs import loader
from quell.configs.support.json_files import Record
from quell.pipelines.reporting.checks import Check, Finding
from quell.pipelines.reporting.facts import RunFacts


def facts(
    losses: list[float] | None = None,
    *,
    evaluation: dict[str, float] | None = None,
    probe: dict[str, float] | None = None,
    findings: list[Finding] | None = None,
    summary: Record | None = None,
    overrides: list[str] | None = None,
    **events: Sequence[float | None],
) -> RunFacts:
    """Facts about a dual-domain run that logs once per epoch.

    `losses` and the series in `events` have one value per epoch; all other logged values are constant.
    """
    losses = losses or [2.0 * 0.9**i for i in range(16)]
    common = {"content": 0.02, "recon": 0.5, "cross": 1.0, "edge": 0.0, "skipped_denoiser": 0.0, "data_wait": 0.01}
    train = [
        {
            "event": "train",
            "step": 10 * (i + 1),
            "epoch": float(i + 1),
            "loss_denoiser": loss,
            **common,
            **{name: values[i] for name, values in events.items()},
        }
        for i, loss in enumerate(losses)
    ]
    config = loader.structure(loader.apply({"name": "synthetic", "pipeline": {"name": "dual_domain"}}, overrides or []))
    evaluations = [] if evaluation is None else [{"event": "eval", "step": 160, **evaluation}]
    return RunFacts(config, [*train, *evaluations], summary or {}, probe or {}, findings or [])


def find(checks: list[Check], name: str, source: str | None = None) -> Check:
    """The only check with this name, or, where several documents have one, with this name and source."""
    (match,) = [check for check in checks if check.name == name and source in (None, check.source)]
    return match


def verdict(checks: list[Check], name: str, source: str | None = None) -> str:
    """The verdict of the check that `find` finds."""
    return find(checks, name, source).verdict
