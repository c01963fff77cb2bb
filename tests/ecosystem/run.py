"""The tests of other projects, on asyncio and with ferrio installed.

For each project of `projects.toml`: an environment of its own, its tests from its source distribution, one run on
asyncio, and one with ferrio's objects in asyncio's place in every process. What fails on ferrio alone is a defect of
ferrio, unless the file has a reason. The projects come from PyPI, and what is made stays in `.venv/ecosystem`.

    python tests/ecosystem/run.py
    python tests/ecosystem/run.py asgiref tenacity
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROOM = ROOT / ".venv" / "ecosystem"
#: Seconds for one run of a project's tests, and for one of its tests.
PATIENCE, PATIENCE_WITH_TEST = 1800, 60
FAILED = ("failure", "error")


@dataclass
class Project:
    """A project, and how its tests are run."""

    name: str
    version: str
    needs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    stand_in: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)

    @property
    def room(self) -> Path:
        return ROOM / f"{self.name}-{self.version}-{sys.version_info[0]}.{sys.version_info[1]}"

    @property
    def python(self) -> Path:
        return self.room / "venv" / "bin" / "python"

    def prepare(self) -> None:
        """Makes the environment and takes the tests out of the source distribution, unless that was done before."""
        done = self.room / "prepared"
        if done.exists():
            return
        shutil.rmtree(self.room, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.room / "venv"], check=True)
        # As the package of the checkout is found by the interpreter that runs this.
        packages = sysconfig.get_path("purelib", vars={"base": self.room / "venv"})
        Path(packages, "ferrio.pth").write_text(f"{ROOT / 'python'}\n")
        pinned = f"{self.name}=={self.version}"
        pip(self.python, "install", "-q", "pytest", "pytest-timeout", pinned, *self.needs)
        if self.files:
            pip(self.python, "download", "-q", "--no-deps", "--no-binary", self.name, "-d", self.room, pinned)
            (archive,) = self.room.glob("*.tar.gz")
            with tarfile.open(archive) as source:
                source.extractall(self.room / "source", filter="data")
            (unpacked,) = (self.room / "source").iterdir()
            (self.room / "tests").mkdir()
            for name in self.files:
                place = self.room / "tests" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                (unpacked / name).rename(place)
        else:
            (self.room / "tests").mkdir()
        if self.stand_in:
            # Beside the tests, where it is found before the package that is installed.
            shutil.copytree(HERE / "stand_ins" / self.name, self.room / "tests" / self.name, dirs_exist_ok=True)
        if not set(self.files) & {"pyproject.toml", "setup.cfg"}:
            # Else pytest looks further up, and finds ours.
            (self.room / "tests" / "pytest.ini").write_text("[pytest]\n")
        done.touch()

    def run(self, name: str, environment: dict[str, str]) -> dict[str, str]:
        """Runs the tests once; returns each one's outcome."""
        report = self.room / f"{name}.xml"
        report.unlink(missing_ok=True)
        command = [self.python, "-X", "faulthandler", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--timeout", str(PATIENCE_WITH_TEST), "--junitxml", report, *self.arguments]
        with (self.room / f"{name}.log").open("w") as log:
            done = subprocess.run(
                command,
                cwd=self.room / "tests",
                env=os.environ | self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
        # 1 is what pytest says of tests that failed; with anything else it has not run all of them.
        if done.returncode not in (0, 1):
            sys.exit(f"{self.name}: pytest ended with status {done.returncode}: see {log.name}")
        return dict(outcomes(report))


def pip(python: Path, *arguments: object) -> None:
    subprocess.run([ROOT / "tools" / "pip.sh", python, *arguments], check=True)


def outcomes(report: Path) -> Iterator[tuple[str, str]]:
    """The tests of a report, by names in which no address changes from run to run."""
    for case in ElementTree.parse(report).iter("testcase"):
        name = re.sub("0x[0-9a-f]+", "0x", f"{case.get('classname')}::{case.get('name')}")
        yield name, next((child.tag for child in case if child.tag in (*FAILED, "skipped")), "ok")


def installed() -> dict[str, str]:
    """An environment that installs ferrio in every process, before anything of a project is imported."""
    site = ROOM / "installed"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text("import ferrio\n\nferrio.install()\n")
    return {"PYTHONPATH": str(site)}


def compare(project: Project) -> list[str]:
    """Runs a project's tests both ways; returns what is wrong."""
    project.prepare()
    asyncio, ferrio = project.run("asyncio", {}), project.run("ferrio", installed())
    new = {test for test, outcome in ferrio.items() if outcome in FAILED and asyncio.get(test) not in FAILED}
    missing = {test for test, outcome in asyncio.items() if outcome == "ok" and test not in ferrio}
    failed = sum(outcome in FAILED for outcome in asyncio.values())
    print(
        f"{project.name} {project.version}: {len(ferrio)} tests, {failed} fail on asyncio, {len(new)} on ferrio alone"
    )
    problems = [f"{test} fails on ferrio alone" for test in sorted(new - set(project.differences))]
    problems += [f"{test} was not run on ferrio" for test in sorted(missing)]
    problems += [f"{test} has a reason to fail, but does not" for test in sorted(set(project.differences) - new)]
    return [f"{problem}: see {project.room}/ferrio.log" for problem in problems]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the projects to run; all of them if none is named")
    options = parser.parse_args()
    projects = [Project(**entry) for entry in tomllib.loads((HERE / "projects.toml").read_text())["project"]]
    if unknown := set(options.names) - {project.name for project in projects}:
        parser.error(f"no such project: {', '.join(sorted(unknown))}")
    chosen = [project for project in projects if not options.names or project.name in options.names]
    problems = [problem for project in chosen for problem in compare(project)]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
