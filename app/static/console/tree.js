// The document as a tree. Only the rows in sight are elements; the others are entries of a list.
//
// `rows` is the flat list of all open rows. A change of a scalar leaves it as it is: rows hold their
// container and key, and read the value when they are painted. Whatever else changes makes the list
// anew, at most once a frame. A row flashes when it shows, in its next paint, another text than in
// its last: that needs no bookkeeping, and costs the same for one change as for ten thousand.

import { count, el, oncePerFrame, setText } from "./dom.js";
import { Editor } from "./editor.js";
import { isContainer, isRounded, kindOf, plain } from "./json.js";
import { join } from "./view.js";

const OVERSCAN = 6;
const PREVIEW_CHARS = 120;
const TEXT_CHARS = 300;
const OPEN_DEPTH = 3; // levels that are open at first …
const OPEN_CHILDREN = 100; // … unless they hold more than this, below the second
const SEARCH_NODES = 300_000;
const SLOW_LISTING_MS = 8;
const FLASH = { duration: 1100, easing: "ease-out" };

let trees = 0;

/** `options`: `label`; `onwatch(path)` for a button beside a row; `editable`. */
export class Tree {
  #view;
  #options;
  #box; // scrolls
  #sheet; // as high as all rows
  #rows = [];
  #elements = new Map(); // path → element of a row in sight
  #opened = new Map(); // path → open or not, where the visitor has chosen
  #selected = null; // path
  #query = "";
  #stale = true; // the list of rows is
  #listAtMs = 0; // not before this time is it made again
  #later = null;
  #id = `tree${(trees += 1)}`;
  #rowPx = 26;
  #paintSoon = oncePerFrame((now) => this.#paint(now));
  #editor;
  found = 0; // rows that met the search

  constructor(box, view, options) {
    this.#box = box;
    this.#view = view;
    this.#options = options;
    this.#sheet = el("div", { class: "sheet", role: "presentation" });
    box.replaceChildren(this.#sheet);
    for (const [name, value] of Object.entries({ role: "tree", tabindex: "0", "aria-label": options.label })) {
      box.setAttribute(name, value);
    }
    this.#editor = options.editable ? new Editor(this) : null;
    box.addEventListener("scroll", this.#paintSoon, { passive: true });
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => {
      this.#rowPx = parseFloat(getComputedStyle(box).getPropertyValue("--row")) || 26;
      this.#stale = true;
      this.#paintSoon();
    }).observe(box);
  }

  /** Tell that the view has changed, with what `View.apply` said. */
  changed(what) {
    if (what === "shape" || this.#query) this.#stale = true;
    this.#paintSoon();
  }

  search(text) {
    this.#query = text.trim().toLowerCase();
    this.#stale = true;
    this.#listAtMs = 0;
    this.#box.scrollTop = 0;
    this.#paintSoon();
  }

  /** Open or close all containers that are in the view. */
  openAll(open) {
    this.#opened.clear();
    const walk = (value, path, depth) => {
      if (!isContainer(value)) return;
      this.#opened.set(path, open || depth === 0);
      for (const key of keysOf(value)) walk(value[key], join(path, key), depth + 1);
    };
    for (const { path, value } of this.#view.entries.values()) walk(value, path, 0);
    this.#stale = true;
    this.#paintSoon();
  }

  // ── the list ──────────────────────────────────────────────────────────────────────────────────

  #list(nowMs) {
    const started = performance.now();
    const rows = [];
    let nodes = 0;
    this.found = 0;
    const query = this.#query;
    const meets = (row, value) =>
      row.label.toLowerCase().includes(query) ||
      (!isContainer(value) && plain(value).toLowerCase().includes(query));

    // Below what met the search all is shown, closed or open as it was. Says whether it is shown.
    const visit = (row, within) => {
      const at = rows.push(row) - 1;
      const value = row.value;
      const met = !query || within || meets(row, value);
      if (met && query && !within) this.found += 1;
      if (!isContainer(value)) {
        if (!met) rows.pop();
        return met;
      }
      row.open = !met || this.#isOpen(row, value);
      let any = met;
      if (row.open && nodes < SEARCH_NODES) {
        for (const key of keysOf(value)) {
          nodes += 1;
          if (visit(new Row(value, key, String(key), row.path, row.depth + 1), met)) any = true;
        }
      }
      if (!any) rows.length = at;
      return any;
    };
    for (const entry of this.#view.entries.values()) {
      visit(new Row(entry, "value", entry.path === "." ? "document" : entry.path, null, 0), false);
    }
    this.#rows = rows;
    this.#stale = false;
    // A list that takes long is made seldom: the page stays quick.
    const tookMs = performance.now() - started;
    this.#listAtMs = nowMs + (tookMs > SLOW_LISTING_MS || query ? tookMs * 20 : 0);
    this.#sheet.style.height = `${rows.length * this.#rowPx}px`;
    this.#options.onlist?.(this);
  }

  #isOpen(row, value) {
    const chosen = this.#opened.get(row.path);
    if (chosen !== undefined) return chosen;
    if (row.depth === 0) return this.#view.entries.size === 1;
    const several = this.#view.entries.size > 1;
    return !several && row.depth < OPEN_DEPTH && (row.depth < 2 || sizeOf(value) <= OPEN_CHILDREN);
  }

  // ── painting ──────────────────────────────────────────────────────────────────────────────────

  #paint(nowMs) {
    if (this.#stale) {
      if (nowMs >= this.#listAtMs) this.#list(nowMs);
      else this.#later ??= setTimeout(() => { this.#later = null; this.#paintSoon(); }, this.#listAtMs - nowMs);
    }
    const { scrollTop, clientHeight } = this.#box;
    const first = Math.max(0, Math.floor(scrollTop / this.#rowPx) - OVERSCAN);
    const last = Math.min(this.#rows.length, Math.ceil((scrollTop + clientHeight) / this.#rowPx) + OVERSCAN);
    const inSight = new Set();
    const added = document.createDocumentFragment();
    for (let i = first; i < last; i += 1) {
      const row = this.#rows[i];
      inSight.add(row.path);
      let element = this.#elements.get(row.path);
      if (!element) {
        element = this.#make();
        this.#elements.set(row.path, element);
        added.append(element);
      }
      this.#fill(element, row, i);
    }
    for (const [path, element] of this.#elements) {
      if (inSight.has(path) || this.#editor?.isIn(element)) continue;
      element.remove();
      this.#elements.delete(path);
    }
    this.#sheet.append(added);
    this.#tellActive();
  }

  #make() {
    const { onwatch, editable } = this.#options;
    const button = (act, title, text) =>
      el("button", { type: "button", class: "act", "data-act": act, title, "aria-label": title, tabindex: "-1" }, text);
    const element = el("div", { class: "row", role: "treeitem" });
    element.parts = {
      twist: el("span", { class: "twist", "aria-hidden": "true" }),
      key: el("span", { class: "key" }),
      value: el("span", { class: "value" }),
      size: el("span", { class: "size" }),
    };
    element.append(
      ...Object.values(element.parts),
      el(
        "span",
        { class: "acts" },
        onwatch && button("watch", "Try it as a filter", "watch"),
        editable && button("edit", "Change (Enter)", "edit"),
        editable && button("add", "Add a member", "add"),
        editable && button("remove", "Remove (Delete)", "remove"),
      ),
    );
    return element;
  }

  #fill(element, row, index) {
    const { twist, key, value: text, size } = element.parts;
    const value = row.holder[row.key];
    const container = isContainer(value);
    const kind = kindOf(value);
    if (element.row !== row || element.index !== index) {
      element.id = `${this.#id}-${index}`;
      element.style.transform = `translateY(${index * this.#rowPx}px)`;
      element.style.setProperty("--depth", row.depth);
      element.setAttribute("aria-level", row.depth + 1);
      setText(key, row.label);
      key.classList.toggle("index", typeof row.key === "number");
      element.classList.toggle("entry", row.depth === 0);
      element.index = index;
    }
    if (element.row !== row || element.kind !== kind || element.open !== row.open) {
      setText(twist, container ? (row.open ? "▾" : "▸") : "");
      text.className = `value ${kind}`;
      if (container) element.setAttribute("aria-expanded", String(Boolean(row.open)));
      else element.removeAttribute("aria-expanded");
      element.classList.toggle("scalar", !container);
    }
    const selected = row.path === this.#selected;
    if (element.selected !== selected) {
      element.setAttribute("aria-selected", String(selected));
      element.selected = selected;
    }
    const shown = container ? (row.open ? "" : preview(value)) : scalarText(value);
    const sized = container ? (Array.isArray(value) ? `[${count(value.length)}]` : `{${count(sizeOf(value))}}`) : "";
    setText(size, sized);
    if (element.shown !== shown) {
      const sameRow = element.shown !== undefined && element.open === row.open;
      text.textContent = shown;
      if (sameRow) this.#flash(text);
      element.shown = shown;
    }
    element.row = row;
    element.kind = kind;
    element.open = row.open;
    this.#editor?.follow(element, shown);
  }

  #flash(node) {
    node.flash?.cancel();
    const colour = getComputedStyle(this.#box).getPropertyValue("--flash");
    node.flash = node.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], FLASH);
  }

  // ── choosing, opening, acting ─────────────────────────────────────────────────────────────────

  #click(event) {
    const element = event.target.closest(".row");
    if (!element || event.target.closest(".editor")) return;
    const row = element.row;
    this.#select(row.path);
    const act = event.target.closest(".act")?.dataset.act;
    if (act) this.#act(act, row);
    else if (isContainer(row.value)) this.#toggle(row);
    else if (event.target.closest(".value")) this.#act("edit", row);
  }

  #act(act, row) {
    if (act === "watch") this.#options.onwatch?.(row.path);
    else if (this.#editor) this.#editor[act](row, this.#elements.get(row.path));
  }

  #toggle(row, open = !row.open) {
    this.#opened.set(row.path, open);
    this.#stale = true;
    this.#listAtMs = 0;
    this.#paintSoon();
  }

  #select(path) {
    this.#selected = path;
    this.#paintSoon();
  }

  #tellActive() {
    const element = this.#selected === null ? null : this.#elements.get(this.#selected);
    if (element) this.#box.setAttribute("aria-activedescendant", element.id);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    if (event.target !== this.#box || event.ctrlKey || event.metaKey || event.altKey) return;
    this.#paint(performance.now()); // what the key before has changed: keys may be faster than frames
    const rows = this.#rows;
    const at = rows.findIndex((row) => row.path === this.#selected);
    const row = rows[at];
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#rowPx) - 1);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + page, PageUp: at - page };
    let to = moves[event.key];
    if (to === undefined && row) {
      if (event.key === "ArrowRight" && isContainer(row.value)) row.open ? (to = at + 1) : this.#toggle(row, true);
      else if (event.key === "ArrowLeft") row.open ? this.#toggle(row, false) : (to = parentOf(rows, at));
      else if (event.key === "Enter" || event.key === "F2") this.#act("edit", row);
      else if (event.key === "Delete") this.#act("remove", row);
      else if (event.key === "+" && isContainer(row.value)) this.#act("add", row);
      else if (event.key === " " && isContainer(row.value)) this.#toggle(row);
      else return;
    } else if (to === undefined) {
      return;
    }
    event.preventDefault();
    if (to === undefined || !rows.length) return;
    to = Math.min(rows.length - 1, Math.max(0, to));
    const top = to * this.#rowPx;
    const box = this.#box;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + this.#rowPx > box.scrollTop + box.clientHeight) box.scrollTop = top + this.#rowPx - box.clientHeight;
    this.#select(rows[to].path);
  }

  focus() {
    this.#box.focus({ preventScroll: true });
  }

  repaint() {
    this.#paintSoon();
  }
}

/** One row: where its value is found now. Its path is made when it is needed first. */
class Row {
  #path = null;
  #parent;
  open = undefined;

  constructor(holder, key, label, parent, depth) {
    this.holder = holder;
    this.key = key;
    this.label = label;
    this.depth = depth;
    this.#parent = parent;
  }

  get path() {
    return (this.#path ??= this.#parent === null ? this.holder.path : join(this.#parent, this.key));
  }

  get parentPath() {
    return this.#parent;
  }

  get value() {
    return this.holder[this.key];
  }
}

const keysOf = (value) => (Array.isArray(value) ? value.keys() : Object.keys(value));

const sizeOf = (value) => (Array.isArray(value) ? value.length : Object.keys(value).length);

function parentOf(rows, at) {
  const { depth } = rows[at];
  for (let i = at - 1; i >= 0; i -= 1) if (rows[i].depth < depth) return i;
  return at;
}

export function scalarText(value) {
  const text = JSON.stringify(value) ?? ""; // a row of a list that is about to be made anew
  if (text.length > TEXT_CHARS) return `${text.slice(0, TEXT_CHARS)}…`;
  return isRounded(value) ? `≈ ${text}` : text;
}

/** What a closed container holds, as far as it fits on a line. */
export function preview(value) {
  let text = "";
  const named = !Array.isArray(value);
  for (const key of keysOf(value)) {
    const child = value[key];
    if (text.length > PREVIEW_CHARS) return `${text} …`;
    const shown = isContainer(child) ? (Array.isArray(child) ? "[…]" : "{…}") : scalarText(child);
    text += `${text ? " · " : ""}${named ? `${key} ` : ""}${shown}`;
  }
  return text;
}
