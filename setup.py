"""The rooms of the checkout become subpackages of `quell`, which setup.cfg cannot say for all their folders."""

from setuptools import find_packages, setup

ROOMS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")

setup(
    packages=[
        *find_packages(include=["quell", "quell.*"], exclude=[f"quell.{room}*" for room in ROOMS]),
        *(f"quell.{package}" for room in ROOMS for package in find_packages(include=[room, f"{room}.*"])),
    ],
    package_dir={f"quell.{room}": room for room in ROOMS},
)
