// Short words at the edge of the page, read out by screen readers.

import { byId, el } from "./dom.js";

const STAYS_MS = 7000;

export function notice(text, { bad = false, action, onaction } = {}) {
  const box = el("div", { class: bad ? "notice bad" : "notice" }, el("span", {}, text));
  const gone = () => box.remove();
  if (action) {
    box.append(el("button", { type: "button", onclick: () => { gone(); onaction(); } }, action));
  }
  byId("notices").append(box);
  setTimeout(gone, STAYS_MS);
}
