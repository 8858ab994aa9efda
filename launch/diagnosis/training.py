"""The anomalies any training can show: not finite, oscillating, flat, one loss alone, over-fitted, waiting for data."""

from launch.diagnosis.checks import Check, check
from launch.diagnosis.facts import Facts
from launch.evaluation.evaluator import LOWER_IS_BETTER

GROUP = "Training"

ROUGH = 0.25
"""Standard deviation from log to log, over the mean size, above which a loss oscillates."""
STANDING = 0.03
"""Fall of a loss, from its first log to its last quarter, below which it is flat."""
ALONE = 0.95
"""Share of the total above which one loss dominates."""
WAITING = 0.1
"""Share of the time spent waiting for data."""
LOST = {"psnr": 0.5, "ssim": 0.02}
"""By how much the last validation may be worse than the best one (for other metrics, 5 % of it)."""
GAP_DB = 1.0
"""Gain in PSNR by which training images may be ahead of validation images, if their spread does not explain more."""
UNREACHED = 0.5
"""Share of a network's parameters that must get a gradient."""


def training_checks(facts: Facts) -> list[Check]:
    """The anomaly table of document 003 and its like, for every method."""
    return [
        not_finite(facts),
        memory(facts),
        *oscillation(facts),
        *flat(facts),
        dominating(facts),
        gap(facts),
        behind_best(facts),
        worse_than_noisy(facts),
        data_wait(facts),
        *reach(facts),
        *own_findings(facts),
    ]


def not_finite(facts: Facts) -> Check:
    """NaN: steps that were skipped because a gradient was not finite."""
    steps = [event["step"] for event in facts.train]
    spans = [now - before for before, now in zip([0, *steps], steps, strict=False)]
    skips = sum(
        round(event[name] * span)
        for event, span in zip(facts.train, spans, strict=True)
        for name in event
        if name.startswith("skipped_") and event[name] is not None
    )
    lost = sum(value is None for event in facts.train for value in event.values())
    diverged = facts.summary.get("status") == "diverged"
    return check(
        "NaN, skipped steps",
        float(skips + lost),
        "0",
        not (skips or lost or diverged),
        source="003",
        group=GROUP,
        ok="all gradients were finite",
        problem="lower optimizer.lr, set loop.clip_norm, use loop.precision no; look at the data with "
        "python -m shards.verify",
    )


def memory(facts: Facts) -> Check:
    """Whether the run ended because memory ran out (rule 8)."""
    error = str(facts.summary.get("error", ""))
    out = "memory" in error.lower()
    return check(
        "out of memory",
        error[:60] if out else "no",
        "no",
        not out,
        source="002",
        group=GROUP,
        problem=f"data.batch_size {facts.config.data.batch_size} -> 2, or keep it and set loop.accumulate, "
        "which needs less memory for the same training",
        ok="the run did not end for want of memory",
    )


def oscillation(facts: Facts) -> list[Check]:
    """How much each phase's loss jumps from log to log."""
    return [
        check(
            f"oscillation of {name}",
            facts.roughness(name),
            f"<= {ROUGH}",
            _below(facts.roughness(name), ROUGH),
            source="003",
            group=GROUP,
            problem="lower optimizer.lr, raise data.batch_size, or set loop.clip_norm",
            ok="the curve is smooth",
            unknown="needs eight training logs: run longer or lower tracking.log_every",
        )
        for name in facts.losses
    ]


def flat(facts: Facts) -> list[Check]:
    """Whether each phase's loss fell; two phases that play against each other need not let theirs fall."""
    found = []
    for name in facts.losses:
        fall = facts.fall(name)
        rivals = len(facts.losses) > 1
        found.append(
            check(
                f"flat {name}",
                fall,
                f"falls by > {STANDING:.0%}",
                None if fall is None or rivals else fall > STANDING,
                source="003",
                group=GROUP,
                problem="raise optimizer.lr; see below which networks get a gradient",
                ok="the loss falls",
                unknown="losses of a critic and its generator need not fall: go by the metrics"
                if rivals
                else "needs four training logs: run longer or lower tracking.log_every",
            )
        )
    return found


def dominating(facts: Facts) -> Check:
    """The largest weighted loss as a share of their sum."""
    shares = contributions(facts)
    name = max(shares, key=lambda key: shares[key]) if shares else ""
    value = shares.get(name)
    return check(
        "one loss dominates",
        None if value is None else f"{name} {value:.2f}",
        f"<= {ALONE}",
        _below(value, ALONE) if len(shares) > 1 else None,
        source="003",
        group=GROUP,
        problem="the others hardly count: change the weights, or let them learn (weighting: uncertainty)",
        ok="every loss counts",
        unknown="one loss only" if len(shares) == 1 else "the log has no losses with their weights",
    )


def contributions(facts: Facts) -> dict[str, float]:
    """Each logged loss times its weight (logged, or from the configuration) as a share of their sum, at the end."""
    fixed = getattr(facts.config.pipeline, "weights", None)
    names = [
        name
        for name, value in facts.train[-1].items()
        if isinstance(value, float) and not name.startswith(("loss_", "weight_"))
    ]
    parts: dict[str, float] = {}
    for name in names:
        weight = facts.end(f"weight_{name}")
        weight = getattr(fixed, name, None) if weight is None else weight
        value = facts.end(name)
        if isinstance(weight, float | int) and weight and value is not None:
            parts[name] = abs(weight * value)
    total = sum(parts.values())
    return {name: value / total for name, value in parts.items()} if total else {}


def gap(facts: Facts) -> Check:
    """By how much more training images gain over their noisy ones than validation images do, in PSNR."""
    train, val, error = (facts.probe.get(name) for name in ("gain_train", "gain_val", "gain_error"))
    if train is None or val is None or error is None:
        ahead, limit = None, GAP_DB
    else:
        ahead, limit = train - val, max(GAP_DB, 2 * error)
    return check(
        "train/validation gap (dB)",
        ahead,
        f"<= {limit:.3g}",
        _below(ahead, limit),
        source="003",
        group=GROUP,
        ok="unseen images gain what training images do",
        unknown="needs clean images in both splits",
        problem="the training images are learned by heart: more data, data.flip, data.rotate, smaller crops, "
        "optimizer.weight_decay, or a smaller network",
    )


def behind_best(facts: Facts) -> Check:
    """How far the last validation is behind the best one, while training went on."""
    name = facts.config.evaluation.metric
    values = [event[name] for event in facts.evaluations if event.get(name) is not None]
    best = (min if name in LOWER_IS_BETTER else max)(values) if values else None
    lost = None if best is None or len(values) < 2 else abs(best - values[-1])
    limit = LOST.get(name, 0.05 * abs(best or 0))
    return check(
        f"validation {name} behind its best",
        lost,
        f"<= {limit:.3g}",
        _below(lost, limit),
        source="003",
        group=GROUP,
        ok="validation keeps up with training",
        unknown="needs two evaluations",
        problem="training goes on at the cost of unseen images, or has become unstable: stop earlier, lower "
        "optimizer.lr; the best checkpoint is kept, use --which best",
    )


def worse_than_noisy(facts: Facts) -> Check:
    """Gain in PSNR of the result over the noisy images."""
    psnr, noisy = facts.metric("psnr"), facts.metric("noisy_psnr")
    gain = None if psnr is None or noisy is None else psnr - noisy
    good = None if gain is None else gain > 0
    return check(
        "PSNR over noisy (dB)",
        gain,
        "> 0",
        good,
        source="measured",
        group=GROUP,
        problem="the result is worse than doing nothing: train longer, or see the findings below",
        ok="better than doing nothing",
        unknown="no clean or second noisy images to compare with",
    )


def data_wait(facts: Facts) -> Check:
    """Share of the time the training thread waited for a batch; the first log is left out."""
    values = facts.series("data_wait")
    value = sum(values[1:]) / len(values[1:]) if len(values) > 1 else None
    return check(
        "waiting for data",
        value,
        f"<= {WAITING:.0%}",
        _below(value, WAITING),
        source="measured",
        group=GROUP,
        ok="the reader keeps up",
        unknown="needs two training logs",
        problem="raise data.prefetch, put the shards on a local disk, or store arrays instead of png",
    )


def reach(facts: Facts) -> list[Check]:
    """Whether every network gets a gradient."""
    return [
        check(
            f"gradient reaches {name.removeprefix('reached_')}",
            value,
            f">= {UNREACHED:.0%} of parameters",
            value >= UNREACHED,
            source="measured",
            group=GROUP,
            problem="these parameters cannot learn: a zeroed layer behind them (identity_mapping), a weight of "
            "zero, or a network that is not used",
            ok="the network learns",
        )
        for name, value in facts.probe.items()
        if name.startswith("reached_")
    ]


def own_findings(facts: Facts) -> list[Check]:
    """The method's own verdicts on the last evaluation: leak, collapse, flat, a constant generator."""
    found = []
    for one in facts.findings:
        sign = "|x| <=" if one.name.startswith("leak_") else "<=" if (one.value <= one.threshold) == one.ok else ">="
        found.append(
            check(
                one.name,
                one.value,
                f"{sign} {one.threshold:g}",
                one.ok,
                source="measured",
                group="The method's own instruments",
                problem=one.message,
                ok=one.message,
            )
        )
    return found


def _below(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit
