"""What a run is: every key of a YAML file with its type, default, unit and meaning.

The method's own keys (`pipeline`) are declared beside the method, in `pipelines/<name>.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from configs import registry
from configs.batching import batch_problem

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]

Network = Annotated[dict[str, Any], BeforeValidator(registry.checker("models", given=("in_channels", "out_channels")))]
"""A network by name with its constructor's arguments, e.g. `{name: unet, width: 32}`; checked before it is built."""

Loss = Annotated[dict[str, Any], BeforeValidator(registry.checker("losses"))]
"""A loss by name with its constructor's arguments, e.g. `{name: charbonnier, epsilon: 1e-3}`."""


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )


class PipelineConfig(Section):
    """What every method's own section has."""

    name: str
    """The method: the name of a file in pipelines/."""


class CacheConfig(Section):
    """Copies of remote shards on a disk of the node, shared by its processes and by runs."""

    folder: str | None = None
    """Folder on a disk of the node itself; null takes $QUELL_CACHE/shards, else quell-UID among the temporary files
    ($TMPDIR)."""
    max_gb: Rate = 100
    """Most the folder may hold, in 10^9 bytes. A split that does not fit is read sample by sample over the network."""
    retries: Count = 8
    """Times a request that failed is tried again, after pauses that grow from half a second to half a minute."""


class DataConfig(Section):
    """Where samples come from and how they become batches."""

    root: str = "runs/data/phantom"
    """Folder of shards, one sub-folder per split, or its URL (s3://, gs://, hf://, https://); relative paths start at
    the project's root."""
    cache: CacheConfig = CacheConfig()
    """Where remote shards are kept on a node."""
    mode: Literal["indexed", "stream"] = "indexed"
    """Any sample in any order through the index, or (stream) the training split read shard by shard from front to back
    and never kept, for data that fits no disk; its order and resume are weaker, see docs/data.md."""
    stream_buffer: Positive = 256
    """Samples among which stream mode shuffles; twice as many are in memory per process."""
    train_split: str = "train"
    """Sub-folder to train on."""
    val_split: str = "val"
    """Sub-folder measured during training."""
    test_split: str = "test"
    """Sub-folder measured by launch/evaluate.py."""
    batch_size: Positive = 4
    """Samples of one optimizer step over ALL processes and accumulated micro-batches."""
    eval_batch_size: Positive = 4
    """Whole images of one shape restored together, per process."""
    fields: dict[str, str] = {}
    """Shard member for a field the method reads, where the names differ, e.g. `{noisy: pd, clean: pd_clean}`.
    Fields that show unrelated samples of one of these (`unpaired_clean`) follow it."""
    crop: Positive | None = 256
    """Side of the square training crop in pixels; null trains on whole images, which must share one size."""
    flip: bool = True
    """Mirror horizontally and vertically, each with probability one half."""
    rotate: bool = False
    """Turn by a multiple of 90 degrees."""
    phase: bool = True
    """Multiply complex images by one random global phase."""
    normalise: Literal["median", "none"] = "median"
    """Divide each image by its median magnitude, or leave it in stored units."""
    representation: Literal["auto", "ri", "complex", "magnitude"] = "auto"
    """Complex data as two channels (ri), complex64 or magnitude; auto is ri for complex data, plain for real."""
    tail: Literal["carry", "drop"] = "carry"
    """The samples left over at an epoch's end open the next epoch's first batch (carry) or are left out (drop)."""
    shuffle: bool = True
    """Global order drawn anew each epoch from (seed, epoch), or stored order."""
    limit: Positive | None = None
    """Use only the first so many samples of each split."""
    prefetch: Positive = 2
    """Batches made ahead of the step by a thread."""
    verify: Literal["first", "always", "never"] = "first"
    """When members' checksums are compared: at a process's first read of a sample, at every read, or never."""


class OptimizerSettings(Section):
    """Settings one phase may override; null takes the common value."""

    lr: Rate | None = None
    """Learning rate at the top of the schedule."""
    betas: tuple[Fraction, Fraction] | None = None
    """Decay of the two moment averages (adam, adamw)."""
    weight_decay: Weight | None = None
    """Weight decay: decoupled for adamw, L2 for adam and sgd."""


class OptimizerConfig(Section):
    """How gradients become steps."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """Update rule, as in torch.optim."""
    lr: Rate = 3e-4
    """Learning rate at the top of the schedule."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the two moment averages (adam, adamw); the first is the momentum of sgd."""
    weight_decay: Weight = 0.0
    """Weight decay: decoupled for adamw, L2 for the others."""
    phases: dict[str, OptimizerSettings] = {}
    """Other values for single phases, e.g. `{critic: {lr: 2e-5}}`."""


class ScheduleConfig(Section):
    """The learning rate over time, as a factor of `optimizer.lr`."""

    name: Literal["constant", "cosine", "step", "linear", "plateau"] = "constant"
    """cosine: to `min_lr` over `length_epochs`; step: times `gamma` every `step_epochs`; linear: hold, then to zero;
    plateau: times `gamma` after `patience` evaluations without a better metric."""
    warmup_steps: Count = 0
    """Steps of linear rise from zero."""
    per: Literal["step", "epoch"] = "step"
    """Whether the rate moves at every step or only between epochs."""
    length_epochs: Rate | None = None
    """Length of the cosine; null is the whole run."""
    min_lr: Weight = 0.0
    """Rate at the end of the cosine, and the floor of plateau."""
    step_epochs: Rate = 30
    """Interval of step, in epochs."""
    gamma: Fraction = 0.1
    """Factor of step and plateau."""
    hold_epochs: Weight = 0.0
    """Epochs before linear starts to fall."""
    decay_epochs: Rate | None = None
    """Epochs linear takes to reach zero; null is the rest of the run."""
    patience: Count = 5
    """Evaluations plateau waits."""


class LoopConfig(Section):
    """How long and in which arithmetic."""

    epochs: Rate | None = 10
    """Length in epochs; a fraction is allowed."""
    max_steps: Positive | None = None
    """Length in optimizer steps; where both are given the shorter one holds."""
    accumulate: Positive = 1
    """Micro-batches whose gradients make one step."""
    clip_norm: Rate | None = 1.0
    """Largest gradient norm of a phase; null does not clip."""
    precision: Annotated[Literal["no", "bf16", "fp16", "auto"], BeforeValidator(lambda value: value or "no")] = "no"
    """Autocast type; weights stay float32. auto takes bf16 on a GPU or CPU made for it, fp16 on other GPUs, no on other
    CPUs and for complex networks."""
    ema_decay: Fraction = 0.0
    """Decay of the moving average of weights per step, used in evaluation; 0 keeps none."""
    max_skips: Count = 10
    """Steps in a row whose gradient was not finite before the run is called diverged."""
    threads: Count = 0
    """CPU threads per process; 0 shares the cores among the processes of a machine."""
    deterministic: bool = True
    """Use the same algorithm every time (bit-exact resume); false lets cuDNN pick the fastest."""
    channels_last: bool | Literal["auto"] = "auto"
    """Keep images in NHWC memory order; the numbers differ by rounding. auto does on GPUs, and on CPUs for networks of
    fewer than 32 channels, where it is faster. Complex networks, and all under DeepSpeed, stay NCHW."""
    sync_batchnorm: bool = False
    """Batch statistics over all processes (CUDA only)."""


class EvaluationConfig(Section):
    """Measuring during training, on every process's share of the validation split."""

    every_epochs: Rate | None = 1
    """Interval in epochs; null leaves it to `every_steps`."""
    every_steps: Positive | None = None
    """Interval in steps."""
    limit: Positive | None = None
    """Only the first so many validation samples."""
    metric: Literal["psnr", "ssim", "rmse"] = "psnr"
    """What the best checkpoint is chosen by: psnr, ssim (higher is better), or rmse (lower is better)."""
    images: Count = 2
    """Samples shown as image grids."""


class CheckpointConfig(Section):
    """What is kept to go on from."""

    every_steps: Positive | None = None
    """Interval in steps; null saves at every epoch's end."""
    keep_last: Positive = 2
    """Latest checkpoints kept; the best one is kept besides."""
    asynchronous: bool = True
    """Go on training while a thread writes the checkpoint from a copy in memory; false waits until it is on disk."""


class TrackingConfig(Section):
    """What is written down while training."""

    log_every: Positive = 20
    """Steps between lines of metrics; also the only moments the training thread waits for the device."""
    tensorboard: bool = True
    """Write event files to RUN/tensorboard."""
    wandb_project: str | None = None
    """Also send metrics to this Weights & Biases project, through accelerate's tracker."""


class ProfileConfig(Section):
    """Looking into single steps."""

    steps: tuple[Count, Count] | None = None
    """From which step of this process's training to which one a torch profiler trace is written, e.g. [10, 20], to
    RUN/tensorboard; null writes none."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "ProfileConfig":
        if self.steps is not None and self.steps[0] >= self.steps[1]:
            raise registry.SettingsError([f"steps is [first, one after the last], got {list(self.steps)}"])
        return self


class InitConfig(Section):
    """Weights taken from another run's checkpoint before the first step."""

    run: str
    """Run folder, or one checkpoint folder inside it."""
    parts: tuple[str, ...] = ()
    """Names of networks to take; empty takes all."""
    which: Literal["best", "last"] = "last"
    """Which of the run's checkpoints."""


class RunConfig(Section):
    """One training run, complete."""

    name: str = ""
    """Name of the run; empty takes the YAML file's name. The default run folder is runs/<name>."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1337
    """Fixes the initial weights, the order of samples, crops and noise."""
    pipeline: Annotated[SerializeAsAny[PipelineConfig], BeforeValidator(registry.pipeline_config)]
    """The method and its own settings."""
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loop: LoopConfig = LoopConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    profile: ProfileConfig = ProfileConfig()
    init_from: InitConfig | None = None
    """Warm start: named networks of another run."""

    @model_validator(mode="after")
    def _can_run(self) -> "RunConfig":
        problems = []
        if self.loop.epochs is None and self.loop.max_steps is None:
            problems.append("loop.epochs and loop.max_steps are both null: give the run a length")
        if problem := batch_problem(self.data.batch_size, accumulate=self.loop.accumulate):
            problems.append(problem)
        if self.data.representation == "complex" and self.loop.precision in ("bf16", "fp16"):
            problems.append(
                f"loop.precision {self.loop.precision} has no complex numbers: with data.representation "
                "complex loop.precision must be no (or set data.representation to ri)"
            )
        if self.schedule.name == "plateau" and not (self.evaluation.every_epochs or self.evaluation.every_steps):
            problems.append("schedule.name plateau follows the validation metric: give evaluation.every_epochs")
        if problems:
            raise registry.SettingsError(problems)
        return self
