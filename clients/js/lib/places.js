// Paths, and the values of the places that a filter selects.

const STEP = /\.(\w+)|\[(?:(\d+)|("(?:[^"\\]|\\.)*"))\]/g;
const ONE_PLACE = /^(\.?|\/.*|(\.(?!\*([.[]|$))[^.[\]"]+|\.?\[(-?\d+|"([^"\\]|\\.)*")\])+)$/s;
export const GONE = Symbol();
const { isArray } = Array;
const { hasOwn } = Object;

/** Whether a filter can select one place only: its value is then what is there. */
export const isPath = (filter) => ONE_PLACE.test(filter);

/** The keys of a canonical path, `.users[0]["any key"]`; where each begins, and the last ends. */
function parse(path) {
  const keys = [];
  const ends = [0];
  for (const [text, name, index, quoted] of path.matchAll(STEP)) {
    keys.push(name ?? (index ? +index : JSON.parse(quoted)));
    ends.push(ends.at(-1) + text.length);
  }
  return [keys, ends];
}

const isInside = (path, outer) =>
  outer === '.' ? path !== '.' : path.startsWith(outer) && '.['.includes(path[outer.length]);

/** Whether a value is of the kind that a key is for: an array for an index, an object for a name. */
const fits = (holder, key) =>
  isArray(holder) ? typeof key === 'number' : Object(holder) === holder && typeof key === 'string';

const look = (value, keys) =>
  keys.reduce(
    (holder, key) => (fits(holder, key) && hasOwn(holder, key) ? holder[key] : GONE),
    value,
  );

/** Selected places: canonical path → value, as the events of one filter make them. */
export function places(from) {
  const values = new Map(from);
  let deepest = from ? Infinity : 0; // keys of the longest path, or more
  let own = new WeakSet(); // made since the last look: may be changed in place
  let shown;

  /** `node` with the place at `keys` changed; as it is, if it has no such place: who was cut off in
   *  the middle of a change gets all of it again, also what was done already. */
  function edit(node, keys, depth, value) {
    const key = keys[depth];
    const isLast = depth === keys.length - 1;
    const isNew = isLast && value !== GONE && !(isArray(node) && key > node.length);
    if (!fits(node, key) || !(isNew || hasOwn(node, key))) return node;
    const now = isLast ? value : edit(node[key], keys, depth + 1, value);
    if (now === node[key]) return node;
    // Assigning to a `__proto__` that is not there yet would not make it.
    if (!own.has(node) || key === '__proto__')
      own.add((node = isArray(node) ? [...node] : { ...node, [key]: now }));
    if (now !== GONE) node[key] = now;
    else if (isArray(node)) node.splice(key, 1);
    else delete node[key];
    return node;
  }

  function put(path, value, depth) {
    deepest = Math.max(deepest, depth);
    if (value === GONE) values.delete(path);
    else values.set(path, value);
  }

  return {
    /** A Map that never changes; another one after a change. */
    items() {
      if (!shown) {
        shown = new Map(values);
        own = new WeakSet();
      }
      return shown;
    },

    /** A place of a snapshot. */
    add(path, value) {
      put(path, value, parse(path)[0].length);
    },

    /** `path` has this value now, or none if it is `GONE`. `known`: if it is in what is selected already. */
    change(path, value, known) {
      const [keys, ends] = parse(path);
      const { length } = keys;
      let inside = false;
      shown = null;
      for (let depth = 0; depth < length; depth++) {
        const outer = path.slice(0, ends[depth]) || '.';
        if (values.has(outer)) {
          inside = true;
          values.set(outer, edit(values.get(outer), keys, depth, value));
        }
      }
      if (length < deepest)
        for (const known of [...values.keys()])
          if (isInside(known, path)) put(known, look(value, parse(known)[0].slice(length)), 0);
      if (values.has(path) || !(inside || known)) put(path, value, length);
    },
  };
}

/** What a view shows of the places of a filter. */
export const shape = (filter, items) => (isPath(filter) ? items.values().next().value : items);
