"""What a run is: every key of a YAML file with its type, default, unit and meaning.

The method's own keys (`pipeline`) are declared beside the method, in `pipelines/<name>.py`.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, WithJsonSchema, field_validator, model_validator

from quell.configs import metric_names, registry
from quell.configs.batching import batch_problem
from quell.configs.locations import location_problem, name_problem, path_problem
from quell.configs.sections import Count, Folder, Fraction, Positive, Rate, Samples, Section, Weight
from quell.configs.sizes import Side
from quell.configs.support.mappings import Settings
from quell.configs.tracking import TrackingConfig

Network = Annotated[
    Settings,
    BeforeValidator(registry.checker("models", given=("in_channels", "out_channels"))),
    WithJsonSchema({"catalogue": "models"}),
]
"""A network by name with its constructor's arguments, e.g. `{name: unet, width: 32}`; checked before it is built. A
class of an installed library is `{target: package.module.Class, argument: ...}` (models/library_network.py)."""

Loss = Annotated[Settings, BeforeValidator(registry.checker("losses")), WithJsonSchema({"catalogue": "losses"})]
"""A loss by name with its constructor's arguments, e.g. `{name: charbonnier, eps: 1e-3}`."""


class PipelineConfig(Section):
    """What the section of every method has."""

    name: str
    """The method: the name of a file in pipelines/, or a module of your own (`my_methods.noisier2noise`)."""


class CacheConfig(Section):
    """Copies of shards on the node, shared by its processes and by runs."""

    copy_local: bool = False
    """Copy shards from a local `root`, which is often a disk that all nodes share, to the node as well. Only for
    `mode: indexed`."""
    folder: str | None = None
    """Folder on a disk of the node itself, in which `$NAME` is replaced; null takes $QUELL_CACHE/shards, else quell-UID
    among the temporary files ($TMPDIR). For copies of local shards null takes quell-shards in $SLURM_TMPDIR first."""
    max_gb: Rate = 100
    """Largest size of the folder in 10^9 bytes. A split that does not fit is read where it is, a remote one sample by
    sample."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 8
    """Retries of a failed request, after pauses that grow from half a second to half a minute."""


class DataConfig(Section):
    """Where samples come from, and how they become batches."""

    root: str = "runs/data/phantom"
    """Folder of shards, one sub-folder per split, or its URL (s3://, gs://, hf://, https://); relative paths start at
    the project's root."""
    cache: CacheConfig = CacheConfig()
    """Where remote shards are kept on a node."""
    mode: Literal["indexed", "stream"] = "indexed"
    """indexed reads any sample in any order; stream reads the training split shard by shard and stores nothing,
    for data that fit on no disk (its order and its resume are weaker, see docs/data.md)."""
    stream_buffer: Samples = 256
    """Samples in the shuffle buffer of stream mode; twice as many are in memory per process."""
    train_split: Folder = "train"
    """Sub-folder of the training split."""
    val_split: Folder = "val"
    """Sub-folder of the split that is evaluated during training."""
    test_split: Folder = "test"
    """Sub-folder of the split that launch/evaluate.py evaluates."""
    batch_size: Samples = 4
    """Samples of one optimizer step over ALL processes and accumulated micro-batches."""
    eval_batch_size: Samples = 4
    """Full images of one shape restored together in evaluation, per process."""
    fields: dict[str, str] = {}
    """Shard member for a field the method reads, where the names differ, e.g. `{noisy: pd, clean: pd_clean}`.
    Fields that show unrelated samples of one of these (`unpaired_clean`) follow it."""
    resize: Side | tuple[Side, Side] | None = None
    """Size that every image is resized to when it is read, for training and evaluation, all fields alike: one side of
    a square, or [height, width]. Bicubic, antialiased; aspect ratios are not kept. Files that are restored keep their
    size. To resize once, use --resize of `shards.build`."""
    crop_at: Literal["random", "centre"] = "random"
    """Where training crops are taken."""
    crop: Side | None = 256
    """Side of the square training crop in pixels; null trains on full images, which must share one size."""
    flip: bool = True
    """Flip horizontally and vertically, each with probability 1/2."""
    rotate: bool = False
    """Rotate by a random multiple of 90 degrees."""
    phase: bool = True
    """Multiply complex images by a random global phase."""
    normalise: Literal["median", "none"] = "median"
    """Divide each image by its median magnitude, or leave it in stored units."""
    representation: Literal["auto", "ri", "complex", "magnitude"] = "auto"
    """Complex data as two channels (ri), complex64 or magnitude; auto is ri for complex data, plain for real."""
    tail: Literal["carry", "drop"] = "carry"
    """The samples left over at an epoch's end open the next epoch's first batch (carry) or are left out (drop)."""
    shuffle: bool = True
    """Shuffle the whole split in every epoch, by (seed, epoch); false keeps the stored order."""
    limit: Positive | None = None
    """Use only the first N samples of each split."""
    prefetch: Annotated[int, Field(gt=0, le=1000)] = 2
    """Batches that a thread prepares ahead of the step."""
    threads: Annotated[int, Field(gt=0, le=64)] | None = None
    """Threads of each process that read its training batches; null: up to four, of plain arrays half the process's
    share of the cores. They fill whole batches, or share the images of one where these are decoded or fetched."""
    verify: Literal["first", "always", "never"] = "first"
    """When checksums are verified: when a process first reads a sample, at every read, or never. What is read over the
    network and not kept is verified at every read, unless never."""

    @field_validator("root")
    @classmethod
    def _is_a_location(cls, root: str) -> str:
        if problem := location_problem(root):
            raise ValueError(problem)
        return root

    @model_validator(mode="after")
    def _copies_need_any_order(self) -> "DataConfig":
        if self.cache.copy_local and self.mode == "stream":
            raise registry.SettingsError(
                ["cache.copy_local: stream mode stores nothing on the node; use mode: indexed"]
            )
        return self

    @field_validator("train_split", "val_split", "test_split")
    @classmethod
    def _is_a_sub_folder(cls, split: str) -> str:
        if problem := name_problem(split):
            raise ValueError(problem)
        return split


class OptimizerSettings(Section):
    """Settings that a phase may override; null keeps the common value."""

    lr: Rate | None = None
    """Peak learning rate of the schedule."""
    betas: tuple[Fraction, Fraction] | None = None
    """Decay rates of the two moment estimates (adam, adamw)."""
    weight_decay: Weight | None = None
    """Weight decay: decoupled for adamw, L2 for adam and sgd."""


class OptimizerConfig(Section):
    """The optimizer."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """Update rule, as in torch.optim."""
    lr: Rate = 3e-4
    """Peak learning rate of the schedule."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of the two moment estimates (adam, adamw); the first is the momentum of sgd."""
    weight_decay: Weight = 0.0
    """Weight decay: decoupled for adamw, L2 for the others."""
    phases: dict[str, OptimizerSettings] = {}
    """Settings of single phases, e.g. `{critic: {lr: 2e-5}}`."""


class ScheduleConfig(Section):
    """The learning rate over time, as a factor of `optimizer.lr`."""

    name: Literal["constant", "cosine", "step", "linear", "plateau"] = "constant"
    """cosine: to `min_lr` over `length_epochs`; step: times `gamma` every `step_epochs`; linear: hold, then to zero;
    plateau: times `gamma` after `patience` evaluations without a better metric."""
    warmup_steps: Count = 0
    """Steps of linear warm-up from zero."""
    per: Literal["step", "epoch"] = "step"
    """Whether the rate changes at every step, or only between epochs."""
    length_epochs: Rate | None = None
    """Length of the cosine; null is the whole run."""
    min_lr: Weight = 0.0
    """Rate at the end of the cosine, and the floor of plateau."""
    step_epochs: Rate = 30
    """Interval of step, in epochs."""
    gamma: Fraction = 0.1
    """Factor of step and plateau."""
    hold_epochs: Weight = 0.0
    """Epochs before linear starts to decay."""
    decay_epochs: Rate | None = None
    """Epochs that linear takes to reach zero; null is the rest of the run."""
    patience: Count = 5
    """Evaluations that plateau waits for a better metric."""


CompileMode = bool | Literal["max-autotune", "reduce-overhead"]
"""How a phase is compiled: not (false), by torch.compile's default (true), or by the mode of that name."""


class LoopConfig(Section):
    """Length and arithmetic of training."""

    epochs: Annotated[float, Field(gt=0, le=1e9)] | None = 10
    """Length in epochs; a fraction is allowed."""
    max_steps: Positive | None = None
    """Length in optimizer steps; if both are given, the shorter one applies."""
    accumulate: Samples = 1
    """Micro-batches per process whose gradients are accumulated into one step."""
    clip_norm: Rate | None = 1.0
    """Gradient norm to which each phase is clipped; null does not clip."""
    precision: Annotated[
        Literal["no", "bf16", "fp16", "auto"],
        BeforeValidator(lambda value: value or "no"),
        WithJsonSchema({"enum": ["auto", "no", "bf16", "fp16", False, None]}),  # YAML 1.1 reads no as false
    ] = "auto"
    """Autocast type; weights stay float32. auto is what `accelerate launch --mixed_precision` asks for, else bf16 on
    GPUs that multiply it in hardware and fp16 on other GPUs. On CPUs (also on those with bf16 instructions, so that
    numbers do not depend on the processor), on Apple GPUs, and for complex networks it is no. A resumed run continues
    with what it began with, where its device supports that."""
    tf32: bool | Literal["auto"] = "auto"
    """Whether NVIDIA and Intel GPUs round the inputs of float32 convolutions and matrix products to TF32, which is
    several times faster. auto does so beside bf16 and fp16, which are coarser, and not where precision is no."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the moving average of weights that evaluation uses; 0 keeps none."""
    max_skips: Count = 10
    """Steps in a row that may be skipped for a gradient that is not finite, before the run stops as diverged."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads per process; 0 divides the cores among the processes that may run on them."""
    deterministic: bool = True
    """Use deterministic algorithms, for bit-exact resume; torch warns of an operator that has none. false lets cuDNN
    try several at the first step and take the fastest (cudnn.benchmark); what that gains was not measured."""
    channels_last: bool | Literal["auto"] = "auto"
    """Use NHWC memory order; results differ by rounding. auto does so on GPUs (not on Apple's), and on CPUs for
    networks with layers of fewer than 32 channels, where it is faster. Complex networks, and all under DeepSpeed, stay
    NCHW."""
    compile: CompileMode | dict[str, CompileMode] = False
    """Compile the losses of training with torch.compile, all alike or by phase, e.g. `{generator: max-autotune}`: true;
    max-autotune tries several kernels for each operator; reduce-overhead also replays CUDA graphs, on CUDA only. The
    first step then takes from half a minute to several. Off by default: measured on a CPU, where it does not pay off,
    but on no GPU. Results differ by rounding. Not under DeepSpeed."""
    patience: Positive | None = None
    """Stop after this many evaluations in a row without a better evaluation.metric; null trains to the end."""
    min_delta: Weight = 0.0
    """How much better an evaluation has to be for `patience` to begin anew, in units of evaluation.metric."""
    sync_batchnorm: bool = False
    """Compute batch-norm statistics over all processes. CUDA only: elsewhere a warning says that they do not."""


class EvaluationConfig(Section):
    """Evaluation during training, of the validation split, shared among all processes."""

    every_epochs: Rate | None = 1
    """Interval in epochs; null leaves it to `every_steps`."""
    every_steps: Positive | None = None
    """Interval in steps."""
    limit: Positive | None = None
    """Evaluate only the first N validation samples."""
    metric: str = "psnr"
    """What the best checkpoints are chosen by: a file of losses/metrics/ other than enl and msr, or risk; averaged over
    the primary outputs, or of one output as `output/psnr`. risk is the mean squared error to the clean images,
    estimated without them for Gaussian noise, at the cost of a second restoration of each image
    (launch/evaluation/risk.py)."""
    blind_checks: bool = True
    """Compare what was removed from each image with the noise that the images themselves show, which needs no clean
    images, and warn where they differ (launch/evaluation/blind_checks.py)."""
    images: Annotated[int, Field(ge=0, le=1000)] = 2
    """Samples shown as image grids."""

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str) -> str:
        if problem := metric_names.problem(metric):
            raise registry.SettingsError([problem])
        return metric


class CheckpointConfig(Section):
    """Checkpoints."""

    every_steps: Positive | None = None
    """Interval in steps; null saves at the end of every epoch."""
    keep_last: Positive = 2
    """Number of latest checkpoints to keep, in addition to the best ones."""
    keep_best: Positive = 1
    """Number of best checkpoints to keep, by `evaluation.metric`, the earlier of equal ones (docs/choosing.md)."""
    save_best: bool | Literal["auto"] = "auto"
    """Also save a checkpoint after an evaluation that is among the `keep_best` best ones, and not only at the interval.
    auto does so where something depends on it: `loop.patience`, or `keep_best` above 1."""
    asynchronous: bool = True
    """Continue training while a thread writes the checkpoint from a copy in memory; false waits until it is on disk."""
    allow_other_data: bool = False
    """Resume although the training shards are not those that the checkpoint was trained on, with as many samples."""


class ProfileConfig(Section):
    """Profiling of single steps."""

    steps: tuple[Count, Count] | None = None
    """First step to profile and the one after the last, counted from the start of this process, e.g. [10, 20]; the
    torch profiler's trace is written to RUN/tensorboard. null profiles none."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "ProfileConfig":
        if self.steps is not None and self.steps[0] >= self.steps[1]:
            raise registry.SettingsError([f"steps is [first, one after the last], got {list(self.steps)}"])
        return self


class InitConfig(Section):
    """Warm start: weights from another run's checkpoint."""

    run: str
    """Run folder, or one checkpoint folder inside it."""
    parts: tuple[str, ...] = ()
    """Names of the networks to copy; empty copies all."""
    which: Literal["best", "last", "average"] = "last"
    """Which of the run's checkpoints; average is what `quell average` wrote."""

    @field_validator("run")
    @classmethod
    def _is_a_path(cls, run: str) -> str:
        if problem := path_problem(run):
            raise ValueError(problem)
        return run


class RunConfig(Section):
    """One training run, complete."""

    name: str = ""
    """Name of the run; empty takes the YAML file's name. The default run folder is runs/<name>; a name may have
    sub-folders (a/b), but does not lead out of runs/."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1337
    """Seed of the initial weights, the order of samples, crops and noise."""
    pipeline: Annotated[
        SerializeAsAny[PipelineConfig],
        BeforeValidator(registry.pipeline_config),
        WithJsonSchema({"catalogue": "pipelines"}),
    ]
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

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name and (problem := name_problem(name)):
            raise ValueError(problem)
        return name

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
