"""What `npm pack` makes of clients/js, in fresh projects: Node, TypeScript, Vite, Deno."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.clients.packages import CLIENT, node_modules, run

ADAPTERS = ("react", "vue", "svelte", "element")


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("npm")
    run(npm, "pack", "--silent", "--pack-destination", folder, cwd=CLIENT)
    [made] = folder.glob("triode-client-*.tgz")
    return made


@pytest.fixture
def project(tarball: Path, tmp_path: Path) -> Path:
    """A fresh project that has installed it."""
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    flags = ("--silent", "--no-audit", "--no-fund", "--offline")
    run("npm", "install", *flags, "--omit=peer", tarball, cwd=tmp_path)
    return tmp_path


def borrow(project: Path, *names: str) -> None:
    """Packages that other tests have, as the project's own."""
    for name in names:
        target = project / "node_modules" / name
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            target.symlink_to(node_modules() / name)


def test_it_has_all_that_is_needed_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        text = archive.extractfile("package/README.md")
        assert text is not None
        readme = text.read().decode()
    own = {"package.json", "README.md", "LICENSE"}
    modules = {f"{name}{end}" for name in ("triode", *ADAPTERS) for end in (".js", ".d.ts")}
    assert names >= own | modules
    assert {name for name in names - own - modules if not name.startswith("lib/")} == set()
    # A registry shows it where no relative link leads anywhere.
    links = [part.partition(")")[0] for part in readme.split("](")[1:]]
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    described = json.loads((CLIENT / "package.json").read_text())
    for exported in described["exports"].values():
        for path in exported.values() if isinstance(exported, dict) else [exported]:
            assert path.removeprefix("./") in names


def test_node(project: Path) -> None:
    code = """
    import { triode, TriodeError } from 'triode-client';
    import { TriodeValue } from 'triode-client/element';
    const t = triode('http://127.0.0.1:9', { WebSocket: null, attempts: 0 });
    t.once('error', (error) => console.log(error instanceof TriodeError, error.url));
    console.log(typeof TriodeValue);
    """
    (project / "main.js").write_text(code)
    assert run("node", "main.js", cwd=project).split() == [
        "function", "true", "http://127.0.0.1:9/"
    ]  # fmt: skip


def test_typescript(project: Path) -> None:
    """Under the resolutions of bundlers and of Node, with the types of the frameworks."""
    borrow(project, "@types/react", "csstype", "typescript", "vue", "@vue")
    (project / "main.tsx").write_text(
        """
        import { triode, type View } from 'triode-client';
        import { TriodeProvider, useTriode, useTriodeState } from 'triode-client/react';
        import { triodeStore } from 'triode-client/svelte';
        import { useTriode as useRef } from 'triode-client/vue';
        import 'triode-client/element';

        interface Shop { price: number; names: string[] }
        declare module 'triode-client' { interface Register { document: Shop } }

        const t = triode<Shop>('https://example.org');
        export function Price({ id }: { id?: number }) {
          const price: number | undefined = useTriode('.price', { initial: 0, policy: 'latest' });
          const name = useTriode(id !== undefined && '.names[0]', { client: t });
          const { value, stale, error } = useTriodeState('.names[*]');
          const own: Date | undefined = useTriode<Date>('$.anything');
          const shown: boolean = stale && !error && !own;
          const names: ReadonlyMap<string, string> = useTriode('.names[*]', { initial: new Map() });
          const since: Date = useTriode<Date>('$.since', { initial: new Date() });
          const sizes = [names.size, name?.length, value?.get('x')?.length, price?.toFixed()];
          return [sizes, since, shown];
        }
        export const Root = () => TriodeProvider({ client: t, children: null });
        triodeStore('.price').subscribe((price) => price?.toFixed());
        export const upper = () => useRef(() => '.names[0]').value;
        document.querySelector('triode-value')?.value;
        export const view: View<string | undefined> = t.watch('.names[0]');
        // @ts-expect-error the document has no such place
        useTriode('.prices');
        // @ts-expect-error another type
        useTriode('.price', { initial: 'x' });
        """
    )
    tsc = node_modules() / ".bin" / "tsc"
    for module, resolution in (("esnext", "bundler"), ("nodenext", "nodenext")):
        flags = f"--noEmit --strict --skipLibCheck --target es2022 --module {module}"
        flags += f" --moduleResolution {resolution} --jsx react-jsx --lib es2023,dom --types react"
        run(tsc, *flags.split(), "main.tsx", cwd=project)


def test_vite(project: Path) -> None:
    borrow(project, "react", "react-dom", "scheduler", "vite")
    (project / "index.html").write_text('<script type="module" src="/main.js"></script>')
    (project / "main.js").write_text(
        """
        import { createElement } from 'react';
        import { createRoot } from 'react-dom/client';
        import { triode } from 'triode-client';
        import { TriodeProvider, useTriode } from 'triode-client/react';
        const Price = () => createElement('b', null, useTriode('.price'));
        createRoot(document.body).render(
          createElement(TriodeProvider, { client: triode() }, createElement(Price)));
        """
    )
    run(node_modules() / ".bin" / "vite", "build", "--logLevel", "warn", cwd=project)
    # One file: none that was taken for something to bring along.
    [made] = (project / "dist" / "assets").iterdir()
    code = made.read_text()
    assert "base64url.bearer.authorization.triode" in code
    # What is not used is not there.
    assert "triode-value" not in code


def test_deno(project: Path) -> None:
    deno = shutil.which("deno") or shutil.which("deno", path=str(Path(sys.executable).parent))
    if deno is None:
        pytest.skip("needs deno (pip install deno)")
    (project / "main.ts").write_text(
        """
        import { triode, type Triode } from 'triode-client';
        const t: Triode = triode('http://127.0.0.1:9', { attempts: 0 });
        t.on('error', (error) => error.final || console.log(error.url));
        """
    )
    command = [deno, "run", "--check", "--allow-net", "--node-modules-dir=manual", "main.ts"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[:1] == ["http://127.0.0.1:9/"], done.stderr
