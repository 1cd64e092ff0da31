// The log: where the document is kept, how commits go, and what was written last, by whom.

import { getJson } from "./api.js";
import { showCluster } from "./cluster.js";
import { age, byId, bytes, clock, count, el, fillList, plural, setText, short } from "./dom.js";

const SHOWN = 50;
const IN_MEMORY =
  "The document is only in memory: it is lost when the server ends. triode serve keeps it in a folder, unless you set --data memory.";
const PROMISES = {
  full: "a write is on disk before it is answered",
  relaxed: "a write is on disk a moment later: a power failure may lose the last ones",
};
const ms = (s) => `${short(s * 1000)}\u00a0ms`;

export class LogView {
  #facts = byId("log-facts");
  #entries = byId("log-entries");
  #last = null; // position of the newest entry that is shown
  #isAsking = false;

  /** Show an answer of `/stats`; and what was written, while somebody looks. */
  async show({ position, log, gauges, cluster }) {
    const kept = log !== undefined && log.kept !== "memory";
    const level = log?.full ? "bad" : showCluster(cluster);
    byId("tab-log").dataset.level = level;
    setText(byId("log-number"), cluster ? plural(cluster.nodes.length, "Triode") : kept ? bytes(gauges.log_disk_bytes) : "");
    setText(byId("log-empty"), kept ? "" : log ? IN_MEMORY : "This server says nothing about its log.");
    this.#showFacts(kept ? factsOf(log, gauges, cluster) : {});
    if (!kept) this.#clearEntries();
    else if (!byId("log-view").hidden && position !== this.#last) await this.#ask();
  }

  /** Show nothing, and why. */
  clear(why) {
    showCluster(undefined);
    this.#showFacts({});
    this.#clearEntries();
    setText(byId("log-number"), "");
    setText(byId("log-empty"), why);
  }

  #clearEntries() {
    this.#entries.replaceChildren();
    this.#last = null;
  }

  #showFacts(facts) {
    const told = Object.entries(facts).filter(([, text]) => text);
    const names = told.map(([name]) => name).join();
    if (this.#facts.dataset.names !== names) {
      this.#facts.replaceChildren(...told.flatMap(([name]) => [el("dt", {}, name), el("dd")]));
      this.#facts.dataset.names = names;
    }
    told.forEach(([name, text], i) => {
      const node = this.#facts.children[2 * i + 1];
      setText(node, text);
      node.classList.toggle("bad", name === "writes are refused");
    });
  }

  async #ask() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const { entries, position } = await getJson(`log?limit=${SHOWN}`);
      fillList(this.#entries, entries.reverse(), (entry) => [
        entry.id,
        el("time", {}, clock(entry.time)),
        el("b", { title: entry.who }, entry.who || "–"),
        el("span", {}, entry.op),
        el("code", { title: entry.path ?? "" }, entry.path ?? ""),
        el("span", { class: "what" }, whatOf(entry)),
        el("code", { class: "seq", title: entry.id }, entry.id.slice(entry.id.indexOf(":") + 1)),
      ]);
      this.#last = position;
    } catch {
      this.#last = null; // asked again with the next numbers
    } finally {
      this.#isAsking = false;
    }
  }
}

function factsOf(log, gauges, cluster) {
  const since = gauges.log_last_commit_seconds;
  const snapshot = gauges.log_snapshot_age_seconds;
  return {
    "writes are refused": log.full ? "the disk is full" : "",
    kept: cluster ? `${cluster.server}, ${bytes(gauges.log_disk_bytes)}` : (PROMISES[log.durability] ?? log.durability),
    term: cluster ? `${count(cluster.term)}, up to ${count(cluster.seq)}` : "",
    "last commit": since === undefined ? "none since the start" : `${age(since)} ago`,
    "time of a commit": gauges.log_commits_total
      ? `${ms(gauges.log_commit_median_seconds)}, 1 of 100 over ${ms(gauges.log_commit_p99_seconds)}`
      : "",
    "writes in a commit": gauges.log_commits_total ? short(gauges.log_group) : "",
    waiting: gauges.log_waiting ? plural(gauges.log_waiting, "write") : "nothing",
    snapshot: snapshot === undefined ? "" : `${age(snapshot)} old, ${bytes(gauges.log_unsaved_bytes)} of log since`,
    "last start": `read in ${age(gauges.log_boot_seconds)}`,
  };
}

function whatOf(entry) {
  if (entry.bytes !== undefined) return bytes(entry.bytes);
  if (entry.ops) return `${count(entry.ops.length)} operations`;
  const what = entry.value ?? entry.patch ?? entry.by;
  return what === undefined ? "" : JSON.stringify(what);
}
