// JSON whose integers stay what they are. A JavaScript number keeps 2^53; of what has more digits the
// text is kept, where the browser can (JSON.rawJSON; Chromium 114, Firefox 135, Safari 18.4).

const KEEPS_TEXT = typeof JSON.rawJSON === "function";
const MAY_BE_LONG = /(?:^|[^\d.])\d{16}/; // to look at each number takes time: only where it may matter

const keep = (_key, value, { source }) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) ? JSON.rawJSON(source) : value;

/** Parse; `JSON.stringify` gives back the same digits. */
export const parse = (text) => (KEEPS_TEXT && MAY_BE_LONG.test(text) ? JSON.parse(text, keep) : JSON.parse(text));

const isText = (value) => KEEPS_TEXT && JSON.isRawJSON(value);

export const isContainer = (value) => typeof value === "object" && value !== null && !isText(value);

/** `container`, `string`, `number`, `boolean` or `null`. */
export function kindOf(value) {
  if (isContainer(value)) return "container";
  if (value === null) return "null";
  return isText(value) ? "number" : typeof value;
}

/** What is looked through in a search: a string without its quotes. */
export const plain = (value) => (typeof value === "string" ? value : String(JSON.stringify(value)));

/** Whether it holds an integer of which the browser has not kept all digits: it must not be written back. */
export function isRounded(value) {
  const todo = KEEPS_TEXT ? [] : [value];
  while (todo.length) {
    const one = todo.pop();
    if (Number.isInteger(one) && !Number.isSafeInteger(one)) return true;
    if (isContainer(one)) for (const inner of Object.values(one)) todo.push(inner);
  }
  return false;
}
