"""The pipeline class of a configuration."""

from configs import registry
from configs.schema import RunConfig
from pipelines.base import Pipeline


def method_of(config: RunConfig) -> type[Pipeline]:
    """The class of the method that a configuration names, importing only its module."""
    method: type[Pipeline] = registry.find("pipelines", config.pipeline.name)
    return method
