/*! Triode's JavaScript client: live views of a JSON document on a server. MIT licence. */

/* How it works

    triode()   the connection: one link at a time, the queue of commands
      ├ feed   one filter that the server is asked for, and its places, assembled
      │   └ view   what watch() gives; several may look at one feed
      └ room

Writes that are shown at once are guesses, laid over what a feed has until the server has answered.

A link is a WebSocket or, where none can be opened, an event stream over `fetch`, with commands sent
by HTTP. It begins in `open` and ends once, in `lost`; what comes from an older one is ignored. Beside
such a stream a WebSocket is tried now and then, and takes its place in `socket`.

A feed is exact. A snapshot fills it, updates and deletes change it; a frame with a position says that
all up to there has arrived for every feed that the link carries. After a cut, what was missed since
that position is asked for, and comes, or a snapshot does.

What was handed out never changes: a change makes new objects on the way to the changed place, shares
all others, and copies nothing twice between two looks at the value.

Commands wait in one queue, in order, and are sent together, at most once in `batchMs`. One that was
sent and had no answer when its link was lost may have been done or not: it is in doubt. A write has a
key by which the server knows it again, so it is sent again and done once; but not after some minutes
or with another token, as the server might not know it then. It is rejected as `unknown`, as a message
is. Reads are sent again.

The whole is closures rather than classes for its size: minified and compressed, it has to stay below
8 KB. `npm run build` joins the files to the one that a server has at `/client.js`. */

import { addressOf, base64url, OWN } from './lib/address.js';
import { refuseUnknown, toJson } from './lib/check.js';
import { ANY, emitter } from './lib/emitter.js';
import { abortable, problem, TriodeError } from './lib/error.js';
import { feedOf, viewOf } from './lib/feed.js';
import { guessesOf } from './lib/guess.js';
import { readEvents, refusal } from './lib/http.js';
import { shape } from './lib/places.js';
import { roomOf } from './lib/room.js';

export { TriodeError };

// The server knows a key for ten minutes, by its own clock.
const AGAIN_MS = 300_000;
const WRITES = ['set', 'merge', 'patch', 'delete', 'increment', 'append', 'push'];
// Reasons of an event stream's end for which a WebSocket has the codes 4401, 4403 and 4429: as it is,
// it would end the same way again.
const FINAL = { token_ended: 401, not_allowed: 403, rate: 429 };
const OPS_AT_ONCE = 500;
const CHARS_AT_ONCE = 2 ** 18;
const MESSAGE_CHARS = 1_000_000; // the server ends a connection over messages beyond 1 MiB
// Messages at once, and the time for one more: below the 200 at once and 100 a second of the server.
const BURST = 150;
const REFILL_MS = 11;
// When a WebSocket is tried beside a stream; after each failure twice that, six times.
const UPGRADE_MS = 60_000;
const LOOKS = 3; // in a heartbeat
const BEARER = 'base64url.bearer.authorization.triode.'; // a subprotocol that is a token
const OUTCOME = 'outcome unknown';
const ANSWER_MS = 5000; // for a link that may be dead

const OPTIONS =
  'attempts autoConnect batchMs delayMs fetch jitter maxDelayMs queueLimit tags timeoutMs token WebSocket';

/** Connect to a server: `triode('https://example.org')`. Without an address: to the server that this file
 *  was loaded from, in a bundle to that of the page. */
export function triode(url = OWN, options = {}) {
  const {
    attempts = Infinity, // failed ones in a row, after which it gives up
    autoConnect = true,
    batchMs = 16,
    delayMs = 1000, // before the first new attempt; doubles with each
    fetch = globalThis.fetch,
    jitter = true,
    maxDelayMs = 30_000,
    queueLimit = 1000, // commands that wait while offline; beyond it the oldest is rejected
    tags,
    timeoutMs = 20_000, // for a link to open, or an answer over HTTP to come
    token: tokenGiven, // text, or a function that gives or promises one
    WebSocket = globalThis.WebSocket, // null: event streams only
    ...unknown
  } = options;
  refuseUnknown(unknown, OPTIONS.split(' '));
  const { base, isHomeless, page } = addressOf(url);
  const asksToken = typeof tokenGiven === 'function';

  const feeds = new Map();
  const guesses = guessesOf(feeds);
  const rooms = new Map();
  let state = 'idle';
  let failure = isHomeless
    ? new TriodeError(`"${url}" is for pages, and here is none: write http://HOST:PORT`)
    : null;
  let token;
  let known = false; // a Triode has answered there
  let asked = false; // for a new token, since a link held for a while
  let attempt = 0;
  let refusals = 0; // WebSockets in a row that could not be opened where a stream could
  let retry; // timers
  let reopen;
  // Of the link:
  let link; // its identity, or null
  let opened;
  let client;
  let secret; // of the stream: with it the token is changed from outside
  let carried; // the feeds of a stream
  let answers = {}; // ref → entries of the queue
  let quiet; // looks since something was heard
  let heardAt;
  let lookedAt;
  let beatMs;
  let deadline;
  let beats;
  let upgrade;
  let rival; // a WebSocket that is being opened beside the stream
  let replace; // the stream by it, as soon as that can be
  let send;
  let isFull;
  let disconnect;
  // Of the queue:
  let waiting = [];
  let ordered = 0;
  let ref = 0;
  let budget;
  let burst;
  let flushedAt = 0;
  let nextFlush;
  let isPosting;
  let holder; // whose token the server takes commands for; NaN: not known
  const keys = crypto.getRandomValues(new Uint32Array(3)).join('.'); // what ours begin with

  // ── links ──────────────────────────────────────────────────────────────────────────────────

  function become(next) {
    if (state === next) return;
    state = next;
    t.emit('state', state);
  }

  /** What is wrong with the connection, and with which. */
  const fault = (detail, members, hint = '') =>
    new TriodeError(`${detail}: ${base.href}${hint}`, { url: base.href, ...members });

  /** How the server has ended a link. With a status it would end the same way again. */
  const ending = (reason, status = 0, delayMs) =>
    fault(`the server ended it (${reason})`, { reason, status, final: status > 0, delayMs });

  /** Why nothing was fetched. What Node knows is in the cause; a browser says nothing. */
  const unreachable = (cause) =>
    fault(
      cause.cause?.message || cause.message || cause,
      { cause },
      page && page.origin !== base.origin.replace(/^ws/, 'http')
        ? ` (if a server is there, it may need --cors-origins ${page.origin})`
        : '',
    );

  function limitTime(mine, ms = timeoutMs) {
    clearTimeout(deadline);
    deadline = setTimeout(() => lost(mine, fault('Connection timeout')), ms);
  }

  const spread = () => (jitter ? 0.5 + Math.random() / 2 : 1);

  const newToken = async () => (asksToken ? tokenGiven() : tokenGiven);

  async function open(asStream = !WebSocket || refusals > 1) {
    const mine = (link = {});
    clearTimeout(retry);
    opened = false;
    isPosting = false;
    isFull = () => isPosting;
    disconnect = send = null;
    become('connecting');
    limitTime(mine);
    try {
      token ??= await newToken();
      if (mine !== link) return;
      if (asStream) stream(mine);
      else socket(mine);
    } catch (error) {
      lost(mine, error);
    }
  }

  function planUpgrade() {
    clearTimeout(upgrade);
    const ms = UPGRADE_MS * 2 ** Math.min(refusals - 1, 6) * spread();
    upgrade = setTimeout(() => socket({}, true), ms);
  }

  /** Open a WebSocket: as the link, or beside a stream, to take its place once it is open. */
  function socket(mine, besides) {
    const shown = token;
    const address = new URL('ws', base);
    for (const name in tags) address.searchParams.set('tag.' + name, tags[name]);
    // A browser's WebSocket can't send header fields, and proxies log addresses.
    const ws = new WebSocket(
      address.href.replace(/^http/, 'ws'),
      token ? ['triode', BEARER + base64url(token)] : [],
    );
    const adopt = () => {
      link = mine;
      holder = shown;
      disconnect = () => ws.close();
      send = (text) => ws.send(text);
      isFull = () => ws.bufferedAmount > MESSAGE_CHARS;
    };
    const over = (error) => {
      if (rival !== ws) return lost(mine, error);
      rival = replace = null;
      refusals++;
      planUpgrade();
    };
    const tooLate = () => {
      ws.close();
      over();
    };
    if (besides) {
      rival = ws;
      upgrade = setTimeout(tooLate, timeoutMs);
    } else adopt();

    ws.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (rival !== ws) return take(mine, frame);
      replace = () => {
        if (token !== shown) return tooLate();
        rival = null;
        drop();
        adopt();
        take(mine, frame);
      };
      // What became of commands on their way would not be known.
      if (!isPosting) replace();
    };
    ws.onclose = ({ code, reason }) => {
      const delay = /"retry_ms": *(\d+)/.exec(reason);
      const status = code >= 4400 && code < 4500 ? code - 4000 : 0;
      over(ending(reason || code, status, delay && +delay[1]));
    };
    // Its end follows, but not in Node where it could not be opened.
    ws.onerror = () => (opened && mine === link) || over(fault('no WebSocket'));
  }

  /** Open a stream of all that is wanted now, in place of the one there is. */
  async function stream(mine) {
    disconnect?.();
    limitTime(mine);
    const abort = new AbortController();
    const { signal } = abort;
    const isOver = () => mine !== link || signal.aborted;
    disconnect = () => abort.abort();
    carried = [...feeds.values()].filter((feed) => !feed.error);
    carried.forEach((feed) => feed.pause());
    const filter = carried.map((feed) => feed.filter);
    const room = [...rooms.values()].flatMap(({ joined, name }) => (joined ? name : []));
    const since = carried.every(({ position }) => position) ? carried[0]?.position : null;
    const policy = carried.find((feed) => feed.policy)?.policy;
    try {
      // A stream of nothing would be one of the whole document; but let us see if we are let in.
      const isIdle = !(filter.length + room.length);
      const response = await request(
        isIdle ? 'store/batch' : 'events',
        JSON.stringify(isIdle ? [] : { filter, room, policy, since, tags }),
        signal,
      );
      if (isOver()) return;
      if (isIdle) return begun(mine, {});
      await readEvents(
        response.body,
        (frame) => take(mine, frame),
        () => mine === link && caughtUp(),
      );
      throw fault('the stream ended');
    } catch (error) {
      if (isOver()) return;
      const culprit =
        error.status &&
        (feeds.get(error.filter) ??
          rooms.get(error.room) ??
          (error.status === 400 && carried.find((feed) => feed.policy)));
      if (!culprit) return lost(mine, error);
      // One that is refused must not keep the others away.
      culprit.fail(error);
      if (!isOver()) stream(mine);
    }
  }

  async function request(path, body, signal = AbortSignal.timeout(timeoutMs)) {
    const response = await fetch(new URL(path, base).href.replace(/^ws/, 'http'), {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        ...(token && { Authorization: 'Bearer ' + token }),
      },
      body,
      signal,
    });
    if (!response.ok) {
      const error = await refusal(response);
      // A proxy whose server is away says all kinds of things.
      if (known && !response.headers.get('triode')) error.final = false;
      throw error;
    }
    return response;
  }

  /** The link is open, or a stream has been opened anew on it. */
  function begun(mine, connected) {
    clearTimeout(deadline);
    clearInterval(beats);
    const was = client ?? undefined;
    ({ client, secret } = connected);
    beatMs = connected.heartbeat_s * 1000;
    hear();
    lookedAt = heardAt;
    if (client) beats = setInterval(beat, beatMs / LOOKS, mine);
    known = true;
    if (!opened) {
      refusals = send || !WebSocket ? 0 : refusals + 1;
      if (refusals) planUpgrade();
    }
    opened = true;
    attempt = 0;
    budget = burst = BURST;
    flushedAt = performance.now();
    if (send) {
      feeds.forEach(subscribe);
      enterAgain(was);
      probe(); // its answer comes after all that was missed
    } else {
      carried.forEach((feed) => feed.begin(connected.resumed));
      rooms.forEach((room) => {
        room.position = null; // what comes by a stream has none
        room.settle();
      });
    }
    flush();
    become('open');
  }

  function hear() {
    quiet = 0;
    heardAt = Date.now();
  }

  /** Is the server still there? A browser does not show its pings. */
  function beat(mine) {
    asked = false;
    const sinceMs = Date.now() - lookedAt;
    lookedAt += sinceMs;
    // Timers stood still: the machine slept, or the page did.
    if (sinceMs > beatMs) check();
    else if (++quiet > 3 * LOOKS - 1) lost(mine, fault('no heartbeat'));
    else if (send && quiet === 2 * LOOKS) probe();
  }

  const probe = () => tell({ type: 'ping' }, caughtUp);

  /** The link may have died without a word: see soon whether it has. */
  function check(silenceMs = beatMs) {
    if (!opened) return;
    if (!send) {
      // Nothing can be asked on a stream. A new one goes on where it was.
      if (client && Date.now() - heardAt > silenceMs) stream(link);
      return;
    }
    // While much is on its way, or has to wait, no answer says nothing.
    if (!isFull() && budget >= 1) limitTime(link, ANSWER_MS);
    probe().then(() => clearTimeout(deadline));
  }

  const online = () => (state === 'waiting' ? open() : check(0));
  // A page that was hidden, or a machine that slept, may have lost its link long ago.
  const shown = () => {
    if (globalThis.document.hidden) return;
    if (state === 'waiting') open();
    else check();
  };

  /** Leave the link behind. */
  function drop() {
    link = null;
    opened = false;
    clearTimeout(deadline);
    clearTimeout(upgrade);
    clearInterval(beats);
    rival?.close();
    disconnect?.();
    rival = replace = disconnect = null;
    feeds.forEach((feed) => feed.pause());
    holder = token; // that of the next link
    const sent = Object.values(answers).flat();
    answers = {};
    for (const entry of sent) entry.inDoubt = entry.type !== 'get';
    restore(sent);
    waiting = waiting.filter(({ order }) => order); // ours were for this link
    giveUp('connection lost');
  }

  /** The one end of a link, whatever ended it; how to go on. */
  function lost(mine, error) {
    if (mine !== link) return;
    const wasOpen = opened;
    const wasSocket = !!send;
    drop();
    if (!(error instanceof TriodeError)) error = unreachable(error);
    error.url ??= base.href;
    const hasFailed = !wasOpen && !error.final;
    // Without a listener once is enough.
    if (hasFailed && !t.emit('error', error) && !attempt && !wasSocket)
      console.warn('Triode: ' + error.detail);
    if (link || failure) return; // a listener has connected or closed it
    if (error.status === 401 && asksToken && !asked) {
      asked = true;
      token = null;
      return open();
    }
    if (hasFailed) {
      if (wasSocket) return open(true);
      refusals = 0;
    }
    if (error.final || attempt >= attempts) return end(error);
    const backoff = Math.min(maxDelayMs, delayMs * 2 ** attempt++) * spread();
    const waitMs = error.delayMs ?? backoff;
    retry = setTimeout(() => open(), waitMs);
    become('waiting');
    t.emit('reconnecting', attempt, waitMs, error);
  }

  function end(error) {
    failure = error ?? new TriodeError('closed');
    clearTimeout(retry);
    globalThis.removeEventListener?.('online', online);
    globalThis.document?.removeEventListener('visibilitychange', shown);
    drop();
    rejectAll(waiting.splice(0), failure);
    rooms.forEach((room) => room.settle(null, failure));
    feeds.forEach((feed) =>
      error ? feed.fail(error) : feed.views.forEach((view) => view.close()),
    );
    become('closed');
    if (error && !t.emit('error', error)) console.warn(error);
  }

  /** What was refused may be asked for again. */
  const forgive = () => feeds.forEach((feed) => (feed.error = null));

  // ── what arrives ───────────────────────────────────────────────────────────────────────────

  function caughtUp() {
    hear();
    feeds.forEach((feed) => feed.arrived());
  }

  function take(mine, frame) {
    if (mine !== link) return;
    hear();
    const { type, id, filter, reason } = frame;
    if (answers[frame.ref]) answered(frame);
    else if (type === 'connected') begun(mine, frame);
    else if (type === 'closing') {
      lost(mine, ending(reason, FINAL[reason], frame.retry_ms));
    } else if (type === 'expiring') {
      t.emit(type, frame.in_s);
      // If that fails, there is another chance at its end.
      if (asksToken)
        newToken()
          .then((fresh) => mine === link && t.auth(fresh))
          .catch((error) => t.emit('error', error));
    } else if (filter !== undefined) {
      const feed = feeds.get(filter);
      if (id) feeds.forEach((each) => each.arrived(id));
      if (feed?.live) feed.take(frame);
      guesses.settle();
    } else {
      const room = rooms.get(frame.room);
      if (room && id && send) room.position = id;
      if (room?.joined) room.emit(type === 'message' ? frame.event : type, frame.data, frame);
      t.emit(type, frame);
    }
  }

  function answered(frame) {
    const entries = answers[frame.ref];
    const [first, second] = entries;
    delete answers[frame.ref];
    if (frame.status === 429) hold(entries, frame.retry_after * 1000);
    else if (frame.type === 'error') entries.forEach((entry) => refuse(entry, frame));
    else if (!second) first.resolve(first.result?.(frame));
    else
      entries.forEach((entry, index) => {
        const id = frame.positions[index];
        if (id) entry.resolve(frame.keys?.[index] ?? id);
        else
          refuse(
            entry,
            frame.errors.find((error) => error.index === index),
          );
      });
  }

  /** A command has been refused, or the server ends, or waits for its disk, and can't say. */
  function refuse(entry, members) {
    if (entry.key && members.title === 'Outcome unknown') {
      entry.inDoubt = true;
      hold([entry], members.retry_after * 1000);
    } else entry.reject(problem(members));
  }

  // ── what is asked for ──────────────────────────────────────────────────────────────────────

  /** What the link carries has changed. A stream is opened anew, once for all that changes together. */
  function recarry(change) {
    clearTimeout(reopen);
    reopen = setTimeout(() => disconnect && !send && stream(link), 0);
    if (opened && send) change();
  }

  function subscribe(feed) {
    const { filter, policy, position } = feed;
    const command = { type: 'subscribe', filter, policy, since: position || undefined };
    tell(command, ({ resumed }) => feed.begin(resumed)).catch(feed.fail);
  }

  function release(feed, view) {
    feed.views.delete(view);
    if (feed.views.size) return;
    feeds.delete(feed.filter);
    recarry(() => tell({ type: 'unsubscribe', filter: feed.filter }).catch(() => {}));
  }

  function enter(room) {
    const type = room.joined ? 'join' : 'leave';
    tell({ type, room: room.name }, ({ members, positions }) => {
      room.position = positions?.[room.name];
      room.settle(members);
    }).catch(room.fail);
  }

  /** Enter all rooms again, at once: what went to several of them then comes once. What was said in them
   *  meanwhile comes too, as far as it is known where we were. */
  function enterAgain(was) {
    const known = [...rooms.values()].filter(({ joined, position }) => joined && position);
    rooms.forEach((room) => {
      if (!room.joined) room.settle();
      else if (!known.includes(room)) enter(room);
    });
    if (!known.length) return;
    const since = Object.fromEntries(known.map(({ name, position }) => [name, position]));
    const command = { type: 'join', room: Object.keys(since), since, was };
    tell(command, ({ members, positions }) =>
      known.forEach((room) => {
        room.position = positions[room.name];
        room.settle(members[room.name]);
      }),
    ).catch(() => known.forEach(enter)); // each hears for itself what is wrong
  }

  /** Somebody enters a room, or leaves it. */
  function changed(room) {
    recarry(() => enter(room));
    if (!link && !room.joined) room.settle();
  }

  // ── the queue ──────────────────────────────────────────────────────────────────────────────

  /** A promise of what `result` makes of the answer; a `signal` in the command ends waiting for it. The
   *  command is put into words now: what is changed in it later is not sent. Ours, of order 0, come first;
   *  with their link they are forgotten. */
  async function enqueue({ signal, ...command }, result, order = ++ordered) {
    if (failure) throw failure;
    signal?.throwIfAborted();
    const { type } = command;
    const isWrite = type === 'batch' || WRITES.includes(type);
    const key = isWrite ? (command.key ?? `${keys}-${order}`) : undefined;
    const answer = new Promise((resolve, reject) => {
      const settle = (how) => (value) => {
        signal?.removeEventListener('abort', abort);
        how(value);
      };
      const entry = { order, type, key, result, resolve: settle(resolve), reject: settle(reject) };
      const abort = () => {
        entry.isAborted = true;
        const cause = signal.reason;
        if (type === 'get' || (waiting.includes(entry) && !entry.inDoubt)) reject(cause);
        else reject(new TriodeError(OUTCOME, { name: cause.name, unknown: true, cause }));
        restore([]);
      };
      entry.text = toJson({ ...command, key });
      signal?.addEventListener('abort', abort);
      restore([entry]);
    });
    if (opened && waiting.length >= OPS_AT_ONCE) flush();
    const surplus = waiting.length - queueLimit * (opened ? 10 : 1);
    if (surplus > 0)
      rejectAll(
        waiting.splice(0, surplus),
        new TriodeError('dropped: the queue is full', { dropped: true }),
      );
    schedule();
    return answer;
  }

  const tell = (command, result) => enqueue(command, result, 0);

  /** Nothing more is done about these. */
  const rejectAll = (entries, error) =>
    entries.forEach(({ inDoubt, reject }) =>
      reject(
        inDoubt
          ? new TriodeError(`${error.detail}, ${OUTCOME}`, { unknown: true, cause: error })
          : error,
      ),
    );

  /** Reject what is in doubt and can't be sent again, as the server might not know it. */
  function giveUp(why) {
    const canGo = ({ inDoubt, key, sentAt, holder: its }) => {
      // By the clock of the day: the other one may stand still while the machine sleeps. Where it was
      // set back nobody knows how long it has been.
      const ms = Date.now() - sentAt;
      return !inDoubt || (key && its === holder && ms >= 0 && ms < AGAIN_MS);
    };
    const gone = waiting.filter((entry) => !canGo(entry));
    if (!gone.length) return;
    waiting = waiting.filter(canGo);
    rejectAll(gone, new TriodeError(why));
  }

  /** These are being sent now. */
  function mark(entries) {
    for (const entry of entries)
      if (!entry.inDoubt) Object.assign(entry, { sentAt: Date.now(), holder });
  }

  const restore = (entries) => {
    waiting = [...waiting, ...entries]
      .filter(({ isAborted }) => !isAborted)
      .sort((a, b) => a.order - b.order);
  };

  function schedule() {
    clearTimeout(nextFlush);
    if (opened && waiting.length)
      nextFlush = setTimeout(flush, Math.max(0, flushedAt + batchMs - performance.now()));
  }

  function flush() {
    const now = performance.now();
    if (!opened) return;
    budget = Math.min(burst, budget + (now - flushedAt) / REFILL_MS);
    flushedAt = now;
    if (!send) holder = token;
    giveUp('can no longer be sent again');
    while (waiting.length && budget >= 1 && !isFull())
      if (send) dispatch(next((type) => WRITES.includes(type)));
      else post();
    schedule();
  }

  /** Take the first command, and those after it as long as they can go together. */
  function next(isFine) {
    let chars = 0;
    const end = waiting.findIndex(
      ({ type, text }, index) =>
        (chars += text.length) > CHARS_AT_ONCE || index === OPS_AT_ONCE || !isFine(type),
    );
    return waiting.splice(0, end < 0 ? waiting.length : end || 1);
  }

  /** Send one command, or several writes as one. */
  function dispatch(entries) {
    const texts = entries.map(({ text }) => text);
    const text = texts[1] ? `{"type":"batch","ops":[${texts}]}` : texts[0];
    if (text.length > MESSAGE_CHARS)
      return entries[0].reject(new TriodeError('too long', { status: 413 }));
    budget--;
    mark(entries);
    if (entries[0].type === 'auth') holder = NaN; // until it is answered
    answers[++ref] = entries;
    send(`{"ref":${ref},${text.slice(1)}`);
  }

  /** Send what waits by HTTP, one request after the other. */
  async function post() {
    const mine = link;
    const entries = next(() => true);
    budget--;
    isPosting = true;
    mark(entries);
    answers[0] = entries;
    try {
      const response = await request('store/batch', `[${entries.map(({ text }) => text)}]`);
      const results = await response.json();
      if (mine !== link) return; // they have been sent again, or will be
      results.forEach((answer, index) => {
        const entry = entries[index];
        if (answer.ok) entry.resolve(entry.result(answer));
        else refuse(entry, answer);
      });
      delete answers[0];
    } catch (error) {
      if (mine !== link) return;
      const { status, delayMs } = error;
      // A proxy had no answer: that says nothing of what was done.
      const isLost = !status || status === 502 || status === 504;
      if (!isLost) {
        // It was refused as a whole, so nothing of it was done.
        delete answers[0];
        if ([401, 429, 503].includes(status)) hold(entries, delayMs);
        else rejectAll(entries, error);
      }
      if (isLost || status === 401) return lost(mine, error);
    }
    if (mine !== link) return;
    isPosting = false;
    replace?.();
    schedule();
  }

  /** The rate was too high: send these again, later, and from now on one by one. */
  function hold(entries, waitMs = 1000) {
    restore(entries);
    burst = 1;
    budget = -waitMs / REFILL_MS;
    schedule();
  }

  // ── what it is for ─────────────────────────────────────────────────────────────────────────

  const write =
    (type, member) =>
    async (path, value, { optimistic, ...more } = {}) => {
      const guess = optimistic && guesses.make(type, path, JSON.parse(toJson({ value })).value);
      const answer = enqueue({ type, path, [member]: value, ...more }, ({ id, key = id }) => key);
      return guess ? guesses.add(guess, answer) : answer;
    };

  async function connected() {
    while (state !== 'open') {
      if (failure) throw failure;
      if (state === 'idle') t.connect();
      await new Promise((done) => t.once(ANY, done));
    }
    return t;
  }

  const t = {
    __proto__: emitter(),

    /** `idle`, `connecting`, `open`, `waiting` (for the next attempt) or `closed`. */
    get state() {
      return state;
    },
    /** `websocket` or `sse`; null while not connected. */
    get transport() {
      return opened ? (send ? 'websocket' : 'sse') : null;
    },
    /** The id of this connection. */
    get client() {
      return client;
    },
    /** Why it is closed. */
    get error() {
      return failure;
    },

    /** A live view of what a filter selects. */
    watch(filter = '.', { policy, ...unknown } = {}) {
      refuseUnknown(unknown, ['policy']);
      const old = feeds.get(filter);
      const feed = old ?? feedOf(filter, policy, guesses);
      feeds.set(filter, feed);
      if (!old || old.error) {
        feed.error = isHomeless ? failure : null;
        recarry(() => subscribe(feed));
      }
      return viewOf(feed, release);
    },

    /** A room, entered at once. Its events are those that are published in it. */
    room(name) {
      const room = rooms.get(name) ?? roomOf(name, t, changed);
      rooms.set(name, room);
      if (!room.joined) room.join().catch(() => {}); // there is an event for it
      return room;
    },

    /** Send `{room | to | tags, event, data, echo}`; resolves with how many it reached. */
    publish: (message) => enqueue({ type: 'publish', ...message }, ({ reached }) => reached),

    /** What a filter selects now, in the form of a view's value. */
    get: (filter, more) =>
      enqueue({ type: 'get', filter, ...more }, ({ items }) =>
        shape(filter, new Map(items.map(({ path, value }) => [path, value]))),
      ),

    // Writes resolve with the position of the change and reject with the server's problem. The last
    // argument may have `if`, a position after which the place must not have changed, and `create`.
    set: write('set', 'value'),
    merge: write('merge', 'patch'),
    patch: write('patch', 'patch'),
    append: write('append', 'value'),
    push: write('push', 'value'), // with the new name
    increment: write('increment', 'by'),
    delete: (path, more) => write('delete', 'path')(path, path, more),

    /** Write what `change` makes of a place, and begin again if another was faster; nothing, if it makes
     *  undefined. Resolves with what is there then. */
    async transaction(path, change, { signal, ...more } = {}) {
      for (let tries = 0; ; tries++) {
        const [id, value] = await enqueue({ type: 'get', filter: path, signal }, (answer) => [
          answer.id,
          answer.items[0]?.value,
        ]);
        const now = await change(value);
        if (now === undefined) return value;
        try {
          await t.set(path, now, { create: true, ...more, if: id, signal });
          return now;
        } catch (error) {
          if (error.status !== 412 || tries > 98) throw error;
        }
        await new Promise((done) => setTimeout(done, Math.random() * Math.min(200, 2 ** tries)));
      }
    },

    /** Several writes; `{atomic: true}`: as one change, all or none. */
    batch: (ops, more) => t.command({ type: 'batch', ops, ...more }),

    /** Any other command of the wire; resolves with its answer. */
    command: (command) => enqueue(command, (answer) => answer),

    /** Wait until it is connected; rejects when it gives up. */
    ready: ({ signal } = {}) => abortable(connected(), signal),

    /** Use another token from now on, also on the living connection. */
    async auth(text) {
      token = text;
      if (!link) return void t.connect();
      if (!opened) return;
      if (send) {
        await enqueue({ type: 'auth', token }, ({ ended = [] }) => {
          holder = text;
          const error = new TriodeError('not allowed any more', { status: 403 });
          feeds.forEach((feed) => {
            if (ended.includes(feed.filter)) feed.fail(error);
            else if (feed.error) subscribe(feed);
          });
        });
      } else {
        const mine = link;
        // With a balancer in between the stream may be elsewhere; a new one shows the new token, and
        // gets what the old one did not.
        const isDone = await request(
          `streams/${client}/token`,
          JSON.stringify({ secret, token }),
        ).catch(() => false);
        if (mine !== link || (isDone && ![...feeds.values()].some((feed) => feed.error))) return;
        forgive();
        stream(mine);
      }
    },

    /** Connect now, also after an end. */
    connect() {
      if (link || isHomeless) return t;
      globalThis.addEventListener?.('online', online);
      globalThis.document?.addEventListener('visibilitychange', shown);
      attempt = 0;
      asked = false;
      failure = null;
      forgive();
      open();
      return t;
    },

    /** Disconnect. All views are closed, and what was not sent is rejected. */
    close: () => end(null),
  };

  if (autoConnect) t.connect();
  return t;
}
