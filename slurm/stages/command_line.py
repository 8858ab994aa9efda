"""What `--set` changes: the stage file, or every configuration; it wins over what the file says anywhere."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.slurm.stages.job_options import JobOptions
from quell.slurm.stages.schema import Overrides, Stage, Unchecked

_STAGE_FILE_KEYS = ("name", "site", "resources", "stages")
_ADDED = {"srun", "extra"}
"""Options of a site to which stages add their own."""

_CONFIGURATION_OF_A_STAGE = re.compile(r"(stages\.[\w-]+(?:\.list\.[\w-]+)?\.(?:overrides|grid))\.(.+)")
"""Keys whose last part is itself a key of a configuration, with dots."""


@dataclass(frozen=True)
class CommandLine:
    """The settings of a command line, by what they change."""

    stage_file: tuple[str, ...]
    """`a.b=c` for keys of the stage file."""
    configuration: Overrides
    """Keys of the configurations of all stages that train."""
    problems: tuple[str, ...]
    """Settings that cannot be read."""

    @classmethod
    def split(cls, settings: Iterable[str]) -> "CommandLine":
        """Sort the settings, and read the values of those for configurations."""
        stage_file, configuration, problems = [], {}, []
        for text in settings:
            if text.split("=")[0].split(".")[0] in _STAGE_FILE_KEYS:
                stage_file.append(text)
                continue
            key, equals, value = text.partition("=")
            if not equals:
                problems.append(f"--set {text}: expected section.key=value")
                continue
            try:
                configuration[key] = loader.parse(value)
            except ConfigError as error:
                detail = str(error)
                what = "the value is not valid YAML" if "not readable" in detail else detail
                problems.append(f"--set {text}: {what}")
        return cls(tuple(stage_file), configuration, tuple(problems))

    def applied(self, data: Unchecked) -> Unchecked:
        """A stage file's contents with the settings for it."""
        matches = [(text, _CONFIGURATION_OF_A_STAGE.fullmatch(text.partition("=")[0])) for text in self.stage_file]
        loader.apply({}, [text for text, found in matches if found])  # refuses what cannot be read
        data = loader.apply(data, [text for text, found in matches if not found])
        for text, found in matches:
            if not found:
                continue
            place: Unchecked = data
            for part in found[1].split("."):
                if not isinstance(place.get(part), dict):
                    place[part] = {}
                place = place[part]
            place[found[2]] = loader.parse(text.partition("=")[2])
        return data

    @property
    def resources(self) -> Unchecked:
        """Resources of all stages."""
        return self._part("resources")

    def resources_of(self, stage: str) -> Unchecked:
        """Resources of one stage, which win over those of all."""
        own = self._part("stages").get(stage)
        resources = own.get("resources") if isinstance(own, dict) else None
        return resources if isinstance(resources, dict) else {}

    def conflicts(self, stages: Mapping[str, Stage]) -> list[str]:
        """Settings that would undo what a stage is for."""
        problems = []
        for key in self.configuration:
            for name, stage in stages.items():
                if any(_overlap(key, varied) for varied in stage.grid):
                    problems.append(
                        f"--set {key}: stage '{name}' is a sweep over it, and its members would be the same; change "
                        f"stages.{name}.grid instead"
                    )
                if stage.init_from and _overlap(key, "init_from"):
                    problems.append(
                        f"--set {key}: stage '{name}' starts from the weights of '{stage.init_from.stage}'; change "
                        f"stages.{name}.init_from instead"
                    )
        return problems

    def without_effect(self, stages: Mapping[str, Stage]) -> list[str]:
        """Sentences on settings that change nothing."""
        notes = []
        if self.configuration and not any(stage.trains for stage in stages.values()):
            notes.append(f"--set {', '.join(self.configuration)}: no effect, because no stage trains a configuration")
        site = self._part("site")
        for key in JobOptions.model_fields.keys() - _ADDED:
            others = [name for name, stage in stages.items() if getattr(stage.resources, key) != site.get(key)]
            if key in site and others:
                notes.append(
                    f"--set site.{key}: no effect on {', '.join(others)}, whose resources name another; use "
                    f"--set resources.{key}"
                )
        return notes

    def _part(self, key: str) -> Unchecked:
        """The settings below one key of the stage file."""
        own = [text for text in self.stage_file if text.split("=")[0].split(".")[0] == key]
        part = loader.apply({}, own).get(key)
        return part if isinstance(part, dict) else {}


def _overlap(key: str, other: str) -> bool:
    """Whether two dotted keys are the same, or one is a part of the other."""
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
