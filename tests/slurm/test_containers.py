"""The Dockerfile and the Apptainer definition: they parse, agree with each other, and install what is pinned.

Building them takes gigabytes and a network, which tests do not have.
"""

import configparser
import re
import subprocess

import pytest

from tests.support.slurm.launcher import ROOT

FOLDER = ROOT / "slurm" / "containers"
INSTRUCTIONS = {"FROM", "ARG", "COPY", "RUN", "ENV", "CMD"}
SECTIONS = {"arguments", "files", "post", "environment", "test", "runscript"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: name and arguments, with continuation lines joined."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def definition() -> tuple[dict[str, str], dict[str, str]]:
    """The Apptainer definition's header, and its sections."""
    text = (FOLDER / "quell.def").read_text("utf-8")
    head, *sections = re.split(r"^%", text, flags=re.MULTILINE)
    header = dict(re.findall(r"^(\w+): (.*)$", head, flags=re.MULTILINE))
    return header, {name: body for name, _, body in (section.partition("\n") for section in sections)}


def shell_commands(script: str) -> list[str]:
    """The commands of a shell script that install something, each on one line."""
    joined = re.sub(r"\\\n\s*", "", script).replace("&& ", "\n")
    lines = [" ".join(line.split()) for line in joined.splitlines()]
    return [line for line in lines if re.search(r"apt-get|pip install|-m venv|rm -rf", line)]


def run_commands() -> list[str]:
    return shell_commands("\n".join(arguments for name, arguments in instructions() if name == "RUN"))


def test_the_dockerfile_has_known_instructions_and_a_fixed_base() -> None:
    names = [name for name, _ in instructions()]
    assert set(names) <= INSTRUCTIONS and names[0] == "FROM" and names.count("FROM") == 1
    assert (
        re.fullmatch(r"[a-z]+:[\w.-]+", dict(instructions())["FROM"]) and "latest" not in dict(instructions())["FROM"]
    )


def test_both_images_have_the_same_base_and_install_the_same() -> None:
    header, sections = definition()
    assert set(sections) == SECTIONS
    assert header == {"Bootstrap": "docker", "From": dict(instructions())["FROM"]}
    assert run_commands() == shell_commands(sections["post"])
    assert dict(instructions())["ARG"] == sections["arguments"].strip()
    assert dict(instructions())["ENV"] in sections["environment"]


@pytest.mark.parametrize("section", ["post", "environment", "test", "runscript"])
def test_the_scripts_of_the_definition_are_valid_shell(section: str) -> None:
    done = subprocess.run(["sh", "-n"], input=definition()[1][section], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_files_that_are_copied_exist_and_reach_the_build() -> None:
    *copied, target = dict(instructions())["COPY"].split()
    sources = [line.split() for line in definition()[1]["files"].strip().splitlines()]
    assert sources == [[name, f"{target}{name}"] for name in copied]
    assert all((ROOT / name).is_file() for name in copied)
    everything, *kept = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert everything == "*" and sorted(kept) == sorted(f"!{name}" for name in copied), "not the data, not the runs"


def test_every_package_is_installed_in_its_pinned_version() -> None:
    """Nothing names a version of its own; the extras exist, and all their packages are pinned."""
    pips = [command for command in run_commands() if "pip install" in command]
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = {line.split("==")[0].lower() for line in constraints.splitlines() if "==" in line}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = setup["options"]["install_requires"]
    for command in pips:
        assert "--constraint /opt/quell/source/constraints.txt" in command and not re.search(r"\w[=<>]=", command)
    (extras,) = re.findall(r'"/opt/quell/source\[([\w,]+)\]"', " ".join(pips))
    for extra in extras.split(","):
        required += setup["options.extras_require"][extra]
    on_linux = [line for line in required.split("\n") if line.strip() and "win32" not in line.partition(";")[2]]
    names = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in on_linux}
    assert {name for name in names if not name.startswith("#")} <= pinned


def test_the_page_about_sites_shows_how_to_build_them() -> None:
    page, heads = (ROOT / "docs" / "sites.md").read_text("utf-8"), ""
    for name in ("Dockerfile", "quell.def"):
        heads += "".join(re.findall(r"^#   (.*\n)", (FOLDER / name).read_text("utf-8"), flags=re.MULTILINE))
    for command in re.findall(r"^(?:docker|apptainer|enroot) .*$", page, flags=re.MULTILINE):
        assert command in heads or command.startswith("enroot"), command
    assert FOLDER.name in page
