// A feed: one filter that the server is asked for. A view: what `watch` gives; several may look at
// one feed.

import { ANY, emitter } from './emitter.js';
import { abortable, TriodeError } from './error.js';
import { isSame } from './guess.js';
import { GONE, places, shape } from './places.js';

/** One filter that the server is asked for. */
export function feedOf(filter, policy, guesses) {
  let held = places();
  let items = held.items(); // as held
  let shown = items; // with what is guessed
  let draft;

  const feed = {
    filter,
    policy,
    views: new Set(),
    tick: 0, // counts changes; 0 until the first snapshot
    position: null, // null: only a snapshot helps; '': known, but not of when
    live: false, // the link carries it
    stale: true,
    error: null,
    items() {
      if (items !== held.items()) {
        items = held.items();
        shown = feed.tick ? guesses.over(feed, items) : items;
      }
      return shown;
    },

    /** What is guessed has changed. */
    refresh() {
      if (!feed.tick) return;
      const before = feed.items();
      shown = guesses.over(feed, items);
      if (!isSame(before, shown)) changed({ type: 'snapshot', filter });
    },

    tell(name, value) {
      for (const view of [...feed.views]) view.emit(name, value, view);
    },

    /** The link carries it from now on; `resumed`: what was missed follows, otherwise a snapshot. */
    begin(resumed) {
      feed.live = true;
      feed.error = null;
      if (!resumed) feed.position = null;
    },

    pause() {
      feed.live = false;
      draft = null;
      setStale(true);
    },

    fail(error) {
      feed.pause();
      feed.error = error;
      feed.tell('error', error);
    },

    /** All up to a position has arrived, by default: all that was missed. */
    arrived(position) {
      if (!feed.live || feed.position === null) return;
      if (position) feed.position = position;
      else setStale(false);
    },

    take(frame) {
      const { type, path, value, items, more, id } = frame;
      if (type === 'gap') {
        feed.position = null;
        setStale(true);
        feed.tell(type, frame);
      } else if (type === 'snapshot') {
        draft ??= places();
        for (const item of items) draft.add(item.path, item.value);
        if (more) return;
        held = draft;
        draft = null;
        feed.position = id ?? '';
        changed({ type, filter, id });
        setStale(false);
      } else {
        held.change(path, type === 'delete' ? GONE : value);
        if (feed.tick) changed(frame);
      }
    },
  };

  function setStale(stale) {
    if (feed.stale === stale) return;
    feed.stale = stale;
    feed.tell('stale', stale);
  }

  function changed(change) {
    feed.tick++;
    feed.tell('change', change);
  }

  return feed;
}

/** What a filter selects, always as it is now. */
export function viewOf(feed, release) {
  const view = {
    __proto__: emitter(),
    filter: feed.filter,
    closed: false,

    /** What is there: for the filter of one place its value, `undefined` if there is none; for any other
     *  the `items`. */
    get value() {
      return shape(feed.filter, feed.items());
    },

    /** The selected places: a Map from path to value that never changes. */
    get items() {
      return feed.items();
    },

    /** Whether it may be out of date: before the first value, while reconnecting, in a gap. */
    get stale() {
      return view.closed || feed.stale;
    },

    get error() {
      return feed.error;
    },

    get position() {
      return feed.position;
    },

    /** Wait for the first value; rejects when the filter is refused. */
    ready: ({ signal } = {}) => abortable(first(), signal),

    /** Call `listener(value)` now, if there is a value, and after each change. Returns what ends that. */
    subscribe(listener) {
      const call = () => listener(view.value);
      if (feed.tick) call();
      view.on('change', call);
      return () => void view.off('change', call);
    },

    /** The value now and after changes; who is slow gets the newest only. */
    async *[Symbol.asyncIterator]() {
      for (let seen = 0; !view.closed;) {
        if (feed.error) throw feed.error;
        if (seen === feed.tick) await new Promise((done) => view.once(ANY, done));
        else {
          seen = feed.tick;
          yield view.value;
        }
      }
    },

    close() {
      if (view.closed) return;
      view.closed = true;
      release(feed, view);
      view.emit('close');
    },
  };
  async function first() {
    for await (const _ of view) return view;
    throw new TriodeError('closed');
  }

  feed.views.add(view);
  return view;
}
