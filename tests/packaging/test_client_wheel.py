"""The Python client as it is published: wheel and sdist are built, and installed into a fresh
environment with what they ask for and nothing else. All three doors are used.
"""

from __future__ import annotations

import tarfile
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.behaviour.server import OPEN, Server
from tests.packaging import commands

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "python"

run = partial(commands.run, deadline_s=180)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that can build."""
    folder = tmp_path_factory.mktemp("client-venv")
    venv.create(folder, with_pip=True)
    made = folder / "bin" / "python"
    if run(made, "-m", "pip", "install", "--quiet", "hatchling", cwd=folder).returncode:
        pytest.skip("hatchling cannot be installed: no package index is in reach")
    return made


@pytest.fixture(scope="module")
def built(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("client-dist")
    done = run(python, "-m", "hatchling", "build", "-d", folder, cwd=CLIENT)
    assert done.returncode == 0, done.stderr
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server("native", OPEN, tmp_path_factory.mktemp("client-server"))
    one.start()
    yield one
    one.stop()


def test_they_have_what_is_needed_and_no_more(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"triode_client"}
    assert {"triode_client/__init__.py", "triode_client/py.typed"} <= names
    assert any(name.endswith("/LICENSE") for name in names)
    with tarfile.open(built["sdist"]) as archive:
        parts = {name.partition("/")[2].partition("/")[0] for name in archive.getnames()} - {""}
    assert parts - {".gitignore"} == {
        "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "triode_client"
    }  # fmt: skip


USE = """
import asyncio, sys
from triode_client import Triode, connect

async def change(door):
    async with connect(sys.argv[1]) as t:
        await t.set("." + door, 1)
        async for change in t.watch("." + door):
            print(door, change.value)
            return

with Triode(sys.argv[1]) as t:
    t.set(".sync", 1)
    print("sync", t.get(".sync"), "trio" in sys.modules)
asyncio.run(change("asyncio"))
try:
    import trio
except ImportError:
    print("no trio")
else:
    trio.run(change, "trio")
"""


def test_the_sdist_makes_the_same_wheel(
    built: dict[str, Path], python: Path, tmp_path: Path
) -> None:
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    done = run(python, "-m", "pip", "wheel", *flags, built["sdist"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [again] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(built["wheel"]) as other:
        assert {(i.filename, i.CRC) for i in one.infolist()} == {
            (i.filename, i.CRC) for i in other.infolist()
        }


def test_it_is_installed_and_used(built: dict[str, Path], server: Server, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"

    def says(*asked: str | Path) -> list[str]:
        installed = run(python, "-m", "pip", "install", "--quiet", *asked, cwd=tmp_path)
        assert installed.returncode == 0, installed.stderr
        url = f"http://127.0.0.1:{server.port}"
        done = run(python, "-W", "error", "-c", USE, url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert says(built["wheel"]) == ["sync 1 False", "asyncio 1", "no trio"]
    assert says(f"{built['wheel']}[trio]") == ["sync 1 False", "asyncio 1", "trio 1"]
