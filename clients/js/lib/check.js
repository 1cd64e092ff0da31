// What is handed to the client: names it knows, and values that JSON has.

const { isArray } = Array;

/** How many letters apart two words are; not to be relied on beyond `most`. */
const apart = (a, b, most) => {
  if (most < 0 || !a || !b) return a.length + b.length;
  const [x, y] = [a.slice(1), b.slice(1)];
  if (a[0] === b[0]) return apart(x, y, most);
  return (
    1 +
    Math.min(
      ...[
        [x, y],
        [a, y],
        [x, b],
      ].map((pair) => apart(...pair, most - 1)),
    )
  );
};

/** Refuse options that nobody reads: a slip in one would go unseen. */
export function refuseUnknown(unknown, known) {
  for (const name in unknown) {
    const meant = known.find((other) => apart(name, other, 2) < 3);
    throw new TypeError(`unknown option ${name}` + (meant ? `; did you mean ${meant}?` : ''));
  }
}

/** The JSON of a command. Throws a TypeError for what JSON would change without a word: `NaN` would be
 *  null, a `Map` an empty object, a `Date` a text. A member that is undefined is left out, as everywhere. */
export function toJson(command) {
  return JSON.stringify(command, function (key, value) {
    const given = this[key]; // `value` has been changed by `toJSON`
    const kind = {}.toString.call(given).slice(8, -1);
    const isFine =
      kind === 'Number'
        ? isFinite(given)
        : kind === 'Undefined'
          ? !isArray(this)
          : ['String', 'Object', 'Array', 'Boolean', 'Null'].includes(kind);
    if (isFine) return value;
    const shown = kind === 'Number' || kind === 'Undefined' ? given : `a ${kind}`;
    throw new TypeError(`${shown} at "${key}" is no JSON value` + (HELP[kind] ?? ''));
  });
}

const HELP = {
  Date: '; write date.toISOString() or date.getTime()',
  Map: '; write Object.fromEntries(map)',
  Set: '; write [...set]',
  BigInt: '; write String(n), or Number(n) below 2 ** 53',
  Undefined: '; write null, or delete the place',
};
