// Writes that are shown before the server has answered: guesses of what will be.

import { GONE, places } from './places.js';

const KEY = /\.?\[(?:(\d+)|(\*)|("(?:[^"\\]|\\.)*"))\]|\.([^.[\]"]+)/g;

/** The keys of a path, or of a filter of names, indexes and wildcards. A wildcard is the type of what it
 *  stands for; `null`, which is no key, all that is not understood here. */
function keysOf(text) {
  if (text === '.') return [];
  if (!text || text.replace(KEY, '')) return [null];
  return [...text.matchAll(KEY)].map(([, index, each, quoted, name]) =>
    index ? +index : each ? Number : quoted ? JSON.parse(quoted) : name === '*' ? String : name,
  );
}

const NEVER = ':'; // the position of what was not done

/** The canonical path. */
const format = (keys) =>
  keys
    .map((key) => (/^\w+$/.test(key) && key.at ? '.' + key : `[${JSON.stringify(key)}]`))
    .join('') || '.';

/** What a filter selects of a place and below it: paths and values. */
function selected(wanted, keys, value) {
  if (
    keys.length > wanted.length ||
    keys.some((key, depth) => ![key, key.constructor].includes(wanted[depth]))
  )
    return [];
  if (keys.length === wanted.length) return [[format(keys), value]];
  const names = Array.isArray(value)
    ? value.keys()
    : value === Object(value)
      ? Object.keys(value)
      : [];
  return [...names].flatMap((name) => selected(wanted, [...keys, name], value[name]));
}

export const isSame = (one, other) =>
  one.size === other.size && [...one].every(([path, value]) => other.get(path) === value);

/** The guesses of a connection with these feeds. */
export function guessesOf(feeds) {
  let guesses = [];

  /** A guess holds for a feed until the server has answered and what it did has arrived there. */
  function holds({ id }, { position }) {
    if (!id) return true;
    if (position === null) return id !== NEVER; // a snapshot is on its way
    const [[epoch, count], [its, reached]] = [id, position].map((text) => text.split(':'));
    return its === epoch && +reached < +count;
  }

  function settle() {
    if (!guesses.length) return;
    feeds.forEach((feed) => feed.refresh());
    guesses = guesses.filter((guess) =>
      [...feeds.values()].some((feed) => !feed.error && holds(guess, feed)),
    );
  }

  return {
    settle,

    /** Places of a feed as they are shown. */
    over(feed, items) {
      const made = places(items);
      for (const guess of guesses)
        if (holds(guess, feed)) {
          const { keys, value } = guess;
          made.change(format(keys), value, true);
          for (const place of selected(keysOf(feed.filter), keys, value)) made.change(...place);
        }
      return isSame(made.items(), items) ? items : made.items();
    },

    /** What a write will do. Throws a TypeError if that cannot be told. */
    make(type, path, value) {
      const keys = keysOf(path);
      if (keys.some((key) => !/^[sn]/.test(typeof key)) || !/^(set|delete)$/.test(type))
        throw new TypeError('optimistic are only set and delete, with a path such as .a[0].b');
      return { keys, value: type === 'set' ? value : GONE };
    },

    /** Show it until `answer` says how it was. */
    async add(guess, answer) {
      guesses.push(guess);
      settle();
      try {
        return (guess.id = await answer);
      } catch (error) {
        guess.id = NEVER;
        throw error;
      } finally {
        settle();
      }
    },
  };
}
