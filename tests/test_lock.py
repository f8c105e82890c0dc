"""constraints.txt pins one version of each requirement, on any machine; requirements.lock adds the hashes."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
MACHINES = {
    "Linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "Mac": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ENVIRONMENTS = {
    f"{system}, Python {python}": {**machine, "python_version": python, "python_full_version": f"{python}.4"}
    for system, machine in MACHINES.items()
    for python in PYTHONS
}


def pins(text):
    """Return the requirements in a constraints file."""
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def requirements():
    """Return all requirements of the project and its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        Requirement(r) for part in (project["dependencies"], *project["optional-dependencies"].values()) for r in part
    ]


def applicable(listed, environment):
    """Return the version specifiers by name that apply to an environment."""
    found = {}
    for requirement in listed:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement.specifier)
    return found


@pytest.fixture(scope="module")
def lock():
    return pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_pins_are_exact_versions_without_a_build(lock):
    """A local version such as 2.13.0+cpu would exclude all other builds; a version without one matches any build."""
    assert len(lock) > 100
    for pin in lock:
        assert not pin.extras, pin
        assert pin.url is None, pin
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_requirement_is_pinned_once_within_its_range(lock, environment):
    pinned = applicable(lock, ENVIRONMENTS[environment])
    assert [name for name, versions in pinned.items() if len(versions) > 1] == []
    for requirement in requirements():
        if requirement.marker is not None and not requirement.marker.evaluate(ENVIRONMENTS[environment]):
            continue
        (exact,) = pinned.get(canonicalize_name(requirement.name), [None])
        assert exact is not None, f"{requirement} is not pinned: make lock"
        version = str(exact).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


@pytest.mark.parametrize("build", ["+cpu", "+cu130", ""])
@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_every_build_of_pytorch_fits(lock, name, build):
    (pin,) = [pin for pin in lock if pin.name == name]
    assert pin.specifier.contains(str(pin.specifier).removeprefix("==") + build)


def test_packages_of_cuda_builds_are_pinned_for_linux_only(lock):
    """A constraint installs nothing, so these pins have no effect with a CPU build."""
    of_cuda = [pin for pin in lock if pin.name.startswith(("nvidia-", "cuda-", "triton"))]
    assert {"nvidia-cudnn-cu13", "triton"} <= {pin.name for pin in of_cuda}
    for environment in ENVIRONMENTS:
        assert bool(applicable(of_cuda, ENVIRONMENTS[environment])) == environment.startswith("Linux")


def test_every_installed_file_has_a_hash_except_builds_of_pytorch(lock):
    """`make` requires hashes of all packages except PyTorch, whose build depends on the machine."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.sub(r"\\\n", " ", text).splitlines()
    hashed = [entry.partition(" --hash")[0].strip() for entry in entries if entry and not entry.startswith("#")]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries if entry and entry[0] != "#")
    (builds,) = re.findall(r"^BUILDS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    exempt = {pin.name for pin in lock if pin.name in builds.split() or pin.name.startswith("nvidia-")}
    assert {"torch", "torchvision"} < exempt
    assert sorted(map(str, pins("\n".join(hashed)))) == sorted(str(pin) for pin in lock if pin.name not in exempt)


def test_hooks_are_installed_from_the_lock():
    """Hooks of other repositories would be fetched without a hash."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks[0]["hooks"])
