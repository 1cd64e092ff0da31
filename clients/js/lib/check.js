// What is handed to the client: names it knows, and values that JSON has.

/** Refuse options that nobody reads: a slip in one would go unseen. By its first two letters each of ours
 *  is told from the others. */
export function refuseUnknown(unknown, known) {
  for (const name in unknown) {
    const begun = name.slice(0, 2).toLowerCase();
    const meant = known.find((other) => other.toLowerCase().startsWith(begun));
    throw new TypeError(`unknown option ${name}` + (meant ? `; did you mean ${meant}?` : ''));
  }
}

/** The JSON of a command. Throws a TypeError for what JSON would change without a word: `NaN` would be
 *  null, a `Map` an empty object, a `Date` a text. A member that is undefined is left out, as everywhere. */
export const toJson = (command) =>
  JSON.stringify(command, function (key, value) {
    const given = this[key]; // `value` has been changed by `toJSON`
    const kind = {}.toString.call(given).slice(8, -1);
    if (
      /^(String|Object|Array|Boolean|Null)$/.test(kind) ||
      Number.isFinite(given) ||
      (given === undefined &&
        !Array.isArray(this) &&
        !(this === command && /^(value|patch)$/.test(key)))
    )
      return value;
    throw new TypeError(
      `${/^(Nu|Un)/.test(kind) ? given : 'a ' + kind} at "${key}" is no JSON value; ` +
        'write null, a text (date.toISOString()) or an object (Object.fromEntries(map))',
    );
  });
