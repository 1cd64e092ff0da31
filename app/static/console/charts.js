// Rates over the last minutes: a tile each, drawn from the history this page has seen itself.

import { age, byId, el, setText } from "./dom.js";

const WINDOW_MS = 5 * 60_000;
const SHORTEST_WINDOW_MS = 30_000;
const LONGEST_STEP_MS = 5000; // a longer one is a time that nobody looked: a hole in the line
const WIDTH = 240;
const HEIGHT = 44;
const SVG = "http://www.w3.org/2000/svg";

const svg = (tag, attributes) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

/** One number as it was over the last minutes. `format(n)` writes it with its unit. */
export class Chart {
  #samples = []; // [ms, value]
  #format;
  #value = el("strong");
  #note = el("span", { class: "note" });
  #top = el("span", { class: "top", "aria-hidden": "true" });
  #line = svg("path", { class: "line" });
  #area = svg("path", { class: "area" });
  #hair = svg("line", { class: "hair", y1: 0, y2: HEIGHT });
  #pointed = null; // ms ago that the pointer is at
  #lastNote = "";
  element;

  constructor(label, format, { help }) {
    this.#format = format;
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    picture.append(this.#area, this.#line, this.#hair);
    this.element = el(
      "section",
      { class: "tile", title: help, "aria-label": label },
      el("h2", {}, label),
      el("p", {}, this.#value, this.#note),
      el("div", { class: "plot" }, this.#top),
    );
    this.element.lastChild.append(picture);
    setText(this.#value, "–");
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      this.#pointed = (1 - (event.clientX - box.left) / box.width) * this.#windowMs(performance.now());
      this.#draw(performance.now());
    });
    picture.addEventListener("pointerleave", () => {
      this.#pointed = null;
      this.#draw(performance.now());
    });
  }

  /** `level` is "", "warn" or "bad": how the number is to be taken. */
  add(value, note = "", level = "") {
    const nowMs = performance.now();
    this.#samples.push([nowMs, value]);
    while (this.#samples[0][0] < nowMs - WINDOW_MS) this.#samples.shift();
    this.element.dataset.level = level;
    this.#lastNote = note;
    this.#draw(nowMs);
  }

  // It grows with what is known, until it slides.
  #windowMs(nowMs) {
    return Math.min(WINDOW_MS, Math.max(SHORTEST_WINDOW_MS, nowMs - this.#samples[0][0]));
  }

  #draw(nowMs) {
    const samples = this.#samples;
    if (!samples.length) return;
    const top = Math.max(1e-9, ...samples.map(([, value]) => value)) * 1.08;
    const windowMs = this.#windowMs(nowMs);
    const x = (ms) => ((1 - (nowMs - ms) / windowMs) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1);
    let line = "";
    let area = "";
    let from = null;
    samples.forEach(([ms, value], i) => {
      const broken = i === 0 || ms - samples[i - 1][0] > LONGEST_STEP_MS;
      if (broken) {
        if (from !== null) area += `L${x(samples[i - 1][0])} ${HEIGHT}Z`;
        from = ms;
        area += `M${x(ms)} ${HEIGHT}L${x(ms)} ${y(value)}`;
        line += `M${x(ms)} ${y(value)}`;
      } else {
        area += `L${x(ms)} ${y(value)}`;
        line += `L${x(ms)} ${y(value)}`;
      }
    });
    area += `L${x(samples.at(-1)[0])} ${HEIGHT}Z`;
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
    const most = Math.max(...samples.map(([, value]) => value));
    setText(this.#top, most > 0 ? this.#format(most) : "");
    this.#tell(nowMs, x);
  }

  #tell(nowMs, x) {
    let [ms, value] = this.#samples.at(-1);
    let note = this.#lastNote;
    if (this.#pointed !== null) {
      const wanted = nowMs - this.#pointed;
      [ms, value] = this.#samples.reduce((a, b) => (Math.abs(b[0] - wanted) < Math.abs(a[0] - wanted) ? b : a));
      note = `${age((nowMs - ms) / 1000)} ago`;
      this.#hair.setAttribute("x1", x(ms));
      this.#hair.setAttribute("x2", x(ms));
    }
    this.#hair.classList.toggle("shown", this.#pointed !== null);
    setText(this.#value, this.#format(value));
    setText(this.#note, note);
  }
}

/** Turns counters that grow into rates. A counter that went back belongs to a new server. */
export class Rates {
  #before = null;

  /** `counters`: an object of numbers. Its rates a second since the last call, or null. */
  of(counters) {
    const nowMs = performance.now();
    const before = this.#before;
    this.#before = { nowMs, counters };
    if (!before || nowMs - before.nowMs > LONGEST_STEP_MS) return null;
    const s = (nowMs - before.nowMs) / 1000;
    const rates = {};
    for (const [name, value] of Object.entries(counters)) {
      if (value < before.counters[name]) return null;
      rates[name] = (value - before.counters[name]) / s;
    }
    return rates;
  }
}

/** Put charts in their place. */
export function place(charts) {
  byId("charts").replaceChildren(...charts.map((chart) => chart.element));
}
