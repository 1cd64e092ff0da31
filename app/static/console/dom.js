// Elements and texts. Everything is put in as text: no value can become markup.

/** Make an element: `properties` are its attributes (`class`, `aria-…`) and `on…` listeners. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set a text only where it differs: an equal one would still cost a layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make the items of a list; one whose key is there already is kept. `make` gives key and parts. */
export function fillList(list, items, make) {
  const known = new Map([...list.children].map((node) => [node.key, node]));
  const nodes = items.map((item) => {
    const [key, ...parts] = make(item);
    const node = known.get(key) ?? el("li", {}, ...parts);
    node.key = key;
    return node;
  });
  const same = nodes.length === list.childElementCount && nodes.every((node, i) => node === list.children[i]);
  if (!same) list.replaceChildren(...nodes);
}

/** Run `work` once in the next frame, however often it is asked for. */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame((now) => {
      asked = false;
      work(now);
    });
  };
}

/** A thin space between groups of three digits: 12 345. */
export function count(n) {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A rate or any number that may be small: 0, 0.3, 12, 12 345. */
export function short(n) {
  if (n === 0) return "0";
  if (Math.abs(n) < 9.95) return n.toFixed(1).replace(/\.0$/, "");
  return count(n);
}

/** Bytes in the unit that suits: 812 B, 4.2 KiB, 17 MiB. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return (unit === 0 || n >= 99.5 ? Math.round(n).toString() : n.toFixed(1)) + "\u00a0" + units[unit];
}

/** Seconds as people say them: 0.4 s, 12 s, 3 min, 5 h, 2 d. */
export function age(s) {
  if (s < 10) return s.toFixed(1).replace(/\.0$/, "") + "\u00a0s";
  if (s < 90) return Math.round(s) + "\u00a0s";
  if (s < 5400) return Math.round(s / 60) + "\u00a0min";
  if (s < 129600) return Math.round(s / 3600) + "\u00a0h";
  return Math.round(s / 86400) + "\u00a0d";
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** The time of day of Unix milliseconds. */
export const clock = (ms) => CLOCK.format(ms);

/** "1 client", "2 clients". */
export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
