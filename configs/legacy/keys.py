"""The keys of the older JSON configurations, and what became of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

TRAIN, VAL, TEST, TRAINER = "data.stages.train", "data.stages.val", "data.stages.test", "trainer"

NO_DEFAULT = object()
"""The older program had no default: where its key is missing, today's default applies."""


class Rename(NamedTuple):
    """A key that has a counterpart today."""

    old: tuple[str, ...]
    """Its older names; the first one in the file counts."""
    new: str
    """Today's key."""
    default: Any = NO_DEFAULT
    """Default of the older program."""
    convert: Callable[[Any], Any] = lambda value: value
    """From the old value to today's."""


def _weight(term: str, alias: str, default: float) -> Rename:
    names = tuple(f"{TRAINER}.loss_weights.{name}" for name in (term, alias))
    return Rename(names, f"pipeline.weights.{term}", default)


def _anti_collapse(old: str, new: str, default: float) -> Rename:
    return Rename((f"{TRAINER}.anti_collapse.{old}",), f"pipeline.anti_collapse.{new}", default)


RENAMES = (
    Rename(("seed",), "seed"),
    Rename(("data.root",), "data.root"),
    Rename(("data.representation",), "data.representation", "complex"),
    Rename(("data.crop_size",), "data.crop", 0, lambda v: v or None),
    Rename((f"{TRAIN}.split",), "data.train_split"),
    Rename((f"{VAL}.split",), "data.val_split"),
    Rename((f"{TEST}.split",), "data.test_split"),
    Rename((f"{TRAIN}.batch_size",), "data.batch_size", 1),
    Rename((f"{VAL}.batch_size",), "data.eval_batch_size", 1),
    Rename((f"{TRAIN}.shuffle",), "data.shuffle", False),
    Rename((f"{TRAIN}.drop_last",), "data.tail", False, lambda v: "drop" if v else "carry"),
    Rename((f"{TRAIN}.augment",), "data.flip", False),
    Rename((f"{TRAIN}.augment",), "data.phase", False),
    Rename(("model.encoder.kwargs.features",), "pipeline.encoder_features", [64, 128, 256]),
    Rename(("model.decoder_a.kwargs.features",), "pipeline.decoder_features", [256, 128, 64]),
    Rename(("model.encoder.kwargs.latent_channels", "model.cdlnet.M"), "pipeline.latent_channels", 64),
    Rename(("model.decoder_a.kwargs.identity_mapping",), "pipeline.identity_mapping", False),
    Rename(("optimizer.type",), "optimizer.name"),
    Rename(("optimizer.learning_rate",), "optimizer.lr"),
    Rename(("optimizer.weight_decay",), "optimizer.weight_decay", 0.0),
    Rename(("optimizer.betas",), "optimizer.betas", [0.9, 0.999]),
    Rename(("optimizer.momentum",), "optimizer.betas", NO_DEFAULT, lambda v: [v, 0.999]),
    Rename(("scheduler.type",), "schedule.name", "constant"),
    Rename((f"{TRAINER}.scheduler_step",), "schedule.per", "epoch"),
    Rename(("scheduler.t_max",), "schedule.length_epochs"),
    Rename(("scheduler.eta_min", "scheduler.min_lr"), "schedule.min_lr", 0.0),
    Rename(("scheduler.step_size",), "schedule.step_epochs"),
    Rename(("scheduler.gamma", "scheduler.factor"), "schedule.gamma"),
    Rename(("scheduler.patience",), "schedule.patience"),
    _weight("content", "alpha", 1.0),
    _weight("recon", "beta", 1.0),
    _weight("cross", "gamma", 1.0),
    Rename((f"{TRAINER}.noise.sigma_a", f"{TRAINER}.noise.sigma"), "pipeline.sigma_a", 0.0),
    Rename((f"{TRAINER}.noise.sigma_b", f"{TRAINER}.noise.sigma"), "pipeline.sigma_b", 0.0),
    Rename((f"{TRAINER}.cross_domain_strategy",), "pipeline.cross_domain_strategy", "use_source_skip"),
    Rename((f"{TRAINER}.mixed_skip_alpha",), "pipeline.mixed_skip_alpha"),
    Rename((f"{TRAINER}.same_domain_use_skip",), "pipeline.same_domain_use_skip"),
    Rename((f"{TRAINER}.use_ground_truth",), "pipeline.targets", NO_DEFAULT, lambda v: "clean" if v else "noisy"),
    _anti_collapse("variance_threshold", "variance_threshold", 1e-5),
    _anti_collapse("patience", "patience", 1),
    _anti_collapse("adjustment_factor", "factor", 0.15),
    _anti_collapse("max_alpha", "max_content", 10.0),
    _anti_collapse("min_beta", "min_recon", 1e-4),
    Rename((f"{TRAINER}.epochs",), "loop.epochs", 1),
    Rename((f"{TRAINER}.grad_clip_norm",), "loop.clip_norm", None),
)

IGNORED = {
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
"""Key -> why its value is not needed."""

SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
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
"""Key -> the values that dual_domain supports; any other would silently change the training."""

MUST_EQUAL = {
    "model.decoder_b.kwargs.features": "model.decoder_a.kwargs.features",
    "model.decoder_b.kwargs.identity_mapping": "model.decoder_a.kwargs.identity_mapping",
    "model.decoder_a.kwargs.latent_channels": "model.encoder.kwargs.latent_channels",
    "model.decoder_b.kwargs.latent_channels": "model.encoder.kwargs.latent_channels",
    f"{TRAINER}.input_representation": "data.representation",
}
"""Key -> the key whose value it must repeat, because one setting serves both today."""
