// Server-Sent Events over fetch: unlike EventSource it can send the token in a header, and tells
// what a refusal said.

import { Problem, request } from "./api.js";
import { parse } from "./json.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const MISSED_HEARTBEATS = 2.5;
const LONG_MS = 4000;

/**
 * One subscription that is kept alive until `close`.
 *
 * `onevent(type, body, id)` gets each event in order; `onstate(state)` one of
 * `{is: "connecting", isLong}`, `{is: "live"}`, `{is: "waiting", ms, why}`, `{is: "refused", problem}`; after
 * the last it does not try again by itself.
 */
export class Stream {
  #subscription;
  #onevent;
  #onstate;
  #ended = new AbortController();
  #position = null;
  #failures = 0;
  #known = false; // a Triode has answered there
  #askedMs = null; // the delay that the server asked for when it closed
  #silenceMs = 40_000;

  constructor(subscription, { onevent, onstate }) {
    this.#subscription = subscription;
    this.#onevent = onevent;
    this.#onstate = onstate;
    this.#run();
  }

  close() {
    this.#ended.abort();
  }

  async #run() {
    const ended = this.#ended.signal;
    while (!ended.aborted) {
      this.#onstate({ is: "connecting" });
      let why = "The connection was lost.";
      try {
        await this.#once(ended);
      } catch (fault) {
        if (ended.aborted) return;
        if (fault instanceof Problem) {
          // A proxy whose server is away says all kinds of things.
          const isProxys = this.#known && !fault.isTriodes;
          const passing = isProxys || fault.status === 0 || fault.status === 429 || fault.status >= 500;
          if (!passing) return void this.#onstate({ is: "refused", problem: fault });
          why = fault.message;
          if (fault.retryAfterS !== null) this.#askedMs = fault.retryAfterS * 1000;
        }
      }
      if (ended.aborted) return;
      const ms = this.#delay();
      this.#onstate({ is: "waiting", ms, why });
      await sleep(ms, ended);
    }
  }

  #delay() {
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    this.#failures += 1;
    const asked = this.#askedMs;
    this.#askedMs = null;
    return asked ?? longest * (0.5 + Math.random() / 2);
  }

  async #once(ended) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    ended.addEventListener("abort", stop);
    let silence = setTimeout(stop, this.#silenceMs);
    const long = setTimeout(() => this.#onstate({ is: "connecting", isLong: true }), LONG_MS);
    try {
      const answer = await request("events", {
        method: "POST",
        body: JSON.stringify({ ...this.#subscription, ...(this.#position && { since: this.#position }) }),
        headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
        signal: attempt.signal,
      });
      clearTimeout(long);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser((type, body, id) => this.#take(type, body, id));
      for (;;) {
        const { value, done } = await reader.read();
        if (done || ended.aborted) return;
        clearTimeout(silence);
        silence = setTimeout(stop, this.#silenceMs);
        parser.feed(value);
      }
    } finally {
      clearTimeout(silence);
      clearTimeout(long);
      ended.removeEventListener("abort", stop);
      attempt.abort();
    }
  }

  #take(type, body, id) {
    if (this.#ended.signal.aborted) return;
    if (id) this.#position = id;
    if (type === "connected") {
      this.#failures = 0;
      this.#known = true;
      this.#silenceMs = body.heartbeat_s * 1000 * MISSED_HEARTBEATS;
      this.#onstate({ is: "live" });
    } else if (type === "closing") {
      this.#askedMs = body.retry_ms;
    }
    this.#onevent(type, body, id);
  }
}

/** Turns pieces of an event stream into events. Only what this server sends: lines end with \n. */
export class Parser {
  #pieces = []; // of an event whose end has not come
  #last = "";
  #give;

  constructor(give) {
    this.#give = give;
  }

  feed(text) {
    // A big value comes in many pieces: they are looked at once each, and joined at its end.
    const ends = text.includes("\n\n") || (this.#last === "\n" && text[0] === "\n");
    this.#pieces.push(text);
    this.#last = text.at(-1);
    if (!ends) return;
    const blocks = this.#pieces.join("").split("\n\n");
    this.#pieces = [blocks.pop()];
    for (const block of blocks) this.#event(block);
  }

  #event(block) {
    let type = "message";
    let data = "";
    let id = null;
    for (const line of block.split("\n")) {
      if (line.startsWith("data: ")) data += line.slice(6);
      else if (line.startsWith("event: ")) type = line.slice(7);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (data) this.#give(type, parse(data), id);
  }
}

function sleep(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      done();
    }, { once: true });
  });
}
