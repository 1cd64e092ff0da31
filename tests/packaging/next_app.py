"""Next renders a page with the packed client on its server, and a browser takes it over.

`python -m tests.packaging.next_app` takes minutes (Next is large), so it is no part of the tests.
It prints what the server made, how many clients that cost Triode, and what the browser shows then.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.behaviour.server import OPEN, Server
from tests.clients.packages import CLIENT, run
from tests.running_example import running

CART = """
'use client';
import { triode } from 'triode-client';
import { TriodeProvider, useTriode } from 'triode-client/react';
const t = triode('SERVER', { autoConnect: false });
function Hits() {
  return <b id="shown">{useTriode('.hits', { initial: 'none yet' })}</b>;
}
export default function Cart() {
  return <TriodeProvider client={t}><Hits /></TriodeProvider>;
}
"""
PAGE = "import Cart from './cart'; export default function Page() { return <Cart />; }"
LAYOUT = """
export default function Layout({ children }) {
  return <html><head><link rel="icon" href="data:," /></head><body>{children}</body></html>;
}
"""
MINUTES_S = 600


def build(folder: Path, server: str) -> None:
    run("npm", "pack", "--silent", "--pack-destination", folder, cwd=CLIENT)
    [tarball] = folder.glob("*.tgz")
    (folder / "package.json").write_text('{"private": true}')
    flags = ("--silent", "--no-audit", "--no-fund")
    packages = ("next@15", "react@19", "react-dom@19", tarball)
    run("npm", "install", *flags, *packages, cwd=folder, deadline_s=MINUTES_S)
    (folder / "app").mkdir()
    for name, text in {
        "cart": CART.replace("SERVER", server),
        "page": PAGE,
        "layout": LAYOUT,
    }.items():
        (folder / "app" / f"{name}.jsx").write_text(text)
    run("npx", "next", "build", cwd=folder, deadline_s=MINUTES_S, NEXT_TELEMETRY_DISABLED="1")


def fetch(url: str, body: object = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def main() -> None:
    from tests.browser.chromium import expect, launch

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        triode = Server("native", OPEN, folder / "triode")
        (folder / "triode").mkdir()
        (folder / "next").mkdir()
        triode.start()
        url = f"http://localhost:{triode.port}"
        try:
            fetch(f"{url}/store", {"hits": 7})
            build(folder / "next", url)
            command = ["node", "node_modules/next/dist/bin/next", "start", "-p", "0"]
            with running(command, folder / "next") as log, launch() as browser:
                while not (found := re.search(r"http://localhost:\d+", log.read_text())):
                    time.sleep(0.1)
                page_url = found[0]
                made = fetch(page_url).partition('<b id="shown">')[2].partition("</b>")[0]
                listed = json.loads(fetch(f"{url}/connections"))["total"]
                print(f"made on the server: {made}; clients then: {listed}")
                assert (made, listed) == ("none yet", 0)
                page = browser.new_page()
                faults: list[str] = []
                page.on("console", lambda line: faults.append(line.text))
                page.goto(page_url)
                expect(page.locator("#shown")).to_have_text("7")
                print(f"in the browser: {page.locator('#shown').inner_text()}; logged: {faults}")
                assert not faults
        finally:
            triode.stop()


if __name__ == "__main__":
    try:
        main()
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"not done in time: {late.cmd}") from None
