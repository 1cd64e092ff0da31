// The console: one stream for the document, one for the filter that is tried out, and the server's
// numbers once a second. Nothing runs while the page is out of sight.

import { getHealth, getJson, Problem, session } from "./api.js";
import { Chart, place, Rates } from "./charts.js";
import { Connections } from "./connections.js";
import { age, byId, bytes, count, el, plural, setText, short } from "./dom.js";
import { LogView } from "./log.js";
import { notice } from "./notice.js";
import { Stream } from "./stream.js";
import { Tree } from "./tree.js";
import { markFault, Trial } from "./trial.js";
import { View } from "./view.js";

const POLL_MS = 1000;
const ANSWER_MS = 5000;
const HIDDEN_MS = 1000;
const CLIENTS_SHOWN = 200;
const NO_ANSWER =
  "No answer yet. A browser opens at most six connections to a server. Other tabs with this console may use them all.";
const BIG_DOCUMENT_BYTES = 32 * 1024 * 1024;

// ── the document ────────────────────────────────────────────────────────────────────────────────

const view = new View();
const trial = new Trial();
const tree = new Tree(byId("document"), view, {
  label: "The document",
  editable: true,
  onwatch: (path) => {
    showPanel("trial-panel");
    trial.show(path);
  },
  onlist: ({ found }) => setText(byId("search-found"), byId("search").value.trim() ? `${count(found)} found` : ""),
});
let stream = null;
let ownClient = null;

function watch() {
  stream?.close();
  view.clear();
  tree.changed("shape");
  const filter = byId("part").value.trim() || ".";
  stream = new Stream({ filter: [filter], policy: "latest" }, { onevent: take, onstate: (state) => tell(state, filter) });
}

function take(type, body, id) {
  if (type === "connected") ownClient = body.client;
  else if (type === "expiring") askToken(`The token ends in ${Math.round(body.in_s)} s.`);
  if (id) setText(byId("position"), id);
  const changed = view.apply(type, body);
  if (!changed) return;
  tree.changed(changed);
  byId("document-panel").dataset.is = view.entries.size ? "full" : "empty";
}

function tell(state, filter) {
  const panel = byId("document-panel");
  const words = { connecting: "connecting", live: "live", waiting: "reconnecting", refused: "refused" };
  setText(byId("state"), words[state.is]);
  byId("state").dataset.is = state.is;
  byId("state").title = state.why ?? "";
  panel.classList.toggle("old", state.is !== "live");
  if (state.is !== "refused") {
    byId("document-fault").replaceChildren(...(state.isLong ? [el("p", {}, NO_ANSWER)] : []));
    return;
  }
  panel.dataset.is = "refused";
  view.clear();
  tree.changed("shape");
  byId("document-fault").replaceChildren(...markFault(filter, state.problem), ...tokenButton(state.problem));
}

byId("part-form").addEventListener("submit", (event) => {
  event.preventDefault();
  watch();
});
byId("search").addEventListener("input", ({ target }) => tree.search(target.value));
byId("open-all").addEventListener("click", () => tree.openAll(true));
byId("close-all").addEventListener("click", () => tree.openAll(false));

// ── the server's numbers ────────────────────────────────────────────────────────────────────────

const connections = new Connections(() => [ownClient, trial.client]);
const logView = new LogView();
const rates = new Rates();
const perSecond = (n) => `${short(n)}/s`;
const charts = {
  clients: new Chart("Clients", count, { help: "Clients that are connected" }),
  events: new Chart("Delivered", perSecond, { help: "Events sent to clients" }),
  writes: new Chart("Changes", perSecond, { help: "Writes applied to the document" }),
  waiting: new Chart("Backlog", bytes, { help: "Bytes in the queues of clients that read too slowly" }),
  drops: new Chart("Drops", perSecond, { help: "Events that slow clients did not get; they get a snapshot instead" }),
  cpu: new Chart("CPU", (n) => `${short(n)}\u00a0%`, { help: "Of one core" }),
};
place(Object.values(charts));

function countersOf({ counters, gauges }) {
  const drops = Object.values(counters.drops_total).flatMap((reasons) => Object.values(reasons));
  return {
    events: counters.events_total,
    bytes: counters.bytes_out_total,
    writes: counters.writes_total,
    drops: drops.reduce((a, b) => a + b, 0),
    cpu: gauges.cpu_seconds_total,
  };
}

function showNumbers(stats) {
  const { gauges, counters } = stats;
  const totals = countersOf(stats);
  const slow = gauges.clients_slow;
  charts.clients.add(gauges.clients, `${count(gauges.clients_sse)} SSE · ${count(gauges.clients_ws)} WebSocket`);
  charts.waiting.add(gauges.queued_bytes, slow ? `${count(slow)} slow` : "nobody is slow", slow ? "warn" : "");
  const now = rates.of(totals);
  if (now) {
    charts.events.add(now.events, `${bytes(now.bytes)}/s`);
    charts.writes.add(now.writes, `${bytes(gauges.document_bytes)} document`);
    charts.drops.add(now.drops, `${count(totals.drops)} in total`, now.drops ? "bad" : "");
    charts.cpu.add(now.cpu * 100, `${bytes(gauges.memory_rss_bytes)} memory`);
  }
  setText(byId("uptime"), `up ${age(gauges.uptime_seconds)}`);
  setText(byId("refused-number"), counters.errors_total ? plural(counters.errors_total, "error") : "");
  connections.show(stats);
  logView.show(stats);
}

let numbersRefused = false; // until the token is another: asking again would be refused again

let isPolling = false;

async function poll() {
  if (isPolling) return; // a slow server is not asked twice at once
  isPolling = true;
  try {
    const [health, numbers] = await Promise.allSettled([getHealth(), numbersRefused ? null : pollNumbers()]);
    showHealth(health.value ?? { status: "no answer", checks: {} });
    if (numbers.reason) reportError(numbers.reason); // a fault of this page's
  } finally {
    isPolling = false;
  }
}

async function pollNumbers() {
  const { token } = session;
  let fault = null;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const stats = await getJson(`stats?clients=all&limit=${CLIENTS_SHOWN}`, { signal });
    if (token !== session.token) return;
    showNumbers(stats);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (token !== session.token) return;
    fault = problem;
    numbersRefused = problem.wantsToken;
  }
  // What was seen last stays in sight while the server is away, and looks its age.
  byId("numbers").dataset.is = numbersRefused ? "refused" : fault ? "old" : "full";
  byId("who-panel").classList.toggle("old", fault !== null);
  byId("numbers-fault").replaceChildren(
    ...(numbersRefused ? [el("p", {}, whyNoNumbers(fault)), ...tokenButton(fault)] : []),
  );
  if (numbersRefused) {
    connections.clear("Only admins can see who is connected.");
    logView.clear("Only admins can see the log.");
  }
}

function whyNoNumbers(problem) {
  return problem.status === 403
    ? "Only admins can see clients and rates. This token has no admin rights."
    : "To see clients and rates, use an admin token.";
}

function showHealth(body) {
  const box = byId("health");
  box.dataset.is = body.status;
  setText(byId("health-word"), body.status);
  const checks = Object.entries(body.checks).map(([name, { status: is, ...facts }]) =>
    el(
      "li",
      { "data-is": is },
      el("b", {}, name.replaceAll("_", " ")),
      el("span", {}, is),
      el("small", {}, Object.entries(facts).map(([key, fact]) => `${key} ${fact}`).join(" · ")),
    ),
  );
  if (box.open || !byId("checks").childElementCount) byId("checks").replaceChildren(...checks);
}

// ── the token ───────────────────────────────────────────────────────────────────────────────────

const dialog = byId("token-dialog");
let asked = false; // once; after that only when the visitor wants to

function askToken(why) {
  setText(byId("token-why"), why);
  if (!dialog.open) {
    byId("token").value = "";
    dialog.showModal();
  }
}

function tokenButton(problem) {
  if (!problem.wantsToken) return [];
  return [el("button", { type: "button", class: "primary", onclick: () => askToken(problem.words) }, "Enter a token")];
}

session.addEventListener("denied", ({ detail }) => {
  if (asked) return;
  asked = true;
  askToken(detail.words);
});
session.addEventListener("change", () => {
  showToken();
  numbersRefused = false;
  watch();
  trial.start();
  poll();
});
byId("token-cancel").addEventListener("click", () => dialog.close());
byId("token-form").addEventListener("submit", () => {
  asked = false; // a wrong one is asked for again
  session.token = byId("token").value.trim();
});
byId("token-button").addEventListener("click", () =>
  askToken(session.token ? "This tab uses a token. Enter another one, or leave it empty to forget the token." : "It is kept for this tab only, and sent only in a header."),
);

function showToken() {
  setText(byId("token-button"), session.token ? "Token in use" : "Token");
}

// ── the page ────────────────────────────────────────────────────────────────────────────────────

function showPanel(id) {
  document.body.dataset.panel = id;
  for (const link of byId("panels").children) {
    if (link.getAttribute("aria-controls") === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

for (const button of byId("panels").children) {
  button.addEventListener("click", () => showPanel(button.getAttribute("aria-controls")));
}
showPanel("document-panel");

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  byId("search").focus();
});

for (const type of ["pointerdown", "keydown"]) {
  document.addEventListener(type, (event) => {
    const outside = type === "pointerdown" ? !byId("health").contains(event.target) : event.key === "Escape";
    if (outside) byId("health").open = false;
  });
}

let polling = null;
let hiding = null;

function wake() {
  clearTimeout(hiding);
  trial.resume();
  if (!stream) watch();
  polling ??= setInterval(poll, POLL_MS);
  poll();
}

function sleep() {
  clearInterval(polling);
  polling = null;
  // A browser has six connections to a server, and streams of tabs that nobody sees would take them all.
  // Not at once: a glance away is short.
  hiding = setTimeout(() => {
    stream?.close();
    stream = null;
    trial.suspend();
  }, HIDDEN_MS);
}

document.addEventListener("visibilitychange", () => (document.hidden ? sleep() : wake()));

async function begin() {
  showToken();
  const stats = await getJson("stats").catch(() => null);
  if (stats && stats.gauges.document_bytes > BIG_DOCUMENT_BYTES) {
    byId("part").value = "";
    notice(`The document is large (${bytes(stats.gauges.document_bytes)}). Choose the part to show.`);
    byId("part").focus();
    stream = { close() {} };
  }
  if (!document.hidden) wake();
}

begin();
