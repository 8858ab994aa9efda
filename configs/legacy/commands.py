"""Flags of the older programs' scripts, and what to write instead."""

from collections.abc import Collection, Sequence

FLAGS = {
    "--batch_size": "data.batch_size={value}",
    "--test_batch_size": "data.eval_batch_size={value}",
    "--lr": "optimizer.lr={value}",
    "--lr_g": "optimizer.lr={value}",
    "--lr_d": "optimizer.phases.critic.lr={value}",
    "--beta1": "optimizer.betas=[{value},0.999]",
    "--niter": "loop.epochs={value} (TCFL) or schedule.hold_epochs={value} (Spectroformer)",
    "--niter_decay": "schedule.decay_epochs={value}",
    "--lr_policy": "schedule.name, one of constant, linear, step, cosine, plateau",
    "--lam": "pipeline.weights.identity={value} pipeline.weights.clean={value}",
    "--sigma": "pipeline.weights.total_variation={value}",
    "--critic_updates": "pipeline.critic_updates={value}",
    "--dataset_path": "data.root={value}, after python -m shards.build",
    "--checkpoint_dir": "--run-dir {value}",
    "--output_dir": "--run-dir {value}",
    "--epoch": "--run RUN/checkpoints/step-XXXXXXXX, one of the folders there",
    "--epoch_count": "nothing: the same command continues a run",
    "--start_epoch": "nothing: the same command continues a run",
    "--threads": "nothing: threads read ahead by themselves",
    "--workers": "nothing: threads read ahead by themselves",
    "--cuda": "nothing: the device is chosen by accelerate launch",
    "--gpu": "nothing: the device is chosen by accelerate launch",
    "--training": "--config configs/r2r.yaml (R2R) or configs/supervised.yaml (N2C)",
    "--prepare_data": "python -m shards.build awgn --help",
}
"""Flag -> what says the same today; `{value}` is the flag's value."""


def explain_old_flags(words: Sequence[str], known: Collection[str]) -> str | None:
    """What to write instead of the flags of older programs in a command line; None where it has none.

    Args:
        words: The arguments of the command.
        known: Flags that today's command has.
    """
    found = []
    for i, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag not in FLAGS or flag in known:
            continue
        following = words[i + 1] if i + 1 < len(words) and not words[i + 1].startswith("-") else "VALUE"
        found.append(f"{flag} -> {FLAGS[flag].format(value=value or following)}")
    if not found:
        return None
    return (
        f"flags of an older script: {'; '.join(found)}. Settings are written a.b=c, after --config FILE "
        "(docs/coming_from_old_scripts.md lists whole commands)"
    )
