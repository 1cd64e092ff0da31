// The Triodes that share the log: a row each, and what to do.

import { age, byId, count, el, fillList, setText, short } from "./dom.js";

const SILENT_S = 4;
const LATE = { s: 2, ops: 10_000 };

/** Show the member `cluster` of `/stats`, or none. What the tab is to look like: `bad`, `warn` or as always. */
export function showCluster(cluster) {
  byId("cluster").hidden = cluster === undefined;
  if (!cluster) return "";
  const rows = byId("cluster-nodes");
  const known = new Map([...rows.children].map((row) => [row.key, row]));
  const nodes = cluster.nodes.map((node) => known.get(node.node) ?? row(node.node));
  if (nodes.length !== rows.childElementCount || nodes.some((node, i) => node !== rows.children[i]))
    rows.replaceChildren(...nodes);
  cluster.nodes.forEach((node, i) => fill(nodes[i], node, cluster));
  const advice = cluster.advice.length ? cluster.advice : ["All is well."];
  fillList(byId("cluster-advice"), advice, (line) => [line, line]);
  byId("cluster-advice").classList.toggle("todo", cluster.advice.length > 0);
  if (!cluster.live || Object.keys(cluster.differ).length) return "bad";
  return cluster.advice.length ? "warn" : "";
}

const CELLS = ["where", "clients", "behind", "trip", "rewinds", "lost"];

function row(key) {
  const node = el("tr", { class: "node" }, ...CELLS.map((name) => el("td", { "data-name": name })));
  for (const name of CELLS.slice(1)) node.querySelector(`[data-name="${name}"]`).classList.add("number");
  node.key = key;
  return node;
}

function fill(line, node, cluster) {
  const set = (name, text) => setText(line.querySelector(`[data-name="${name}"]`), text);
  const silent = cluster.live && node.silent_s > SILENT_S;
  const late = node.lag_s > LATE.s || node.lag_ops > LATE.ops;
  line.dataset.state = cluster.differ[node.node] ? "differs" : silent || late ? "late" : node.draining ? "draining" : "well";
  line.title = `${node.node}, version ${node.version}, at ${node.position}${node.own ? ", which this page asks" : ""}`;
  line.classList.toggle("own", node.own);
  set("where", node.where);
  set("clients", count(node.clients));
  set("behind", silent ? `silent ${age(node.silent_s)}` : behind(node, late));
  set("trip", `${short(node.rtt_s * 1000)}\u00a0ms`);
  set("rewinds", count(node.rewinds + node.reloads));
  set("lost", count(node.lost));
}

function behind(node, late) {
  if (node.draining) return "draining";
  if (node.lag_s && !node.lag_ops) return `not known, ${age(node.lag_s)}`;
  if (!node.lag_ops) return "no";
  return late ? `${count(node.lag_ops)}, ${age(node.lag_s)}` : count(node.lag_ops);
}
