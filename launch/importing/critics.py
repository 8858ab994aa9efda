"""The PatchGAN critics of TCFL, CNCL and DRGAN, and what all three programs do with statistics of batch norms."""

from quell.configs.errors import CheckpointError
from quell.launch.importing import kinds
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.renaming import Rule, rename, with_prefix

RULES = [Rule(r"model\.(\d+\..*)", r"layers.\1")]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def convert(file: OldFile, key: str, part: str) -> tuple[list[str], State]:
    """A PatchGAN critic: the setting `key` that describes it, and its weights as those of a `part` of the pipeline."""
    state = file.tensors
    last = max(int(name.split(".")[1]) for name in state if name.startswith("model."))
    has_bias = f"model.{last}.bias" in state
    # `official_biased` and `cyclegan` have tensors of equal shapes and differ in the last index only
    variant = {(12, False): "official", (12, True): "official_biased", (11, True): "cyclegan"}.get((last, has_bias))
    if variant is None:
        raise CheckpointError(
            f"{file.path}: this critic (last convolution model.{last}, {'with' if has_bias else 'without'} bias) is "
            "none of those known: official (model.12), its reproduction (model.12 with bias), CycleGAN's (model.11)"
        )
    network = {"name": "patch_discriminator", "variant": variant}
    renamed, _ = rename(state, RULES, file.path)
    return [f"{key}={kinds.inline(network)}"], with_prefix(renamed, part)


def apart(files: list[OldFile]) -> tuple[OldFile, list[OldFile]]:
    """A generator's file, and that of its critic if it is there; CheckpointError for any other choice of files."""
    generators = [file for file in files if not is_critic(file.tensors)]
    if len(generators) != 1 or len(files) > 2:
        raise CheckpointError(
            f"expected the file of one generator, and perhaps that of its critic, got {len(generators)} generators in "
            f"{len(files)} files"
        )
    return generators[0], [file for file in files if file is not generators[0]]


def is_critic(state: State) -> bool:
    """Whether these are the tensors of a critic."""
    return "model.0.weight" in state and state["model.0.weight"].shape[-1] == 4


def without_statistics(state: State) -> tuple[State, list[str]]:
    """The state without running averages, and the names of what was left out."""
    left_out = [name for name in state if name.endswith(STATISTICS)]
    return {name: tensor for name, tensor in state.items() if name not in left_out}, left_out
