"""Configurations in the older JSON format: they keep their meaning, and every key is accounted for."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.legacy import conversion
from quell.configs.support.mappings import flatten
from quell.configs.support.paths import ROOT

WIDE = {"model.encoder.kwargs.latent_channels": 512} | {
    f"model.decoder_{x}.kwargs.{key}": value
    for x in "ab"
    for key, value in {"latent_channels": 512, "features": [512, 256, 128]}.items()
}
STAGE1 = {
    f"model.{part}.{key}": value
    for part in ("encoder", "decoder_a", "decoder_b")
    for key, value in {"checkpoint": "./runs/progressive_training/best.pt", "state_key": part}.items()
}
"""The original file has ./runs/progressive_stage1, where its users' commands did not always put the run."""


def weights(**values: float) -> dict[str, Any]:
    """Overrides of loss weights."""
    return {f"trainer.loss_weights.{term}": value for term, value in values.items()}


def edge(weight: float) -> dict[str, Any]:
    """Overrides that enable the edge term, whose weight was set in two places."""
    return {"trainer.edge_loss.enabled": True, "trainer.edge_loss.weight": weight, **weights(edge=weight)}


NO_EDGE, NO_SAME, TRUTH = (
    {"trainer.edge_loss.weight": 0.0},
    {"trainer.same_domain_use_skip": False},
    {"trainer.use_ground_truth": True},
)
STRATEGY = "trainer.cross_domain_strategy"

OLDER: dict[str, dict[str, Any]] = {
    "cross_no_skip": {},
    "cross_baseline": {STRATEGY: "use_source_skip"},
    "cross_target_skip": {STRATEGY: "use_target_skip"},
    "cross_zero_skip": {STRATEGY: "zero_skip"},
    "cross_mixed_skip": {STRATEGY: "mixed_skip"},
    "ablation_all_losses": edge(0.05),
    "ablation_no_content": weights(content=0.0),
    "ablation_no_recon": weights(recon=0.0),
    "ablation_no_cross": weights(cross=0.0),
    "ablation_only_cross": weights(content=0.0, recon=0.0),
    "ablation_content_recon": weights(recon=1.0, cross=0.0),
    "ablation_strong_edge": edge(0.2),
    "contrast2contrast": {**edge(0.05), "trainer.epochs": 5},
    "pure_noise2noise": {**NO_EDGE, **weights(recon=0.2), "trainer.epochs": 20},
    "extreme_denoising": {**NO_EDGE, **WIDE, **weights(content=0.5, recon=0.05), "trainer.epochs": 20},
    "progressive_training": {**NO_EDGE, **weights(recon=1.0, cross=0.1), "trainer.epochs": 10},
    "progressive_training_stage2": {
        **edge(0.05),
        **weights(content=0.5, recon=0.1),
        **STAGE1,
        "trainer.epochs": 40,
        "optimizer.learning_rate": 1e-4,
    },
    "no_skip_everywhere": {
        **NO_EDGE,
        **WIDE,
        **NO_SAME,
        **weights(recon=0.05),
        "trainer.epochs": 20,
        "model.cdlnet.M": 512,
    },
    "supervised_denoising": {
        **TRUTH,
        **WIDE,
        **edge(0.1),
        **weights(recon=1.0),
        "trainer.epochs": 50,
        "trainer.same_domain_use_skip": True,
    },
    "supervised_no_skip": {**TRUTH, **WIDE, **NO_SAME, **edge(0.1), "trainer.epochs": 50},
    "original_flat_cross": {
        **weights(content=0.0, recon=0.0),
        "trainer.noise.sigma_a": 0.25,
        "trainer.noise.sigma_b": 0.25,
        "model.decoder_a.kwargs.identity_mapping": True,
        "model.decoder_b.kwargs.identity_mapping": True,
        "trainer.epochs": 5,
        STRATEGY: None,
    },
}
"""Each older file as its differences from the base; None removes a key."""


def base() -> dict[str, Any]:
    """What all older files had in common."""
    stage = {"paired": True, "batch_size": 4}
    decoder = {
        "checkpoint": None,
        "kwargs": {"features": [256, 128, 64], "latent_channels": 256, "identity_mapping": False},
    }
    return {
        "seed": 1337,
        "device": "cuda:0",
        "data": {
            "root": "runs/data/knee",
            "representation": "complex",
            "crop_size": 256,
            "stages": {
                "train": {**stage, "split": "train", "augment": True, "shuffle": True, "drop_last": True},
                "val": {**stage, "split": "val", "augment": False, "shuffle": False},
            },
        },
        "model": {
            "cdlnet": {"M": 256},
            "encoder": {
                "class": "UNetEncoder",
                "checkpoint": None,
                "kwargs": {"features": [64, 128, 256], "latent_channels": 256},
            },
            "decoder_a": {"class": "UNetADecoder", **copy.deepcopy(decoder)},
            "decoder_b": {"class": "UNetBDecoder", **copy.deepcopy(decoder)},
        },
        "optimizer": {"type": "adamw", "learning_rate": 3e-4, "weight_decay": 0.01, "betas": [0.9, 0.999]},
        "scheduler": {"type": "cosine", "t_max": 50, "eta_min": 1e-6},
        "trainer": {
            "loss_weights": {"content": 1.0, "recon": 0.5, "cross": 1.0, "edge": 0.0},
            "noise": {"enabled": True, "sigma_a": 0.01, "sigma_b": 0.01},
            "augmentation": {"enable_jitter": False, "brightness": 0.05, "contrast": 0.1},
            "edge_loss": {"enabled": False, "weight": 0.02},
            "anti_collapse": {
                "variance_threshold": 1e-5,
                "patience": 2,
                "adjustment_factor": 0.2,
                "max_alpha": 8.0,
                "min_beta": 5e-4,
            },
            "logging": {"use_wandb": True, "image_interval": 200, "project": "c2c", "entity": None},
            "noise_estimation": {"enabled": True, "method": "auto"},
            "epochs": 10,
            "encoder_output_index": -1,
            "input_representation": "complex",
            "scheduler_step": "epoch",
            "grad_clip_norm": 1.0,
            "input_keys": {"domain_a": "noisy_pd", "domain_b": "noisy_pdfs"},
            "cross_domain_strategy": "no_skip",
            "mixed_skip_alpha": 0.5,
            "_comment": "words",
        },
    }


def changed(differences: dict[str, Any]) -> dict[str, Any]:
    """The base with these dotted keys set, or removed where the value is None."""
    data = base()
    for key, value in differences.items():
        *parents, last = key.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return data


@pytest.mark.parametrize("name", OLDER)
def test_a_converted_file_equals_the_yaml_of_its_name(name: str, tmp_path: Path) -> None:
    older = tmp_path / f"{name}.json"
    older.write_text(json.dumps(changed(OLDER[name])))
    converted, shipped = loader.load(older), loader.load(ROOT / "configs" / f"{name}.yaml")
    assert converted.data.representation == "complex"  # as the older program trained; the shipped files say why not
    assert converted == shipped.model_copy(
        update={"data": shipped.data.model_copy(update={"representation": "complex"})}
    )


def test_every_key_is_accounted_for_once() -> None:
    data = changed(OLDER["progressive_training_stage2"])
    _, account = conversion.convert(data)
    named = [line.split(" ")[0].rstrip(":") for line in account]
    assert sorted(named) == sorted(flatten(data))
    assert "trainer.loss_weights.cross -> pipeline.weights.cross = 1.0" in account
    assert "device: not needed: the launcher chooses the device" in account
    assert "model.encoder.checkpoint -> init_from.run = runs/progressive_training, its best checkpoint" in account


def test_missing_keys_take_the_older_default() -> None:
    data = base()
    for key in ("cross_domain_strategy", "loss_weights", "anti_collapse", "noise", "grad_clip_norm"):
        del data["trainer"][key]
    new, account = conversion.convert(data)
    assert new["pipeline"]["cross_domain_strategy"] == "use_source_skip"
    assert new["pipeline"]["weights"] == {"content": 1.0, "recon": 1.0, "cross": 1.0, "edge": 0.0}
    assert new["pipeline"]["anti_collapse"]["patience"] == 1
    assert (new["pipeline"]["sigma_a"], new["loop"]["clip_norm"]) == (0.0, None)
    assert any("(missing: the older program's default)" in line for line in account)


def test_the_weight_in_edge_loss_overrides_the_one_in_loss_weights() -> None:
    on = {"trainer.edge_loss.enabled": True, "trainer.edge_loss.weight": 0.02, "trainer.loss_weights.edge": 0.05}
    assert conversion.convert(changed(on))[0]["pipeline"]["weights"]["edge"] == 0.02
    off = {"trainer.edge_loss.enabled": False, "trainer.loss_weights.edge": 0.05}
    assert conversion.convert(changed(off))[0]["pipeline"]["weights"]["edge"] == 0.0


def test_the_greek_names_of_the_weights_are_accepted() -> None:
    data = base()
    data["trainer"]["loss_weights"] = {"alpha": 0.5, "beta": 0.25, "gamma": 0.0, "delta": 0.1}
    data["trainer"]["edge_loss"] = {"enabled": True}
    pipeline = conversion.convert(data)[0]["pipeline"]
    assert pipeline["weights"] == {"content": 0.5, "recon": 0.25, "cross": 0.0, "edge": 0.1}
    assert pipeline["restore_path"] == "same"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.cross_domain_strategi", "no_skip", "did you mean 'trainer.cross_domain_strategy'?"),
        ("trainer.grad_clip", 1.0, "did you mean 'trainer.grad_clip_norm'?"),
        ("data.stages.train.paired", False, "data.stages.train.paired: False is not supported, only True"),
        ("model.encoder.class", "SharedEncoder", "only 'UNetEncoder'"),
        ("trainer.augmentation.enable_jitter", True, "enable_jitter: True is not supported"),
        ("model.decoder_b.kwargs.latent_channels", 128, "differs from model.encoder.kwargs.latent_channels 256"),
        ("trainer.input_representation", "ri", "differs from data.representation 'complex'"),
        ("trainer.scheduler_step", "step", "schedule.length_epochs"),
        ("model.decoder_a.state_key", "encoder", "model.decoder_a.state_key: expected 'decoder_a'"),
    ],
)
def test_unsupported_settings_are_refused_and_named(key: str, value: Any, message: str) -> None:
    data = changed({**STAGE1, key: value})
    with pytest.raises(ConfigError) as caught:
        conversion.convert(data)
    assert message in str(caught.value) and len(caught.value.problems) == 1


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        conversion.convert(changed({"trainer.epoch": 3, "data.rooot": "x", "trainer.augmentation.enable_jitter": True}))
    assert len(caught.value.problems) == 3
