"""Checks for runs of any method: non-finite values, oscillation, flat curves, over-fitting, waiting for data."""

from functools import partial

from quell.configs.metric_names import cost
from quell.configs.support.suggestions import as_started_here
from quell.pipelines.reporting.checks import Check, check
from quell.pipelines.reporting.documents import MEASURED, SOLUTION_SUMMARY, SPECTROFORMER_REPORT
from quell.pipelines.reporting.facts import (
    MAX_OSCILLATION,
    MIN_FALL,
    MIN_LOGS_FOR_FALL,
    MIN_LOGS_FOR_OSCILLATION,
    RunFacts,
)

GROUP, METHOD_GROUP = "Training", "The method's own diagnostics"

DOMINATING_SHARE = 0.95
"""Share of the total loss above which one term dominates."""
MAX_DATA_WAIT = 0.1
"""Share of the time that may be spent waiting for data."""
MAX_DEFICIT = {"psnr": 0.5, "ssim": 0.02}
"""By how much the last validation may be worse than the best one; 5 % of the best for other metrics."""
MAX_GAP_DB = 1.0
"""By how much PSNR may gain more on training images than on validation images, unless their spread explains more."""
MIN_REACHED = 0.5
"""Share of a network's parameters that must receive a gradient."""

MORE_LOGS = "train longer, or lower tracking.log_every"


def general_checks(facts: RunFacts) -> list[Check]:
    """The Spectroformer loss report's table of anomalies, extended, and the method's own findings."""
    return [
        not_finite(facts),
        out_of_memory(facts),
        *oscillation(facts),
        *flat(facts),
        dominating_loss(facts),
        generalization_gap(facts),
        behind_best(facts),
        worse_than_noisy(facts),
        data_wait(facts),
        *gradient_reach(facts),
        *method_findings(facts),
    ]


def not_finite(facts: RunFacts) -> Check:
    """Steps that were skipped because a gradient was not finite, and logged values that were not."""
    steps = [event["step"] for event in facts.train_events]
    intervals = [step - previous for previous, step in zip([0, *steps], steps, strict=False)]
    skipped = sum(
        round(event[name] * interval)  # the log has the share of skipped steps since the previous log
        for event, interval in zip(facts.train_events, intervals, strict=True)
        for name in event
        if name.startswith("skipped_") and event[name] is not None
    )
    not_logged = sum(value is None for event in facts.train_events for value in event.values())
    has_diverged = facts.summary.get("status") == "diverged"
    return check(
        "NaN, skipped steps",
        float(skipped + not_logged),
        "0",
        not (skipped or not_logged or has_diverged),
        source=SPECTROFORMER_REPORT,
        group=GROUP,
        ok="all gradients were finite",
        problem="lower optimizer.lr, set loop.clip_norm, or set loop.precision=no; check the data with "
        + as_started_here("python -m shards.verify"),
    )


def out_of_memory(facts: RunFacts) -> Check:
    """Whether the run ended because memory ran out."""
    error = str(facts.summary.get("error", ""))
    is_out = "memory" in error.lower()
    return check(
        "out of memory",
        error[:60] if is_out else "no",
        "no",
        not is_out,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        problem=f"data.batch_size {facts.config.data.batch_size} -> 2, or keep it and set loop.accumulate, "
        "which needs less memory for the same training",
        ok="the run did not run out of memory",
    )


def oscillation(facts: RunFacts) -> list[Check]:
    """How much the loss of each phase jumps from log to log."""
    return [
        check(
            f"oscillation of {name}",
            facts.oscillation(name),
            f"<= {MAX_OSCILLATION}",
            _at_most(facts.oscillation(name), MAX_OSCILLATION),
            source=SPECTROFORMER_REPORT,
            group=GROUP,
            problem="lower optimizer.lr, raise data.batch_size, or set loop.clip_norm",
            ok="the curve is smooth",
            unknown=f"needs at least {MIN_LOGS_FOR_OSCILLATION} training logs: {MORE_LOGS}",
        )
        for name in facts.phase_losses
    ]


def flat(facts: RunFacts) -> list[Check]:
    """Whether the loss of each phase falls; those of phases that compete need not."""
    is_adversarial = len(facts.phase_losses) > 1
    checks = []
    for name in facts.phase_losses:
        fall = facts.fall(name)
        checks.append(
            check(
                f"flat {name}",
                fall,
                f"falls by > {MIN_FALL:.0%}",
                None if fall is None or is_adversarial else fall > MIN_FALL,
                source=SPECTROFORMER_REPORT,
                group=GROUP,
                problem="raise optimizer.lr; see below which networks receive a gradient",
                ok="the loss falls",
                unknown="losses of a critic and its generator need not fall: go by the metrics"
                if is_adversarial
                else f"needs at least {MIN_LOGS_FOR_FALL} training logs: {MORE_LOGS}",
            )
        )
    return checks


def dominating_loss(facts: RunFacts) -> Check:
    """Whether one weighted loss term makes up nearly all of the total."""
    shares = loss_shares(facts)
    name = max(shares, key=lambda key: shares[key]) if shares else ""
    share = shares.get(name)
    return check(
        "one loss dominates",
        None if share is None else f"{name} {share:.2f}",
        f"<= {DOMINATING_SHARE}",
        _at_most(share, DOMINATING_SHARE) if len(shares) > 1 else None,
        source=SPECTROFORMER_REPORT,
        group=GROUP,
        problem="the other terms hardly count: change the weights, or let them be learned (weighting: uncertainty)",
        ok="every term counts",
        unknown="there is only one term" if len(shares) == 1 else "the log has no weighted loss terms",
    )


def loss_shares(facts: RunFacts) -> dict[str, float]:
    """Share of each logged loss term in their weighted sum at the end; weights as logged, else as configured."""
    configured = getattr(facts.config.pipeline, "weights", None)
    terms = [
        name
        for name, value in facts.train_events[-1].items()
        if isinstance(value, float) and not name.startswith(("loss_", "weight_"))
    ]
    weighted: dict[str, float] = {}
    for term in terms:
        weight = facts.final(f"weight_{term}")
        if weight is None:
            weight = getattr(configured, term, None)
        value = facts.final(term)
        if isinstance(weight, float | int) and weight and value is not None:
            weighted[term] = abs(weight * value)
    total = sum(weighted.values())
    return {term: value / total for term, value in weighted.items()} if total else {}


def generalization_gap(facts: RunFacts) -> Check:
    """By how much more PSNR gains on training images than on validation images."""
    train, val, error = (facts.probe.get(name) for name in ("gain_train", "gain_val", "gain_error"))
    if train is None or val is None or error is None:
        gap, limit = None, MAX_GAP_DB
    else:
        gap, limit = train - val, max(MAX_GAP_DB, 2 * error)
    return check(
        "train/validation gap (dB)",
        gap,
        f"<= {limit:.3g}",
        _at_most(gap, limit),
        source=SPECTROFORMER_REPORT,
        group=GROUP,
        ok="unseen images gain as much as training images",
        unknown="needs clean images in both splits",
        problem="the network memorises the training images: use more data, data.flip, data.rotate, smaller crops, "
        "optimizer.weight_decay, or a smaller network",
    )


def behind_best(facts: RunFacts) -> Check:
    """How much worse the last validation is than the best one."""
    name = facts.config.evaluation.metric
    values = [event[name] for event in facts.eval_events if event.get(name) is not None]
    best = min(values, key=partial(cost, name)) if values else None
    deficit = None if best is None or len(values) < 2 else cost(name, values[-1]) - cost(name, best)
    limit = MAX_DEFICIT.get(name, 0.05 * abs(best or 0))
    return check(
        f"validation {name} behind its best",
        deficit,
        f"<= {limit:.3g}",
        _at_most(deficit, limit),
        source=SPECTROFORMER_REPORT,
        group=GROUP,
        ok="validation keeps up with training",
        unknown="needs at least two evaluations",
        problem="training over-fits or has become unstable: stop earlier, or lower optimizer.lr; the best checkpoint "
        "is kept, use --which best",
    )


def worse_than_noisy(facts: RunFacts) -> Check:
    """Whether the restored images are closer to the reference than the noisy ones."""
    gain = facts.gain()
    return check(
        "PSNR over noisy (dB)",
        gain,
        "> 0",
        None if gain is None else gain > 0,
        source=MEASURED,
        group=GROUP,
        problem="the result is worse than the noisy images: train longer, or see the findings below",
        ok="better than the noisy images",
        unknown="needs clean images, or second noisy ones, to compare with",
    )


def data_wait(facts: RunFacts) -> Check:
    """Share of the time that training waited for a batch, without the first log, which includes the start-up."""
    shares = facts.series("data_wait")[1:]
    mean = sum(shares) / len(shares) if shares else None
    return check(
        "waiting for data",
        mean,
        f"<= {MAX_DATA_WAIT:.0%}",
        _at_most(mean, MAX_DATA_WAIT),
        source=MEASURED,
        group=GROUP,
        ok="loading keeps up with training",
        unknown="needs at least two training logs",
        problem="raise data.prefetch, move the shards to a local disk, or store arrays instead of png",
    )


def gradient_reach(facts: RunFacts) -> list[Check]:
    """Whether every network receives a gradient."""
    return [
        check(
            f"gradient reaches {name.removeprefix('reached_')}",
            share,
            f">= {MIN_REACHED:.0%} of parameters",
            share >= MIN_REACHED,
            source=MEASURED,
            group=GROUP,
            problem="the other parameters cannot learn: a zero-initialised layer blocks their gradient "
            "(identity_mapping), the weight of their loss is zero, or the network is not used",
            ok="the network learns",
        )
        for name, share in facts.probe.items()
        if name.startswith("reached_")
    ]


def method_findings(facts: RunFacts) -> list[Check]:
    """The method's own findings on the last evaluation, such as a leak, a collapse or a constant generator."""
    return [
        check(
            finding.name,
            finding.value,
            finding.bound,
            finding.ok,
            source=MEASURED,
            group=METHOD_GROUP,
            problem=finding.message,
            ok=finding.message,
        )
        for finding in facts.findings
    ]


def _at_most(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit
