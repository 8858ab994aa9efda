"""The YAMLs that are named after a source have its values; what differs is in their first lines."""

from typing import Any

import pytest

from quell.configs import loader
from quell.configs.support.mappings import flatten
from quell.configs.support.paths import ROOT

ADAM_GAN: dict[str, Any] = {"optimizer.name": "adam", "optimizer.betas": [0.5, 0.999]}
NO_AUGMENTATION: dict[str, Any] = {"data.flip": False, "data.rotate": False}
SOURCES: dict[str, dict[str, Any]] = {
    # Pang et al., CVPR 2021, and the authors' code
    "r2r_published": {
        **NO_AUGMENTATION,
        "pipeline.network.depth": 17, "pipeline.network.residual": True, "pipeline.network.bias": False,
        "pipeline.network.scales": "small", "pipeline.alpha": 0.5, "pipeline.passes": 50,
        "data.batch_size": 128, "data.crop": 40,
        "optimizer.name": "adam", "optimizer.lr": 1e-3, "schedule.gamma": 0.1, "schedule.step_epochs": 30 * 596,
        "loop.epochs": 50 * 596, "loop.clip_norm": None,
    },
    # Geng et al., IEEE TMI 41(11), 2022, and the authors' code
    "tcfl": {
        **ADAM_GAN, **NO_AUGMENTATION,
        "pipeline.generator.depth": 10, "pipeline.generator.slope": 0.01, "pipeline.generator.bias": False,
        "pipeline.generator.norm": "batch", "pipeline.generator.init_std": 0.02,
        "pipeline.critic.variant": "official", "pipeline.critic.init_std": 0.02,
        "pipeline.gan": "lsgan", "pipeline.weights.identity": 6, "pipeline.weights.clean": 6,
        "pipeline.weights.critic_fake": 0.1, "pipeline.pool_size": 0, "pipeline.batch_passes": False,
        "optimizer.lr": 2e-5, "data.batch_size": 2, "loop.epochs": 100, "schedule.name": "constant",
    },
    # the reproduction, version 2 of its document
    "tcfl_wgan": {
        **ADAM_GAN, "data.flip": False,
        "pipeline.generator.depth": 10, "pipeline.generator.slope": 0.2, "pipeline.generator.bias": True,
        "pipeline.generator.norm": "batch_statistics", "pipeline.gan": "wgan", "pipeline.critic_clip": 1e-3,
        "pipeline.weights.identity": 25, "pipeline.weights.clean": 25, "pipeline.pool_size": 50,
        "pipeline.critic_updates": 1, "pipeline.batch_passes": False,
        "optimizer.lr": 2e-4, "optimizer.phases.critic.lr": 2e-5, "data.batch_size": 24, "data.crop": 128,
        "loop.epochs": 600,
    },
    # Geng et al., IEEE TMI 41(2), 2022, and the authors' code
    "cncl_published": {
        **ADAM_GAN, **NO_AUGMENTATION,
        "pipeline.content.name": "unet", "pipeline.content.init_std": 0.02, "pipeline.noise.init_std": 0.02,
        "pipeline.critic.variant": "official", "pipeline.weights.content": 50, "pipeline.weights.noise": 50,
        "pipeline.normalisation": "variance", "optimizer.lr": 2e-5, "data.batch_size": 2, "data.crop": None,
        "loop.epochs": 300, "schedule.name": "constant", "loop.clip_norm": None,
    },
    # Huang et al., IEEE TMI 40(10), 2021, and the authors' code
    "drgan_published": {
        **ADAM_GAN, **NO_AUGMENTATION,
        "pipeline.critic.variant": "cyclegan", "pipeline.critic.init_std": "he", "pipeline.critic_every": 5,
        "pipeline.pool_size": 5, "pipeline.weights.cycle": 10, "pipeline.weights.recon": 10,
        "pipeline.weights.noise": 1, "pipeline.gan": "lsgan", "pipeline.centre_patches": False,
        "optimizer.lr": 1e-4, "optimizer.weight_decay": 1e-4, "schedule.step_epochs": 20, "schedule.gamma": 0.5,
        "data.batch_size": 2, "data.crop": 256, "data.crop_at": "centre", "loop.epochs": 100,
    },
    # Khan et al., WACV 2024, the authors' Train.py
    "spectroformer_official": {
        **ADAM_GAN, **NO_AUGMENTATION,
        "pipeline.network.size": "small", "pipeline.network.design": "official", "pipeline.network.residual": False,
        "pipeline.network.second_attention": "first", "pipeline.range": [0.0, 1.0], "pipeline.weighting": "fixed",
        "pipeline.losses.charbonnier.weight": 0.03, "pipeline.losses.vgg16.weight": 0.025,
        "pipeline.losses.laplacian.weight": 0.02, "pipeline.losses.msssim.weight": 0.01,
        "optimizer.lr": 3e-5, "data.batch_size": 1, "data.resize": 512, "data.crop": None,
        "schedule.hold_epochs": 1500, "schedule.decay_epochs": 1501, "loop.epochs": 3001, "loop.clip_norm": None,
    },
    # the reproduction's trains.py
    "spectroformer_reproduction": {
        **ADAM_GAN, **NO_AUGMENTATION,
        "pipeline.network.size": "small", "pipeline.network.design": "reproduction", "pipeline.network.residual": True,
        "pipeline.network.init": "xavier", "pipeline.weighting": "random_softmax",
        "pipeline.losses.charbonnier.eps": 1e-3, "pipeline.losses.msssim.scales": 5,
        "pipeline.losses.vgg.normalise": False,
        "optimizer.lr": 1e-3, "data.batch_size": 4, "data.resize": 256, "data.crop": None,
        "schedule.hold_epochs": 50, "schedule.decay_epochs": 501, "loop.epochs": 551, "loop.clip_norm": 1.0,
    },
}  # fmt: skip
"""YAML -> the values of its source, by dotted key."""
DEVIATING = {
    "r2r": "r2r_published", "cncl": "cncl_published", "drgan": "drgan_published",
    "spectroformer": "spectroformer_reproduction", "tcfl_single_generator": "separation.yaml",
}  # fmt: skip
"""YAML that works better than its source, and where its first lines say the exact one is."""


@pytest.mark.parametrize("name", SOURCES)
def test_a_yaml_named_after_a_source_has_its_values(name: str) -> None:
    settings = flatten(loader.load(ROOT / "configs" / f"{name}.yaml").model_dump(mode="json"))
    found = {key: settings.get(key, "missing") for key in SOURCES[name]}
    assert found == SOURCES[name]


def first_lines(name: str) -> str:
    """The comment at the top of a YAML."""
    lines = (ROOT / "configs" / f"{name}.yaml").read_text("utf-8").splitlines()
    return " ".join(line.removeprefix("# ") for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != "#")])


@pytest.mark.parametrize("name", SOURCES)
def test_what_differs_from_the_source_is_said(name: str) -> None:
    assert "Differs from the source:" in first_lines(name)


@pytest.mark.parametrize("name", DEVIATING)
def test_a_yaml_that_deviates_says_so_and_names_the_exact_one(name: str) -> None:
    said = first_lines(name)
    assert DEVIATING[name] in said and ("Unlike in the source" in said or "spectroformer_reproduction.yaml" in said)
