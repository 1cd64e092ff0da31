// Who is connected: clients, the rooms they are in, and how connections ended.

import { closeClient } from "./api.js";
import { age, byId, bytes, clock, count, el, fillList, plural, setText } from "./dom.js";
import { notice } from "./notice.js";

const QUEUE_BAR_BYTES = 64 * 1024; // a full bar, as long as no queue is longer
const TRANSPORTS = { sse: "SSE", websocket: "WebSocket", ws: "WebSocket" };

export class Connections {
  #own; // the ids of this page's own connections
  #rows = new Map(); // client id → its rows
  #search = byId("clients-search");
  #last = null;

  /** `ownClients()` tells the ids of this page's own connections. */
  constructor(ownClients) {
    this.#own = ownClients;
    this.#search.addEventListener("input", () => this.#last && this.#showClients(this.#last));
    const tabs = [...byId("who-tabs").querySelectorAll("[role=tab]")];
    for (const tab of tabs) {
      tab.addEventListener("click", () => choose(tabs, tab));
      tab.addEventListener("keydown", ({ key }) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
        if (step) choose(tabs, tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length]).focus();
      });
    }
  }

  /** Show an answer of `/stats?clients=all`; what a server does not tell is said to be missing. */
  show(stats) {
    this.#last = stats;
    const { gauges, counters } = stats;
    setText(byId("clients-number"), count(gauges.clients));
    setText(byId("ends-number"), count(sum(counters.ends_total)));
    this.#showClients(stats);
    this.#showRooms(stats);
    this.#showEnds(stats);
  }

  /** Show nobody, and why. */
  clear(why) {
    this.#last = null;
    for (const id of ["clients-number", "rooms-number", "ends-number"]) setText(byId(id), "");
    for (const id of ["clients", "rooms", "ends", "ends-reasons"]) byId(id).replaceChildren();
    for (const id of ["clients-empty", "rooms-empty", "ends-empty"]) setText(byId(id), why);
    byId("clients-table").hidden = true;
    this.#rows.clear();
  }

  #showClients({ clients, gauges }) {
    const body = byId("clients");
    const told = Array.isArray(clients);
    const wanted = this.#search.value.trim().toLowerCase();
    const shown = told ? clients.filter((one) => meets(one, wanted)) : [];
    const seen = new Set();
    const most = Math.max(QUEUE_BAR_BYTES, ...shown.map((one) => one.queued_bytes));
    let before = null;
    for (const one of shown) {
      seen.add(one.client);
      let rows = this.#rows.get(one.client);
      if (!rows) this.#rows.set(one.client, (rows = this.#make(one.client)));
      this.#fill(rows, one, most);
      // Moving an element takes focus and selection away: only where the order has changed.
      const place = before ? before.nextSibling : body.firstChild;
      if (place !== rows.main) body.insertBefore(rows.main, place);
      if (rows.main.nextSibling !== rows.more) rows.main.after(rows.more);
      before = rows.more;
    }
    for (const [id, rows] of this.#rows) {
      if (seen.has(id)) continue;
      rows.main.remove();
      rows.more.remove();
      this.#rows.delete(id);
    }
    byId("clients-table").hidden = shown.length === 0;
    const left = told ? gauges.clients - clients.length : 0;
    setText(
      byId("clients-empty"),
      !told
        ? "This server does not list its clients."
        : shown.length
          ? left > 0 ? `${plural(left, "more client")}, with shorter queues.` : ""
          : wanted ? "No client matches." : "Nobody is connected.",
    );
  }

  #make(id) {
    const cells = {};
    const cell = (name, properties = {}) => (cells[name] = el("td", { "data-name": name, ...properties }));
    const toggle = el("button", { type: "button", class: "who", "aria-expanded": "false" });
    cells.name = el("span", { class: "name" });
    cells.address = el("span", { class: "address" });
    toggle.append(cells.name, cells.address);
    cells.bar = el("i");
    cells.queue = el("span");
    const main = el(
      "tr",
      { class: "client" },
      cell("state"),
      el("td", { "data-name": "client" }, toggle),
      cell("transport"),
      cell("what"),
      el("td", { "data-name": "queue", class: "number" }, cells.queue, el("span", { class: "bar" }, cells.bar)),
      cell("drops", { class: "number" }),
      cell("sent", { class: "number" }),
      cell("age", { class: "number" }),
    );
    cells.facts = el("dl");
    const end = el("button", { type: "button", class: "danger", onclick: () => close(id) }, "Close connection");
    const more = el("tr", { class: "more", hidden: true }, el("td", { colspan: "8" }, cells.facts, end));
    toggle.addEventListener("click", () => {
      more.hidden = !more.hidden;
      toggle.setAttribute("aria-expanded", String(!more.hidden));
      if (!more.hidden && this.#last) this.#showClients(this.#last);
    });
    return { main, more, cells };
  }

  #fill({ main, more, cells }, one, most) {
    const own = this.#own().includes(one.client);
    main.dataset.state = one.state;
    setText(cells.state, stateOf(one));
    setText(cells.name, own ? "this console" : one.name || tagsOf(one).join(" ") || one.client);
    setText(cells.address, one.ip);
    setText(cells.transport, TRANSPORTS[one.transport] ?? one.transport);
    setText(cells.what, whatOf(one));
    cells.what.title = whatOf(one);
    setText(cells.queue, one.queued ? `${count(one.queued)} · ${bytes(one.queued_bytes)}` : "–");
    cells.bar.style.width = `${(100 * one.queued_bytes) / most}%`;
    cells.bar.parentNode.hidden = !one.queued;
    setText(cells.drops, one.dropped ? count(one.dropped) : "–");
    setText(cells.sent, `${count(one.sent)} · ${bytes(one.sent_bytes)}`);
    setText(cells.age, age(one.connected_s));
    if (!more.hidden) showFacts(cells.facts, one);
  }

  #showRooms({ clients, gauges }) {
    setText(byId("rooms-number"), count(gauges.rooms));
    const members = new Map();
    for (const one of clients ?? []) {
      for (const room of one.rooms) members.set(room, (members.get(room) ?? 0) + 1);
    }
    const rooms = [...members].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    const most = Math.max(1, ...members.values());
    fillList(byId("rooms"), rooms, ([room, n]) => [room, el("b", {}, room), el("meter", { max: most, value: n, "aria-hidden": "true" }), el("span", {}, plural(n, "member"))]);
    setText(
      byId("rooms-empty"),
      rooms.length ? "" : gauges.rooms ? "There are rooms, but this server does not say who is in them." : "There are no rooms. A client makes a room by joining it.",
    );
  }

  #showEnds({ ends_log: log, counters }) {
    const reasons = Object.entries(counters.ends_total).sort((a, b) => b[1] - a[1]);
    fillList(byId("ends-reasons"), reasons, ([reason, n]) => [reason + n, el("b", {}, reason), el("span", {}, count(n))]);
    fillList(byId("ends"), log ?? [], (end) => [
      end.client + end.time,
      el("time", {}, clock(end.time)),
      el("b", {}, end.reason),
      el("span", {}, TRANSPORTS[end.transport] ?? end.transport),
      el("span", {}, end.ip),
      el("code", {}, end.client),
    ]);
    setText(byId("ends-empty"), reasons.length ? "" : "No client has disconnected yet.");
  }
}

function choose(tabs, chosen) {
  for (const tab of tabs) {
    const is = tab === chosen;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !is;
  }
  return chosen;
}

function whatOf(one) {
  const filters = one.filters.map(({ filter }) => filter);
  return [...filters, ...one.rooms.map((room) => `#${room}`)].join("  ") || "nothing yet";
}

const tagsOf = (one) => Object.entries(one.tags).map(([name, value]) => `${name}=${value}`);

function meets(one, wanted) {
  if (!wanted) return true;
  const texts = [one.client, one.ip, one.name ?? "", stateOf(one), one.transport, whatOf(one), ...tagsOf(one)];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

/** The state as people say it; the contract's name for it is older. */
const stateOf = ({ state }) => (state === "healing" ? "resyncing" : state);

function showFacts(list, one) {
  const facts = {
    client: one.client,
    "way of serving": one.lane,
    filters: one.filters.map(({ filter, policy }) => `${filter} (${policy})`).join("  "),
    rooms: one.rooms.join("  "),
    tags: tagsOf(one).join("  "),
    "oldest in queue": one.queued ? age(one.oldest_s) : "",
    drops: Object.entries(one.drops).map(([reason, n]) => `${count(n)} ${reason}`).join(", "),
    resyncs: one.heals ? count(one.heals) : "",
  };
  const parts = Object.entries(facts).filter(([, text]) => text);
  list.replaceChildren(...parts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
}

async function close(id) {
  try {
    const { reached } = await closeClient(id);
    notice(reached ? `Closed ${id}` : `${id} was gone already`);
  } catch (problem) {
    notice(`Could not close ${id}: ${problem.message}`, { bad: true });
  }
}

const sum = (numbers) => Object.values(numbers ?? {}).reduce((a, b) => a + b, 0);
