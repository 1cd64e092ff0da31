// Changing the document in the tree: a value in its place, a new member, the removal of one.
//
// What is typed goes to the server as it is, when it is JSON or looks as if it were meant to be;
// any other text is sent as a string. The server judges, and its words are shown where one typed.

import { store } from "./api.js";
import { el } from "./dom.js";
import { isContainer, isRounded } from "./json.js";
import { notice } from "./notice.js";
import { join } from "./view.js";

const LONGEST_LINE = 20_000;

export class Editor {
  #tree;
  #open = null; // {element, form, said, before}

  constructor(tree) {
    this.#tree = tree;
  }

  isIn(element) {
    return this.#open?.element === element;
  }

  /** Called with each paint of a row: while one edits, the value may change under it. */
  follow(element, shown) {
    if (!this.isIn(element) || this.#open.before === undefined || this.#open.before === shown) return;
    this.#open.before = shown;
    this.#say(`It has changed. Now it is ${shown.slice(0, 60)}`, "note");
  }

  edit(row, element) {
    if (!element || this.isIn(element)) return;
    if (isRounded(row.value)) {
      notice(`${row.path} has a number with more digits than a browser keeps. Change it with another client.`);
      return;
    }
    const text = isContainer(row.value) ? JSON.stringify(row.value) : readable(row.value);
    if (text.length > LONGEST_LINE) {
      notice(`${row.path} is too long for one line. Change its parts.`);
      return;
    }
    const input = el("input", { class: "mono", "aria-label": `Value of ${row.path}`, spellcheck: "false", autocomplete: "off" });
    input.value = text;
    this.#show(row, element, [input], () => store.set(row.path, asJson(input.value, row.value)));
    this.#open.before = element.shown;
    input.select();
  }

  add(row, element) {
    if (!element || !isContainer(row.value)) return;
    const list = Array.isArray(row.value);
    const name = list ? null : el("input", { class: "mono name", "aria-label": "Name", placeholder: "name", spellcheck: "false", autocomplete: "off", required: true });
    const value = el("input", { class: "mono", "aria-label": "Value", placeholder: list ? "value of the new element" : "value", spellcheck: "false", autocomplete: "off", required: true });
    const path = () => join(row.path, list ? row.value.length : name.value);
    this.#show(row, element, [name, value], () => store.set(path(), asJson(value.value)));
  }

  async remove(row) {
    const { path, parentPath, key, value } = row;
    if (parentPath === null) {
      notice(path === "." ? "The root cannot be removed; change it instead." : "Show its parent first, then remove it there.");
      return;
    }
    try {
      await store.remove(path);
      const undo = () => store.insert(parentPath, key, value).catch((problem) => notice(problem.message, { bad: true }));
      notice(`Removed ${path}`, isRounded(value) ? {} : { action: "Undo", onaction: undo });
    } catch (problem) {
      notice(`${path}: ${problem.message}`, { bad: true });
    }
  }

  #show(row, element, inputs, save) {
    this.#close();
    const said = el("span", { class: "said", role: "status" });
    const form = el(
      "form",
      { class: "editor" },
      ...inputs,
      el("button", { class: "primary" }, "Save"),
      el("button", { type: "button", onclick: () => this.#close(true) }, "Cancel"),
      said,
    );
    this.#open = { element, form, said, before: undefined };
    element.classList.add("editing");
    element.append(form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        this.#say("");
        await save();
        this.#close(true);
      } catch (problem) {
        this.#say(problem.message, "bad");
      }
    });
    form.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.#close(true);
    });
    inputs.find(Boolean).focus({ preventScroll: true });
  }

  #say(text, kind = "") {
    if (!this.#open) return;
    this.#open.said.textContent = text;
    this.#open.said.className = `said ${kind}`;
  }

  #close(back = false) {
    if (!this.#open) return;
    const { element, form } = this.#open;
    this.#open = null;
    form.remove();
    element.classList.remove("editing");
    this.#tree.repaint();
    if (back) this.#tree.focus();
  }
}

// A string is edited without its quotes, unless it could then be taken for something else.
function readable(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return value === asText(value) ? value : JSON.stringify(value);
}

const asText = (text) => (meansJson(text) ? null : text);

function meansJson(text) {
  if (/^\s*["[{]/.test(text)) return true;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return text.trim() === "";
  }
}

const asJson = (text) => (meansJson(text) ? text : JSON.stringify(text));
