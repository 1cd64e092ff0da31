"""The client's adapters, each in its framework's own runtime: React, Vue and Svelte in Chromium and
where pages are made, and the element in a page without any.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.behaviour.server import Server
from tests.clients.packages import bundle, in_node, node_modules, run

from .chromium import Log, expect
from .conftest import PageFactory, http, url_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = Path(__file__).parent / "pages"
README = Path(__file__).parents[2] / "clients" / "js" / "README.md"
SERVER_PAGE = '<b id="shown">…</b>'

Open = Callable[[Path], "Page"]


@pytest.fixture
def opened(plain: Server, open_page: PageFactory) -> Open:
    """A page of the server with a bundled module in it."""

    def load(entry: Path, *flags: str) -> Page:
        code = bundle(entry, *flags)
        page = blank(open_page, url_of(plain))
        page.add_script_tag(content=code, type="module")
        page.wait_for_function("() => window.show")
        return page

    return load


def blank(open_page: PageFactory, url: str) -> Page:
    """An empty page of the server. (One that is no page would have Chromium ask for an icon.)"""
    page = open_page(url + "/docs", bypass_csp=True)
    page.wait_for_load_state("networkidle")  # its own script is done
    page.evaluate("document.body.innerHTML = '<main id=app></main>'")
    return page


def put(server: Server, path: str, value: Any) -> None:
    with http(server) as client:
        client.put("/store", params={"path": path}, json=value).raise_for_status()


def shows(page: Page, text: str) -> None:
    expect(page.locator("#shown")).to_have_text(text)


def asks_for(server: Server, page: Page, *filters: str) -> None:
    """Wait until pages watch exactly these on the server."""
    with http(server) as client:
        while True:
            listed = client.get("/connections").raise_for_status().json()["connections"]
            if [one["filter"] for each in listed for one in each["filters"]] == [*filters]:
                return
            page.wait_for_timeout(10)


@pytest.fixture
def svelte(tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a page with its component compiled, for `client` or `server`."""

    def compiled(kind: str) -> Path:
        folder = tmp_path / kind
        shutil.copytree(PAGES, folder)
        make(folder, MAKE_SVELTE.replace("App", "Price").replace("client", kind))
        return folder

    return compiled


# ── React ──────────────────────────────────────────────────────────────────────────────────────


def test_react_six_changes_are_six_renders(plain: Server, opened: Open) -> None:
    put(plain, ".", {"price": 0, "other": 0})
    page = opened(PAGES / "react.jsx")
    page.evaluate("show('Price', '.price')")
    shows(page, "0")
    page.evaluate("renders = 0")
    for n in range(1, 7):
        put(plain, ".other", n)
        put(plain, ".price", n)
        shows(page, str(n))
    assert page.evaluate("renders") == 6
    # Stale is a state of its own, for which nothing is rendered here.
    page.evaluate("t.close()")
    page.wait_for_function("() => views[0].stale")
    assert page.evaluate("renders") == 6


def test_react_strict_mode_asks_once_and_leaves(plain: Server, opened: Open) -> None:
    put(plain, ".", {"price": 1})
    page = opened(PAGES / "react.jsx")
    page.evaluate("show('Price', '.price', true)")
    shows(page, "1")
    assert page.evaluate("views.length") == 1
    page.evaluate("leave()")
    page.wait_for_function("() => views[0].closed")


def test_react_follows_its_filter_and_tells_refusals(plain: Server, opened: Open, log: Log) -> None:
    put(plain, ".", {"price": 1, "prices": {"a": 1}})
    page = opened(PAGES / "react.jsx")
    page.evaluate("show('Price', null)")
    shows(page, "…")
    assert page.evaluate("views.length") == 0
    page.evaluate("show('Price', '.prices.a')")
    shows(page, "1")
    page.evaluate("show('Prices')")
    shows(page, ".prices.a,1")
    page.locator("#shown").click()
    shows(page, ".prices.a,1 .prices.c,3")
    log.expect("error boundary")  # React's own line
    page.evaluate("show('Price', '.a[')")
    shows(page, "400 at 4")
    page.evaluate("show('State', '.price')")
    shows(page, "[1,false,null]")
    page.evaluate("show('State', '.b[')")
    shows(page, "[null,true,400]")


def test_react_takes_over_what_a_server_made(plain: Server, opened: Open, tmp_path: Path) -> None:
    made = in_node(PAGES / "react_server.jsx", tmp_path)
    assert made == SERVER_PAGE
    put(plain, ".", {"price": 5})
    page = opened(PAGES / "react.jsx")
    # React says in the log if the first render is not what the server made: that fails the test.
    page.evaluate("html => takeOver(html, '.price')", made)
    shows(page, "5")


# ── Vue ────────────────────────────────────────────────────────────────────────────────────────

VUE_FLAGS = (
    "--define:__VUE_OPTIONS_API__=false",
    "--define:__VUE_PROD_DEVTOOLS__=false",
    "--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false",
)


def test_vue(plain: Server, opened: Callable[..., Page]) -> None:
    put(plain, ".", {"price": 0, "b": "other"})
    page = opened(PAGES / "vue.js", *VUE_FLAGS)
    page.evaluate("show('Price', null)")
    shows(page, "…")
    page.evaluate("show('Price', '.price')")
    shows(page, "0")
    page.evaluate("renders = 0")
    for n in range(1, 7):
        put(plain, ".price", n)
        shows(page, str(n))
    assert page.evaluate("renders") == 6
    page.evaluate("show('Price', '.b')")
    shows(page, "other")
    page.wait_for_function("() => views[0].closed && !views[1].closed")
    page.evaluate("show('Price', '.a[')")
    expect(page.locator("i")).to_have_text("400 at 4")
    page.evaluate("leave()")
    page.wait_for_function("() => views.every(({ closed }) => closed)")
    page.evaluate("show('State', '.price')")
    shows(page, "[6,false,null]")
    page.evaluate("show('State', '.b[')")
    shows(page, "[null,true,400]")


def test_vue_where_pages_are_made(tmp_path: Path) -> None:
    assert in_node(PAGES / "vue_server.js", tmp_path) == SERVER_PAGE


# ── Svelte ─────────────────────────────────────────────────────────────────────────────────────


def test_svelte(plain: Server, opened: Callable[..., Page], svelte: Callable[[str], Path]) -> None:
    put(plain, ".", {"price": 1})
    page = opened(svelte("client") / "svelte.js", "--loader:.svelte=js")
    page.evaluate("show('.price')")
    shows(page, "1")
    expect(page.locator("i")).to_have_text("live")
    put(plain, ".price", 2)
    shows(page, "2")
    # A store says something at once.
    assert page.evaluate("now('.price')") == 2
    assert page.evaluate("now('.never')") == "none yet"
    asks_for(plain, page, ".price")
    page.evaluate("leave()")
    asks_for(plain, page)


def test_svelte_where_pages_are_made(svelte: Callable[[str], Path], tmp_path: Path) -> None:
    entry = svelte("server") / "svelte_server.js"
    made = tmp_path / "server.mjs"
    made.write_text(bundle(entry, "--loader:.svelte=js", "--platform=node"))
    shown = run("node", made, cwd=tmp_path)
    assert SERVER_PAGE in shown
    assert "stale" in shown


# ── the element ────────────────────────────────────────────────────────────────────────────────

ELEMENTS = """
<triode-value id="price" filter=".price">soon</triode-value>
<triode-value id="object" filter=".object"></triode-value>
<ul><triode-value id="list" filter=".list">
  <template><li><b data-field="name"></b> × <i data-field="n"></i></li></template>
</triode-value></ul>
<triode-value id="places" filter=".object.*">
  <template><u data-field></u></template>
</triode-value>
<triode-value id="bad" filter=".a[">as it was</triode-value>
"""


def test_the_element(plain: Server, open_page: PageFactory) -> None:
    document = {
        "object": {"a": 1, "b": "<i>x</i>"},
        "list": [{"name": "tea", "n": 2}, {"name": "<b>", "n": None}],
    }
    put(plain, ".", document)
    page = blank(open_page, url_of(plain))
    page.evaluate(
        """async (html) => {
          window.told = [];
          document.addEventListener('triode-change', ({ target, detail }) =>
            told.push([target.id, detail instanceof Map ? [...detail] : detail]));
          document.body.innerHTML = html;
          await import('/triode-value.js');
        }""",
        ELEMENTS,
    )
    text = page.locator
    expect(text("#object")).to_have_text('{"a":1,"b":"<i>x</i>"}')
    expect(text("#list li")).to_have_text(["tea × 2", "<b> × "])
    expect(text("#places u")).to_have_text(["1", "<i>x</i>"])
    # What the page had in it stays until there is something.
    expect(text("#price")).to_have_text("soon")
    expect(text("#bad[stale][error]")).to_have_text("as it was")
    put(plain, ".price", 7)
    expect(text("#price:not([stale])")).to_have_text("7")
    assert page.evaluate("document.querySelector('#price').value") == 7
    with http(plain) as client:
        client.delete("/store", params={"path": ".price"}).raise_for_status()
    expect(text("#price")).to_have_text("")
    put(plain, ".list", [])
    expect(text("#list li")).to_have_count(0)
    told = page.evaluate("told.filter(([id]) => id === 'price')")
    assert told == [["price", 7], ["price", None]]
    # As htmx does: moved, changed, taken away.
    page.evaluate(
        "() => { const one = document.querySelector('#object'); document.body.append(one);"
        " one.setAttribute('filter', '.object.a') }"
    )
    expect(text("#object")).to_have_text("1")
    page.evaluate("document.querySelectorAll('triode-value').forEach((one) => one.remove())")
    asks_for(plain, page)


# ── the README ─────────────────────────────────────────────────────────────────────────────────


def snippet(language: str, server: Server) -> str:
    """The one of the README, for this server."""
    _, found = README.read_text(encoding="utf-8").rsplit(f"```{language}\n", 1)
    return found.partition("```")[0].replace("http://localhost:8080", url_of(server))


def make(folder: Path, script: str) -> None:
    run("node", "--input-type=module", "-e", script, str(folder), cwd=node_modules().parent)


MAKE_VUE = """
import { compileScript, parse } from 'vue/compiler-sfc';
import { readFileSync, writeFileSync } from 'node:fs';
const folder = process.argv[1];
const { descriptor } = parse(readFileSync(`${folder}/App.vue`, 'utf8'));
const { content } = compileScript(descriptor, { id: 'a', inlineTemplate: true });
writeFileSync(`${folder}/App.vue`, content);
"""
USE_VUE = """
import { createApp } from 'vue';
import { triode } from 'triode-client';
import { triodePlugin } from 'triode-client/vue';
import App from './App.vue';
createApp(App).use(triodePlugin(triode('SERVER'))).mount('#app');
"""
MAKE_SVELTE = """
import { compile } from 'svelte/compiler';
import { readFileSync, writeFileSync } from 'node:fs';
const file = `${process.argv[1]}/App.svelte`;
writeFileSync(file, compile(readFileSync(file, 'utf8'), { generate: 'client' }).js.code);
"""
USE_SVELTE = """
import { mount } from 'svelte';
import App from './App.svelte';
mount(App, { target: document.querySelector('#app') });
"""


def react_of(server: Server, folder: Path) -> str:
    (folder / "main.jsx").write_text(snippet("jsx", server))
    return bundle(folder / "main.jsx")


def vue_of(server: Server, folder: Path) -> str:
    (folder / "App.vue").write_text(snippet("vue", server))
    make(folder, MAKE_VUE)
    (folder / "main.js").write_text(USE_VUE.replace("SERVER", url_of(server)))
    return bundle(folder / "main.js", "--loader:.vue=js", *VUE_FLAGS)


def svelte_of(server: Server, folder: Path) -> str:
    (folder / "App.svelte").write_text(snippet("svelte", server))
    make(folder, MAKE_SVELTE)
    (folder / "main.js").write_text(USE_SVELTE)
    return bundle(folder / "main.js", "--loader:.svelte=js")


ORDERS = {
    "orders": {"a": {"item": "tea", "count": 1}, "b": {"item": "milk", "count": 2}},
    "stock": 9,
}


@pytest.mark.parametrize("made", [react_of, vue_of, svelte_of])
def test_the_readme_of(
    made: Callable[[Server, Path], str], plain: Server, open_page: PageFactory, tmp_path: Path
) -> None:
    """In a page of another origin, as with a development server."""
    put(plain, ".", ORDERS)
    page = blank(open_page, f"http://localhost:{plain.port}")
    page.add_script_tag(content=made(plain, tmp_path), type="module")
    expect(page.locator("button")).to_have_text(["1 × tea", "2 × milk"])
    page.locator("button").first.click()
    expect(page.locator("button")).to_have_text(["2 × tea", "2 × milk"])


def test_the_readme_of_the_element(plain: Server, open_page: PageFactory) -> None:
    put(plain, ".", ORDERS)
    page = blank(open_page, f"http://localhost:{plain.port}")
    script, _, rest = snippet("html", plain).partition("</script>")
    page.evaluate("(html) => { document.body.innerHTML = html }", rest)
    page.add_script_tag(url=script.partition('src="')[2].partition('"')[0], type="module")
    expect(page.locator("p")).to_have_text(["In stock: 9", "1 × tea", "2 × milk"])
