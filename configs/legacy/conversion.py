"""The older JSON configurations (keys data, model, optimizer, scheduler, trainer) -> plain data for configs/schema.py.

Every key of the file is accounted for: moved, not needed (with the reason), or an error. What the file leaves out takes
the older program's default, not ours, so that it means what it meant; the account says that too.
"""

import difflib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from configs.errors import ConfigError

TRAIN, VAL, TEST, TRAINER = "data.stages.train", "data.stages.val", "data.stages.test", "trainer"

OURS = object()
"""No default of the older program: when the key is left out, so is ours."""


class Move(NamedTuple):
    """A key that is read: its older names (the first one present holds), its new place, and how the value changes."""

    old: tuple[str, ...]
    new: str
    default: Any = OURS
    change: Callable[[Any], Any] = lambda value: value


def _weights(term: str, alias: str, default: float) -> Move:
    names = tuple(f"{TRAINER}.loss_weights.{name}" for name in (term, alias))
    return Move(names, f"pipeline.weights.{term}", default)


def _rule(old: str, new: str, default: float) -> Move:
    return Move((f"{TRAINER}.anti_collapse.{old}",), f"pipeline.anti_collapse.{new}", default)


MOVES = (
    Move(("seed",), "seed"),
    Move(("data.root",), "data.root"),
    Move(("data.representation",), "data.representation", "complex", lambda v: "auto" if v == "complex" else v),
    Move(("data.crop_size",), "data.crop", 0, lambda v: v or None),
    Move((f"{TRAIN}.split",), "data.train_split"),
    Move((f"{VAL}.split",), "data.val_split"),
    Move((f"{TEST}.split",), "data.test_split"),
    Move((f"{TRAIN}.batch_size",), "data.batch_size", 1),
    Move((f"{VAL}.batch_size",), "data.eval_batch_size", 1),
    Move((f"{TRAIN}.shuffle",), "data.shuffle", False),
    Move((f"{TRAIN}.drop_last",), "data.tail", False, lambda v: "drop" if v else "carry"),
    Move((f"{TRAIN}.augment",), "data.flip", False),
    Move((f"{TRAIN}.augment",), "data.phase", False),
    Move(("model.encoder.kwargs.features",), "pipeline.encoder_features", [64, 128, 256]),
    Move(("model.decoder_a.kwargs.features",), "pipeline.decoder_features", [256, 128, 64]),
    Move(("model.encoder.kwargs.latent_channels", "model.cdlnet.M"), "pipeline.latent_channels", 64),
    Move(("model.decoder_a.kwargs.identity_mapping",), "pipeline.identity_mapping", False),
    Move(("optimizer.type",), "optimizer.name"),
    Move(("optimizer.learning_rate",), "optimizer.lr"),
    Move(("optimizer.weight_decay",), "optimizer.weight_decay", 0.0),
    Move(("optimizer.betas",), "optimizer.betas", [0.9, 0.999]),
    Move(("optimizer.momentum",), "optimizer.betas", OURS, lambda v: [v, 0.999]),
    Move(("scheduler.type",), "schedule.name", "constant"),
    Move((f"{TRAINER}.scheduler_step",), "schedule.per", "epoch"),
    Move(("scheduler.t_max",), "schedule.length_epochs"),
    Move(("scheduler.eta_min", "scheduler.min_lr"), "schedule.min_lr", 0.0),
    Move(("scheduler.step_size",), "schedule.step_epochs"),
    Move(("scheduler.gamma", "scheduler.factor"), "schedule.gamma"),
    Move(("scheduler.patience",), "schedule.patience"),
    _weights("content", "alpha", 1.0),
    _weights("recon", "beta", 1.0),
    _weights("cross", "gamma", 1.0),
    Move((f"{TRAINER}.noise.sigma_a", f"{TRAINER}.noise.sigma"), "pipeline.sigma_a", 0.0),
    Move((f"{TRAINER}.noise.sigma_b", f"{TRAINER}.noise.sigma"), "pipeline.sigma_b", 0.0),
    Move((f"{TRAINER}.cross_domain_strategy",), "pipeline.cross_domain_strategy", "use_source_skip"),
    Move((f"{TRAINER}.mixed_skip_alpha",), "pipeline.mixed_skip_alpha"),
    Move((f"{TRAINER}.same_domain_use_skip",), "pipeline.same_domain_use_skip"),
    Move((f"{TRAINER}.use_ground_truth",), "pipeline.targets", OURS, lambda v: "clean" if v else "noisy"),
    _rule("variance_threshold", "variance_threshold", 1e-5),
    _rule("patience", "patience", 1),
    _rule("adjustment_factor", "factor", 0.15),
    _rule("max_alpha", "max_content", 10.0),
    _rule("min_beta", "min_recon", 1e-4),
    Move((f"{TRAINER}.epochs",), "loop.epochs", 1),
    Move((f"{TRAINER}.grad_clip_norm",), "loop.clip_norm", None),
)

WITHOUT_COUNTERPART = {
    "device": "the launcher chooses the device",
    "data.num_workers": "a thread reads ahead of the step",
    "data.pin_memory": "decided by the device",
    "data.load_ground_truth": "never read; clean images are measured against where shards have them",
    f"{VAL}.shuffle": "the order of an evaluation does not change it",
    f"{VAL}.drop_last": "an evaluation measures every image",
    f"{TEST}.batch_size": "data.eval_batch_size holds for every evaluation",
    f"{TEST}.shuffle": "the order of an evaluation does not change it",
    f"{TEST}.drop_last": "an evaluation measures every image",
    **{
        f"model.cdlnet.{key}": "the older program never built that network"
        for key in ("K", "P", "s", "C", "adaptive", "t0", "representation")
    },
    "scheduler.mode": "each metric knows whether higher is better",
    f"{TRAINER}.augmentation.brightness": "used only with enable_jitter",
    f"{TRAINER}.augmentation.contrast": "used only with enable_jitter",
    f"{TRAINER}.logging.use_wandb": "off unless asked for with tracking.wandb_project=NAME",
    f"{TRAINER}.logging.project": "off unless asked for with tracking.wandb_project=NAME",
    f"{TRAINER}.logging.entity": "set WANDB_ENTITY in the environment",
    f"{TRAINER}.logging.image_interval": "images are written at each evaluation (evaluation.images)",
    f"{TRAINER}.noise_estimation.enabled": "the noise is always estimated, for the floor; the network never used it",
    f"{TRAINER}.noise_estimation.method": "the noise is always estimated from a wavelet sub-band",
    f"{TRAINER}.encoder_output_index": "the encoder gives one latent",
    **{f"model.{part}.strict": "parts always match exactly" for part in ("encoder", "decoder_a", "decoder_b")},
}
"""Key -> why nothing here takes its value."""

FIXED: dict[str, tuple[Any, ...]] = {
    "model.encoder.class": ("UNetEncoder",),
    "model.decoder_a.class": ("UNetADecoder", "UNetBDecoder"),
    "model.decoder_b.class": ("UNetADecoder", "UNetBDecoder"),
    "model.encoder.module": (None,),
    "model.decoder_a.module": (None,),
    "model.decoder_b.module": (None,),
    f"{TRAIN}.paired": (True,),
    f"{VAL}.paired": (True,),
    f"{VAL}.augment": (False,),
    f"{TEST}.paired": (True,),
    f"{TEST}.augment": (False,),
    f"{TRAINER}.augmentation.enable_jitter": (False,),
    f"{TRAINER}.input_keys.domain_a": ("noisy_pd",),
    f"{TRAINER}.input_keys.domain_b": ("noisy_pdfs",),
    "optimizer.nesterov": (False,),
    "scheduler": (None,),
}
"""Key -> the values dual_domain can honour; another one would change the training silently."""

SAME = {
    "model.decoder_b.kwargs.features": "model.decoder_a.kwargs.features",
    "model.decoder_b.kwargs.identity_mapping": "model.decoder_a.kwargs.identity_mapping",
    "model.decoder_a.kwargs.latent_channels": "model.encoder.kwargs.latent_channels",
    "model.decoder_b.kwargs.latent_channels": "model.encoder.kwargs.latent_channels",
    f"{TRAINER}.input_representation": "data.representation",
}
"""Key -> the key it must repeat: here one setting serves both."""


def convert(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same run as plain data for our schema, and one sentence per key saying how it was read.

    Raises ConfigError with every key that is unknown or asks for what dual_domain cannot do.
    """
    old = _flatten(data)
    new: dict[str, Any] = {"pipeline": {"name": "dual_domain"}}
    account: dict[str, str] = {}
    problems: list[str] = []
    for move in MOVES:
        _move(move, old, new, account)
    _special(old, new, account, problems)
    for key, value in old.items():
        if key in account:
            continue
        if key.rpartition(".")[2].startswith("_"):
            account[key] = "a comment"
        elif key in WITHOUT_COUNTERPART:
            account[key] = f"not needed: {WITHOUT_COUNTERPART[key]}"
        elif key in FIXED:
            account[key] = f"always {value}"
            if value not in FIXED[key]:
                problems.append(f"{key}: {value!r} is not supported here, only {' or '.join(map(repr, FIXED[key]))}")
        elif key in SAME:
            account[key] = f"the same as {SAME[key]}"
            other = _read(SAME[key], old)
            if value != other:
                problems.append(f"{key}: {value!r} differs from {SAME[key]} {other!r}; one setting serves both")
        else:
            problems.append(f"{key}: unknown key{_nearest(key)}")
    if problems:
        raise ConfigError(problems)
    return new, [f"{key}: {line}" if line[0] != "-" else f"{key} {line}" for key, line in account.items()]


def _move(move: Move, old: dict[str, Any], new: dict[str, Any], account: dict[str, str]) -> None:
    """Put one value in its new place."""
    present = [name for name in move.old if name in old]
    if not present and move.default is OURS:
        return
    key = present[0] if present else move.old[0]
    value = move.change(old[key] if present else move.default)
    _put(new, move.new, value)
    earlier = f"{account[key]}, " if key in account else "-> "
    account[key] = f"{earlier}{move.new} = {value}" + ("" if present else " (left out: the older program's default)")
    for name in present[1:]:
        account.setdefault(name, f"not needed: {key} comes first")


def _read(key: str, old: dict[str, Any]) -> Any:
    """The value the older program used for a key of MOVES: given, given under another name, or its default."""
    move = next(move for move in MOVES if move.old[0] == key)
    return next((old[name] for name in move.old if name in old), move.default)


def _special(old: dict[str, Any], new: dict[str, Any], account: dict[str, str], problems: list[str]) -> None:
    """What several keys decide together: edge weight, result, noise switch, the schedule's unit, warm start."""
    trainer = f"{TRAINER}."
    edge = [f"{trainer}edge_loss.enabled", f"{trainer}edge_loss.weight"]
    plain = [f"{trainer}loss_weights.edge", f"{trainer}loss_weights.delta"]
    weight = next((old[key] for key in (edge[1], *plain) if key in old), 0.0) if old.get(edge[0], False) else 0.0
    _put(new, "pipeline.weights.edge", weight)
    for key in (*edge, *plain):
        if key in old:
            account[key] = f"-> pipeline.weights.edge = {weight} (edge_loss.weight while edge_loss.enabled, else 0)"

    if new["pipeline"]["weights"]["cross"] == 0:
        _put(new, "pipeline.restore_path", "same")
        cross = next(key for key in (f"{trainer}loss_weights.cross", f"{trainer}loss_weights.gamma") if key in account)
        account[cross] += ", pipeline.restore_path = same (the cross path is not trained)"

    switch = f"{trainer}noise.enabled"
    if not old.get(switch, False):
        new["pipeline"].update(sigma_a=0.0, sigma_b=0.0)
    account[switch] = "-> pipeline.sigma_a, pipeline.sigma_b" + ("" if old.get(switch) else " = 0 (no noise)")

    if new["schedule"]["per"] == "step" and new["schedule"]["name"] in ("cosine", "step"):
        problems.append(
            "trainer.scheduler_step: 'step' counts scheduler.t_max or step_size in steps, but here they "
            "are epochs; write a YAML with schedule.length_epochs or step_epochs"
        )
    _warm_start(old, new, account, problems)


def _warm_start(old: dict[str, Any], new: dict[str, Any], account: dict[str, str], problems: list[str]) -> None:
    """`checkpoint` and `state_key` of the three networks -> init_from."""
    runs, parts = set(), []
    for part in ("encoder", "decoder_a", "decoder_b"):
        path, state_key = f"model.{part}.checkpoint", f"model.{part}.state_key"
        if old.get(path):
            runs.add(str(PurePosixPath(old[path]).parent))
            parts.append(part)
            account[path] = f"-> init_from.run = {PurePosixPath(old[path]).parent}, its best checkpoint"
            if old.get(state_key) != part:
                problems.append(f"{state_key}: expected {part!r}, got {old.get(state_key)!r}")
        elif path in old:
            account[path] = "null: starts from random weights"
        if state_key in old:
            account[state_key] = "-> init_from.parts" if old.get(path) else "not needed: no checkpoint"
    if len(runs) > 1:
        problems.append(f"model.*.checkpoint: networks of several runs ({', '.join(sorted(runs))}) cannot be mixed")
    if runs:
        new["init_from"] = {"run": min(runs), "parts": parts, "which": "best"}


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping from dotted keys; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _put(new: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        new = new.setdefault(parent, {})
    new[last] = value


def _nearest(key: str) -> str:
    """A hint naming the nearest key of the older format."""
    known = [*(name for move in MOVES for name in move.old), *WITHOUT_COUNTERPART, *FIXED, *SAME]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return f"; did you mean '{near[0]}'?" if near else ""
