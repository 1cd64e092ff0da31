// What a filter selects, assembled from the events: a map from path to value (docs/wire.md).

import { isContainer } from "./json.js";

const STEP = /\.([^.[\]"]+)|\[("(?:[^"\\]|\\.)*")\]|\[(\d+)\]/gy;

/** The parts of a canonical path: names as strings, indexes as numbers. */
export function segments(path) {
  const found = [];
  STEP.lastIndex = 0;
  for (let m; (m = STEP.exec(path)); ) {
    found.push(m[1] !== undefined ? m[1] : m[2] !== undefined ? JSON.parse(m[2]) : Number(m[3]));
  }
  return found;
}

/** The canonical path of a child. */
export function join(parent, key) {
  const base = parent === "." ? "" : parent;
  if (typeof key === "number") return `${base}[${key}]`;
  return /^[A-Za-z0-9_]+$/.test(key) ? `${base}.${key}` : `${base}[${JSON.stringify(key)}]`;
}

function put(holder, key, value) {
  // Assigned, "__proto__" would change what the object is.
  if (key === "__proto__") {
    Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    holder[key] = value;
  }
}

/**
 * The view of one filter. `entries` maps each selected path to `{path, value}`.
 * `apply` says what an event did: "value" when only a scalar took another scalar's place, "shape"
 * when anything else changed, null when nothing did.
 */
export class View {
  entries = new Map();
  #fresh = true; // the next snapshot frame is the first of its snapshot

  clear() {
    this.entries.clear();
    this.#fresh = true;
  }

  apply(type, body) {
    if (type === "connected") this.#fresh = true;
    else if (type === "snapshot") return this.#snapshot(body);
    else if (type === "update") return this.#update(body.path, body.value);
    else if (type === "delete") return this.#delete(body.path);
    return null;
  }

  #snapshot({ items, more }) {
    if (this.#fresh) this.entries.clear();
    this.#fresh = !more;
    for (const { path, value } of items) this.entries.set(path, { path, value });
    return "shape";
  }

  #update(path, value) {
    const known = this.entries.get(path);
    if (known) {
      const before = known.value;
      known.value = value;
      return isContainer(before) || isContainer(value) ? "shape" : "value";
    }
    const inside = this.#holderOf(path);
    if (inside) {
      const { holder, key } = inside;
      const had = Object.hasOwn(holder, key);
      const before = had ? holder[key] : undefined;
      put(holder, key, value);
      return !had || isContainer(before) || isContainer(value) ? "shape" : "value";
    }
    this.#forgetBelow(path);
    this.entries.set(path, { path, value });
    return "shape";
  }

  #delete(path) {
    if (this.entries.delete(path)) return "shape";
    const inside = this.#holderOf(path);
    if (inside) {
      const { holder, key } = inside;
      if (Array.isArray(holder)) holder.splice(key, 1);
      else delete holder[key];
    } else {
      this.#forgetBelow(path);
    }
    return "shape";
  }

  /** The container that holds `path`, inside the nearest selected value above it. */
  #holderOf(path) {
    const parts = segments(path);
    // From the root on: "." and each longer beginning.
    let above = ".";
    let entry = null;
    let depth = 0;
    for (let i = 0; i < parts.length; i += 1) {
      const found = this.entries.get(above);
      if (found) [entry, depth] = [found, i];
      above = join(above, parts[i]);
    }
    if (!entry) return null;
    let holder = entry.value;
    for (const part of parts.slice(depth, -1)) holder = holder[part];
    return { holder, key: parts.at(-1) };
  }

  #forgetBelow(path) {
    const parts = segments(path);
    for (const known of this.entries.keys()) {
      const longer = segments(known);
      if (longer.length > parts.length && parts.every((part, i) => part === longer[i])) {
        this.entries.delete(known);
      }
    }
  }
}
