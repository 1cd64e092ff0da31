"""An installed Triode owns one import name, `triode`, and leaves other people's packages alone.

The wheel is built from this checkout and installed into fresh environments. What it depends on is
borrowed from the environment of the tests, so that only the wheel itself is installed.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.packaging.commands import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python, *rest = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir")
    made = run(python, *rest, folder, ROOT, cwd=folder)
    assert made.returncode == 0, made.stderr
    [path] = folder.glob("triode-*.whl")
    return path


class Environment:
    """A fresh virtual environment with a project's folder in it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        venv.create(folder / "venv", with_pip=True)
        self.python = folder / "venv" / "bin" / "python"
        # A path line in a .pth file is followed, the .pth files in that folder are not: so the
        # checkout that the tests run from is out of sight.
        [site] = (folder / "venv" / "lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def pip(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(self.python, "-m", "pip", "--quiet", *arguments, cwd=self.project)

    def says(self, code: str) -> str:
        """What a program in the project's folder prints."""
        done = run(self.python, "-W", "error", "-c", code, cwd=self.project)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def environment(tmp_path: Path, wheel: Path) -> Environment:
    made = Environment(tmp_path)
    installed = made.pip("install", "--no-deps", wheel)
    assert installed.returncode == 0, installed.stderr
    return made


def test_the_wheel_has_one_name_at_the_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"triode"}
    static = {f"triode/app/static/{name}" for name in ("client.js", "client.d.ts", "index.html")}
    scripts = {f"triode/app/log/shared/scripts/{name}.lua" for name in ("attach", "append")}
    assert {"triode/py.typed", *static, *scripts} <= {*names}


USES_TRIODE = "from triode import Triode, Settings, create_app; print(create_app(Settings()).name)"


def test_beside_a_package_called_app(environment: Environment) -> None:
    package = environment.project / "app"
    package.mkdir()
    (package / "__init__.py").write_text("OWNER = 'the project'\n")
    code = f"import app; print(app.OWNER, app.__file__.endswith('__init__.py')); {USES_TRIODE}"
    assert environment.says(code) == "the project True\ntriode"


def test_beside_a_module_called_app(environment: Environment) -> None:
    (environment.project / "app.py").write_text("OWNER = 'the project'\n")
    assert environment.says(f"import app; print(app.OWNER); {USES_TRIODE}") == "the project\ntriode"


def test_beside_limits_and_slowapi_of_pypi(environment: Environment, wheel: Path) -> None:
    if environment.pip("install", "slowapi").returncode != 0:
        pytest.skip("slowapi cannot be installed: no package index is in reach")
    code = "import limits, slowapi; print(limits.parse('5/minute').amount)"
    assert environment.says(f"{code}; {USES_TRIODE}") == "5\ntriode"
    gone = environment.pip("uninstall", "--yes", "triode")
    assert gone.returncode == 0, gone.stderr
    assert environment.says(code) == "5"


def test_the_installed_application_is_triode_app(environment: Environment) -> None:
    code = (
        "from hypercorn.utils import load_application\n"
        "import inspect, triode.app.application\n"
        "app = load_application('triode:app', 10)\n"
        "print(inspect.iscoroutinefunction(app.__call__))"
    )
    assert environment.says(code) == "True"


def test_python_m_triode_is_the_command_line(environment: Environment) -> None:
    done = run(environment.python, "-m", "triode", "--version", cwd=environment.project)
    assert done.stdout.startswith("triode, version ")


def test_importing_triode_loads_no_server(environment: Environment) -> None:
    code = "import sys, triode; print('quart' in sys.modules, 'trio' in sys.modules)"
    assert environment.says(code) == "False False"
