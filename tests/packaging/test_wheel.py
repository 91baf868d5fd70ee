"""What is built installs into an empty environment and works there, from any folder, without the checkout."""

from __future__ import annotations

import email
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from planner import __version__
from tools.refresh_outputs import CONSOLE, FILE, commands

pytestmark = pytest.mark.wheel


def called(*command: str | Path, cwd: Path, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of this environment but the place of its package index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept, capture_output=True, encoding="utf-8", timeout=timeout,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    found = called(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, repository, cwd=folder
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """Return the wheel."""
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that has the wheel and what it needs, nothing else.

    Where no package index answers, the packages that it needs are those of this environment.
    """
    place = tmp_path_factory.mktemp("empty")
    venv.create(place / "env", with_pip=True)
    programs = place / "env" / "bin"
    pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    found = called(*pip, "--constraint", repository / "constraints.txt", wheel, cwd=place)
    if found.returncode:
        here = sysconfig.get_paths()["purelib"]
        site = next((place / "env").glob("lib/python*/site-packages"))
        (site / "borrowed.pth").write_text(f"{here}\n", encoding="utf-8")
        again = called(*pip, "--no-deps", "--no-index", "--force-reinstall", wheel, cwd=place)
        assert again.returncode == 0, found.stderr[-2000:] + again.stderr[-2000:]
    return programs


def test_wheel_carries_what_it_needs(wheel: Path, repository: Path) -> None:
    """Presets, templates and the type marker are inside; tests and benchmarks are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("topologies", "workloads", "calibrations"):
        shipped = {f"planner/_presets/{kind}/{path.name}" for path in (repository / kind).glob("*.yaml")}
        assert shipped and shipped <= names
    assert {"planner/py.typed", "planner/report/templates/page.html.j2"} <= names
    data = {path.relative_to(repository).as_posix() for path in (repository / "planner").rglob("*.yaml")}
    assert data <= names
    assert {name.split("/")[0] for name in names} == {"planner", f"planner-{__version__}.dist-info"}


def test_metadata_is_complete(wheel: Path) -> None:
    """Licence as an expression with its file, Python, summary, keywords, as bills of materials ask."""
    archive = zipfile.ZipFile(wheel)
    folder = f"planner-{__version__}.dist-info"
    fields = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["License-File"] == "LICENSE"
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["Version"] == __version__
    assert fields["Summary"] and fields["Keywords"] and fields["Description-Content-Type"] == "text/markdown"
    assert b"planner = planner.cli:main" in archive.read(f"{folder}/entry_points.txt")
    assert archive.read(f"{folder}/licenses/LICENSE").lstrip().startswith(b"Apache License")


def test_sdist_holds_the_sources(built: Path) -> None:
    """From the sdist alone everything can be built, tested and documented; nothing made is inside."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "LICENSE",
        "docs/index.md",
        "tests/conftest.py",
    ):
        assert needed in names
    assert not any(
        name.startswith(("docs/_build", ".venv", "out/")) or "__pycache__" in name for name in names
    )


def test_the_readme_runs_from_any_folder(installed: Path, repository: Path, tmp_path: Path) -> None:
    """Each command of the README, run by the installed program beside the files that it shows, succeeds."""
    page = (repository / "README.md").read_text(encoding="utf-8")
    for name, content in FILE.findall(page):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    shown = [command for _, _, block in CONSOLE.findall(page) for command in commands(block)]
    assert shown
    for command in shown:
        program, *arguments = shlex.split(command)
        assert program == "planner"
        found = called(installed / program, *arguments, cwd=tmp_path)
        assert found.returncode == 0, f"{command}: {found.stderr}"
    plan = next(tmp_path.rglob("plan.yaml"))
    for more in (["check"], ["explain"], ["report", "--force"]):
        assert called(installed / "planner", *more, plan, cwd=tmp_path).returncode == 0


def test_nothing_comes_from_the_checkout(installed: Path, repository: Path, tmp_path: Path) -> None:
    """The package and its presets lie inside the environment."""
    code = "import planner.schema.presets as p; print(p.__file__, p.folder('workloads'))"
    found = called(installed / "python", "-c", code, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    environment = str(installed.parent)
    assert all(path.startswith(environment) for path in found.stdout.split())
    listed = called(installed / "planner", "topology", "list", cwd=tmp_path)
    assert "dgx-h100" in listed.stdout


def test_version_and_completion(installed: Path, tmp_path: Path) -> None:
    """The program tells its version, and its shell completion as the documentation has it."""
    version = called(installed / "planner", "--version", cwd=tmp_path)
    assert re.fullmatch(rf"planner, version {re.escape(__version__)}\n", version.stdout)
    asked = f"_PLANNER_COMPLETE=bash_source {shlex.quote(str(installed / 'planner'))}"
    script = called("bash", "-c", asked, cwd=tmp_path)
    assert "complete" in script.stdout and "planner" in script.stdout
    words = "COMP_WORDS='planner sol' COMP_CWORD=1 _PLANNER_COMPLETE=bash_complete"
    found = called("bash", "-c", f"{words} {shlex.quote(str(installed / 'planner'))}", cwd=tmp_path)
    assert found.stdout.strip() == "plain,solve"
