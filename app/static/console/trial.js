// Trying a filter out: what it selects now, and every event that a subscriber of it would get.

import { byId, clock, count, el, oncePerFrame, plural, setText } from "./dom.js";
import { isContainer } from "./json.js";
import { Stream } from "./stream.js";
import { preview, scalarText, Tree } from "./tree.js";
import { View } from "./view.js";

const TYPING_MS = 350;
const EVENTS_KEPT = 200;

export class Trial {
  #input = byId("trial-filter");
  #policy = byId("trial-policy");
  #fault = byId("trial-fault");
  #state = byId("trial-state");
  #list = byId("trial-events");
  #stream = null;
  #timer = null;
  #view = new View();
  #tree;
  #events = []; // newest last; those that are not painted yet
  #total = 0;
  #paused = false;
  #suspended = false;
  client = null; // the id of its connection
  #paintSoon = oncePerFrame(() => this.#paint());

  constructor() {
    this.#tree = new Tree(byId("trial-matches"), this.#view, { label: "What the filter selects" });
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.start(), TYPING_MS);
    });
    this.#policy.addEventListener("change", () => this.start());
    byId("trial").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    byId("trial-stop").addEventListener("click", () => this.#clear());
    byId("trial-pause").addEventListener("click", ({ currentTarget }) => {
      this.#paused = !this.#paused;
      currentTarget.setAttribute("aria-pressed", String(this.#paused));
      setText(currentTarget, this.#paused ? "Go on" : "Pause");
      this.#paintSoon();
    });
    for (const sample of byId("trial-samples").querySelectorAll("button")) {
      sample.addEventListener("click", () => this.show(sample.textContent));
    }
  }

  /** Put a filter into the field and try it. */
  show(filter) {
    this.#input.value = filter;
    this.start();
    this.#input.focus();
  }

  start() {
    clearTimeout(this.#timer);
    this.#stream?.close();
    this.#stream = null;
    const filter = this.#input.value.trim();
    if (!filter) return void this.#clear();
    if (this.#suspended) return;
    this.#reset();
    byId("trial-panel").dataset.is = "open";
    this.#stream = new Stream(
      { filter: [filter], policy: this.#policy.value },
      { onevent: (type, body, id) => this.#take(type, body, id), onstate: (state) => this.#tell(state, filter) },
    );
  }

  /** The page is out of sight: let go of the connection. `resume` begins anew. */
  suspend() {
    this.#suspended = true;
    this.#stream?.close();
    this.#stream = null;
  }

  resume() {
    if (!this.#suspended) return;
    this.#suspended = false;
    if (this.#input.value.trim()) this.start();
  }

  #reset() {
    this.#view.clear();
    this.#events = [];
    this.#total = 0;
    this.#list.replaceChildren();
    this.#fault.replaceChildren();
    this.#tree.changed("shape");
    this.#paintSoon();
  }

  #clear() {
    this.#stream?.close();
    this.#stream = null;
    this.#input.value = "";
    this.#reset();
    setText(this.#state, "");
    byId("trial-panel").dataset.is = "empty";
    this.#input.removeAttribute("aria-invalid");
  }

  #tell(state, filter) {
    const words = { connecting: "", live: "live", waiting: "reconnecting", refused: "" };
    setText(this.#state, words[state.is]);
    this.#state.dataset.is = state.is;
    const refused = state.is === "refused";
    this.#input.setAttribute("aria-invalid", String(refused));
    this.#fault.replaceChildren(...(refused ? markFault(filter, state.problem) : []));
    byId("trial-panel").dataset.is = refused ? "refused" : "open";
  }

  #take(type, body, id) {
    if (type === "connected") this.client = body.client;
    const changed = this.#view.apply(type, body);
    if (changed) this.#tree.changed(changed);
    this.#total += 1;
    this.#events.push({ type, body, id, ms: body.time ?? Date.now() });
    if (this.#events.length > EVENTS_KEPT) this.#events.shift();
    this.#paintSoon();
  }

  #paint() {
    setText(byId("trial-count"), plural(this.#view.entries.size, "match").replace("matchs", "matches"));
    setText(byId("trial-total"), plural(this.#total, "event"));
    if (this.#paused) return;
    const fresh = this.#events.splice(0).map(eventRow).reverse();
    this.#list.prepend(...fresh);
    while (this.#list.childElementCount > EVENTS_KEPT) this.#list.lastChild.remove();
  }
}

/** The filter with the column of its fault marked, and what the server says about it. */
export function markFault(filter, problem) {
  const said = el("p", { role: "alert" }, problem.words);
  if (problem.column === null) return [said];
  const characters = [...filter];
  const at = Math.min(problem.column - 1, characters.length);
  const marked = el(
    "code",
    { "aria-hidden": "true" },
    characters.slice(0, at).join(""),
    el("mark", {}, characters[at] ?? "\u00a0"),
    characters.slice(at + 1).join(""),
  );
  return [marked, said];
}

function eventRow({ type, body, id, ms }) {
  return el(
    "li",
    { class: `event ${type}`, title: id ?? "" },
    el("time", {}, clock(ms)),
    el("b", {}, type),
    el("code", {}, body.path ?? ""),
    el("span", {}, words(type, body)),
  );
}

function words(type, body) {
  if (type === "update") return isContainer(body.value) ? preview(body.value) : scalarText(body.value);
  if (type === "snapshot") return `${plural(body.items.length, "value")}${body.more ? ", more follow" : ""}`;
  if (type === "gap") return `${count(body.missed)} missed: ${body.reason}`;
  if (type === "connected") return `${body.client}${body.resumed ? ", resumed" : ""}`;
  if (type === "closing") return `${body.reason}; reconnects in ${body.retry_ms} ms`;
  if (type === "expiring") return `the token ends in ${Math.round(body.in_s)} s`;
  return "";
}
