"""Weights of other programs: every tensor finds its place, and the network computes what the original does."""

from pathlib import Path

import pytest
import torch

from quell.configs.errors import CheckpointError
from quell.launch.checkpoints import store
from quell.launch.importing import renaming
from quell.launch.importing.kinds import cncl as cncl_kind
from quell.launch.importing.kinds import spectroformer as spectroformer_kind
from quell.launch.importing.run import import_weights
from tests.launch.importing import old_weights


@pytest.mark.parametrize("variant", old_weights.SINGLE_FILES)
def test_files_as_their_programs_wrote_them_are_imported(variant: str, tmp_path: Path) -> None:
    """The import itself compares the output with the original's, computed from the same tensors."""
    kind, build, tensors, parameters = old_weights.SINGLE_FILES[variant]
    state = build()
    assert old_weights.counts(state) == (tensors, parameters)
    file = old_weights.save(state, tmp_path / "old.pth")
    conversion = import_weights(kind, [file], tmp_path / "run")
    assert conversion.variant == variant
    checkpoint = store.choose(tmp_path / "run")
    weights = store.read_weights(checkpoint)
    assert conversion.weights.keys() <= weights.keys()
    assert store.read_meta(checkpoint)["imported"]["variant"] == variant
    unused = {"CNCL": 20, "TCFL reproduction, U-Net": 10, "Spectroformer, the authors', small": 32 + 48}
    assert len(conversion.dropped) == unused.get(variant, 0)


@pytest.mark.parametrize(
    ("variant", "kind"),
    [("CNCL", cncl_kind), ("Spectroformer, reproduction, small", spectroformer_kind)],
)
def test_halves_in_the_other_order_are_noticed(
    variant: str, kind: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes and names fit either way; only the output tells."""
    name, build, *_ = old_weights.SINGLE_FILES[variant]
    file = old_weights.save(build(), tmp_path / "old.pth")
    swapped = renaming.rename

    def unswapped(state: object, rules: list[renaming.Rule], source: object) -> object:
        plain = [renaming.Rule(rule.pattern, rule.name) for rule in rules]
        return swapped(state, plain, source)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "rename", unswapped)
    with pytest.raises(CheckpointError, match="give another restored image"):
        import_weights(name, [file], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_networks_of_drgan_are_imported_and_two_suffice(tmp_path: Path) -> None:
    states = old_weights.drgan()
    tensors = {"netE_C": 22, "netE_N": 8, "netG_C": 32, "netG_N": 54, "netD_C": 10, "netD_N": 10, "netD_PN": 10}
    assert {name: len(state) for name, state in states.items()} == tensors
    files = [old_weights.save(state, tmp_path / f"{name}_epoch7.pth") for name, state in states.items()]
    conversion = import_weights("drgan", files, tmp_path / "all")
    parts = {name.split(".")[0] for name in conversion.weights}
    assert parts == {
        "content_encoder", "noise_encoder", "clean_decoder", "noisy_decoder",
        "critic_clean", "critic_noisy", "critic_noise",
    }  # fmt: skip
    assert torch.equal(conversion.weights["critic_noise.layers.0.weight"], states["netD_PN"]["model.0.weight"])
    enough = [file for file in files if file.name.startswith(("netE_C", "netG_C"))]
    import_weights("drgan", enough, tmp_path / "two")
    imported = store.read_meta(store.choose(tmp_path / "two"))["imported"]
    assert imported["initialised"] == ["critic_clean", "critic_noise", "critic_noisy", "noise_encoder", "noisy_decoder"]
    with pytest.raises(CheckpointError, match=r"missing: clean_decoder"):
        import_weights("drgan", enough[:1], tmp_path / "one")
    other_epoch = old_weights.save(states["netE_C"], tmp_path / "netE_C_epoch8.pth")
    with pytest.raises(CheckpointError, match="both a content_encoder: give the files of one epoch"):
        import_weights("drgan", [*enough, other_epoch], tmp_path / "three")


@pytest.mark.parametrize(
    ("arguments", "representation"),
    [({}, "auto"), ({"is_complex": True}, "complex"), ({"channels": 2}, "ri")],
)
def test_contrast2contrast_in_each_representation(
    arguments: dict[str, object], representation: str, tmp_path: Path
) -> None:
    content = {"epoch": 3, **old_weights.contrast(**arguments), "optimizer": {}}  # type: ignore[arg-type]
    file = old_weights.save(content, tmp_path / "best.pt")
    conversion = import_weights("c2c", [file], tmp_path / "run")
    assert f"data.representation={representation}" in conversion.settings
    assert len(conversion.weights) == 60


def test_wider_decoders_are_recognised_by_their_shapes(tmp_path: Path) -> None:
    states = old_weights.contrast(latent=512, decoder=(512, 256, 128))
    file = old_weights.save(states, tmp_path / "best.pt")
    conversion = import_weights("c2c", [file], tmp_path / "run")
    assert "pipeline.decoder_features=[512, 256, 128]" in conversion.settings
    assert "pipeline.latent_channels=512" in conversion.settings


@pytest.mark.parametrize(
    ("last", "bias", "variant"), [(12, False, "official"), (12, True, "official_biased"), (11, True, "cyclegan")]
)
def test_critics_of_equal_shapes_are_told_apart(last: int, bias: bool, variant: str, tmp_path: Path) -> None:
    generator = old_weights.save(old_weights.dncnn(depth=10, bias=True, averages=False), tmp_path / "g.pth")
    critic = old_weights.save(old_weights.critic(1, last=last, bias=bias), tmp_path / "d.pth")
    conversion = import_weights("tcfl", [critic, generator], tmp_path / "run", overrides=["pipeline.gan=lsgan",
        "pipeline.critic_clip=null"])  # fmt: skip
    assert any(f'"variant": "{variant}"' in setting for setting in conversion.settings)
    assert conversion.weights[f"critic.layers.{last}.weight"].shape == (1, 512, 4, 4)


@pytest.mark.parametrize("variant", ["TCFL, official DnCNN", "CNCL"])
def test_statistics_of_single_images_as_in_the_original_test_scripts(variant: str, tmp_path: Path) -> None:
    kind, build, *_ = old_weights.SINGLE_FILES[variant]
    file = old_weights.save(build(), tmp_path / "old.pth")
    conversion = import_weights(kind, [file], tmp_path / "run", own_statistics=True)
    assert not any("running_" in name for name in conversion.weights)
    assert any('"norm": "batch_statistics"' in setting for setting in conversion.settings)
