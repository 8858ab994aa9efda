"""The pipeline class of a configuration."""

from quell.configs import registry
from quell.configs.schema import RunConfig
from quell.pipelines.base import Pipeline


def method_of(config: RunConfig) -> type[Pipeline]:
    """The class of the method that a configuration names, importing only its module."""
    method: type[Pipeline] = registry.find("pipelines", config.pipeline.name)
    return method
