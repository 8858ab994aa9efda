"""From names in a YAML file to classes: a name is a file in a folder, and only that file is imported.

A name with dots is a module of the user's own (`my_methods.noisier2noise`), found as `import` finds it.
"""

import contextlib
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from quell.configs.errors import ConfigError
from quell.configs.sizes import refuse_switch
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import ROOT
from quell.configs.support.suggestions import did_you_mean

TARGET_NETWORK = "library_network"
"""The file in models/ that wraps a class of another library, for mappings with `target`."""


_ONLY_OWN_CODE: ContextVar[bool] = ContextVar("only_own_code", default=False)


class SettingsError(ValueError):
    """Problems of one key or section, for a pydantic validator to raise; they become a ConfigError with their path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def names(folder: str) -> list[str]:
    """The names that a folder offers: its public files, except `base`."""
    files = (ROOT / folder).glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_") and file.stem != "base")


def find(folder: str, name: str) -> type:
    """The one public class defined in `<folder>/<name>.py`, or in the module `name` where that has dots.

    Raises:
        ConfigError: There is no such file or module, a package that it imports is missing, or it does not define
            exactly one public class of the folder's kind.
    """
    own = "." in name
    if own:
        refuse_foreign(name)
    if not own and name not in names(folder):
        raise ConfigError(f"no {folder}/{name}.py; {did_you_mean(name, names(folder))}")
    place = name if own else f"{folder}/{name}.py"
    try:
        module = importlib.import_module(name if own else f"quell.{folder}.{name}")
    except ModuleNotFoundError as error:
        if own and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"no module {name}: a name with dots is a module of your own, which has to be in the folder where you "
                "start the command, or installed"
            ) from error
        raise ConfigError(f"{place} needs the package '{error.name}': pip install it first") from error
    except (ImportError, SyntaxError, ValueError, TypeError) as error:
        if not own:
            raise
        raise ConfigError(f"importing {name} failed: {type(error).__name__}: {error}") from error
    public = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    offered = [cls for cls in public if _is_offered(folder, cls)]
    if len(offered) != 1:
        listed = ", ".join(cls.__name__ for cls in offered) or "none"
        raise ConfigError(f"{place} must define exactly one public class to be used by name, got {listed}")
    return offered[0]


@contextlib.contextmanager
def only_own_code() -> Iterator[None]:
    """In the block a configuration that names a class outside of Quell raises ConfigError, and nothing is imported."""
    token = _ONLY_OWN_CODE.set(True)
    try:
        yield
    finally:
        _ONLY_OWN_CODE.reset(token)


def refuse_foreign(name: str) -> None:
    """ConfigError within `only_own_code`; called before a module outside of Quell is imported."""
    if _ONLY_OWN_CODE.get():
        raise ConfigError(
            f"{name} is code outside of Quell, which this configuration would import: if you trust it, install it and "
            "give --trust-code to quell denoise, evaluate or export (in Python: trust_code=True)"
        )


def complete(folder: str, spec: Any, *, given: tuple[str, ...] = ()) -> Settings:
    """Check a component's mapping against its constructor, and fill in the defaults.

    Args:
        folder: Where the component is defined, e.g. `models`.
        spec: `{name: ..., argument: ...}`, or the name alone; for networks also `{target: package.module.Class, ...}`.
        given: Arguments that the caller will supply, and a YAML may not.

    Returns:
        The mapping with every argument but the given ones.

    Raises:
        SettingsError: Every unknown or ill-typed argument.
    """
    spec = _named(folder, spec)
    try:
        cls: Any = find(folder, spec["name"])
    except ConfigError as error:
        raise SettingsError(error.problems) from error
    if hasattr(cls, "complete_settings") and all(isinstance(spec.get(key), str) for key in ("name", "target")):
        spec = cls.complete_settings(spec)
    arguments = {key: value for key, value in spec.items() if key != "name"}
    known, fields = _arguments(cls, given)
    problems = [
        f"unknown argument '{key}' of {spec['name']}; {did_you_mean(key, known)}"
        for key in arguments
        if key not in fields
    ]
    for key in arguments.keys() & fields.keys():
        try:
            refuse_switch(arguments[key], fields[key][0])
        except ValueError as error:
            problems.append(f"{key}: {error} (got {arguments[key]!r})")
    model = create_model(cls.__name__, __config__=ConfigDict(extra="ignore", arbitrary_types_allowed=True), **fields)
    try:
        checked = model(**arguments).model_dump(mode="json")
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            problems.append(f"{where}: {item['msg']} (got {item['input']!r})")
    if problems:
        raise SettingsError(problems)
    return {"name": spec["name"], **checked}


def checker(folder: str, *, given: tuple[str, ...] = ()) -> Callable[[Any], Settings]:
    """A validator that calls `complete`, for the types in configs/schema.py."""
    return lambda spec: complete(folder, spec, given=given)


def arguments(folder: str, name: str, *, given: tuple[str, ...] = ()) -> Settings:
    """What a YAML may give a component: argument -> (type, default), as pydantic defines fields.

    Args:
        folder: Where the component is defined, e.g. `models`.
        name: Its file.
        given: Arguments that the caller will supply, and a YAML may not.

    Raises:
        ConfigError: There is no such component, or a package that it imports is missing.
    """
    return _arguments(find(folder, name), given)[1]


def build(folder: str, spec: Settings, **given: Any) -> Any:
    """Construct the component that a completed mapping describes.

    Arguments in `given` are passed on if the constructor takes them.
    """
    cls = find(folder, spec["name"])
    arguments = {key: value for key, value in spec.items() if key != "name"}
    accepted = inspect.signature(cls).parameters
    return cls(**arguments, **{key: value for key, value in given.items() if key in accepted})


def pipeline_config(value: Any) -> Any:
    """Validate the `pipeline` section as its method's Config; a bare string is a name without settings."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        raise SettingsError([f"expected a mapping with the method's `name` and its settings; got {value!r}"])
    if not isinstance(value.get("name"), str):
        raise SettingsError([f"name: give the method's name; {did_you_mean('', names('pipelines'))}"])
    try:
        cls: Any = find("pipelines", value["name"])
    except ConfigError as error:
        raise SettingsError([f"name: {problem}" for problem in error.problems]) from error
    return cls.Config.model_validate(value)


def _named(folder: str, spec: Any) -> Settings:
    """A component's mapping with its name: a bare string is a name, and `target` a class of another library."""
    if isinstance(spec, str):
        return {"name": spec}
    if isinstance(spec, dict) and folder == "models" and "target" in spec and "name" not in spec:
        return {"name": TARGET_NETWORK, **spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise SettingsError([f"expected the name of a file in {folder}/, or a mapping with `name`; got {spec!r}"])
    return spec


def _is_offered(folder: str, cls: type) -> bool:
    """Whether a class is of the kind that its folder offers: a Pipeline in pipelines, a torch module elsewhere."""
    module, base = {"pipelines": ("quell.pipelines.base", "Pipeline")}.get(folder, ("torch.nn", "Module"))
    return issubclass(cls, getattr(importlib.import_module(module), base))


def _arguments(cls: type, given: tuple[str, ...]) -> tuple[list[str], Settings]:
    """Names of a constructor's arguments, and their definitions as pydantic fields."""
    hints = typing.get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    fields: Settings = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:  # type: ignore[misc]
        if name in given or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return list(fields), fields
