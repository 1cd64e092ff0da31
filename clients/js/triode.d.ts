/** Live views of a JSON document on a Triode server. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** `EPOCH:SEQ`: the position of a change in the log. */
export type Position = string;

/** What happens to events that a slow reader's full queue has no room for. */
export type Policy = 'drop-newest' | 'drop-oldest' | 'latest' | 'disconnect';

export interface Options {
  /** A token, or a function that gives or promises one. The function is asked at the start, when a
   *  token is about to end, and once when one was refused. */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** Tags of this connection, that it gives itself: admins select `role` as `client.role`. */
  tags?: Record<string, string>;
  /** Connect at once (true), or when `connect` is called. */
  autoConnect?: boolean;
  /** Failed attempts in a row after which it gives up; without end by default, 0 for no reconnecting. */
  attempts?: number;
  /** Milliseconds before the first new attempt (1000); doubles with each, up to `maxDelayMs` (30 000). */
  delayMs?: number;
  maxDelayMs?: number;
  /** Take between half and all of these delays, by chance (true). Delays that the server gives are kept. */
  jitter?: boolean;
  /** Milliseconds for a connection to open, or an answer over HTTP to come (20 000). */
  timeoutMs?: number;
  /** Commands are sent together, at most once in so many milliseconds (16). */
  batchMs?: number;
  /** Commands that wait while offline (1000, ten times as many while connected): beyond it the oldest
   *  is rejected, with `dropped`. */
  queueLimit?: number;
  /** Another WebSocket than the platform's; null: event streams and HTTP only. */
  WebSocket?: (new (url: string) => WebSocket) | null;
  /** Another fetch than the platform's. */
  fetch?: typeof fetch;
}

/** A refusal or a failure. A refusal has the members of the server's problem object (RFC 9457). */
export class TriodeError extends Error {
  /** The status of the problem, 0 if it is none of the server's. */
  status: number;
  detail: string;
  title?: string;
  /** A command: it was dropped from the full queue and never sent. */
  dropped?: boolean;
  /** A command: nobody knows whether it was done. The connection was lost before its answer, and it was
   *  a message, or a write that cannot be sent again (after five minutes, with another token, at the
   *  end); or its signal was aborted after it was sent. */
  unknown?: boolean;
  /** A connection: its address. */
  url?: string;
  /** A connection: it would end the same way again. */
  final?: boolean;
  /** A connection: when the server wants us back. */
  delayMs?: number;
  /** Where a filter or path is malformed, from 1. */
  column?: number;
  filter?: string;
  path?: string;
  retry_after?: number;
  [member: string]: unknown;
}

// ── typed documents ──────────────────────────────────────────────────────────────────────────────

/** The keys of a path or filter, as far as they can be told: `.a[0]["b c"].*` → `'a' | number | 'b c' | '*'`.
 *  `null` for what cannot: descent, conditions, slices, JSONPath, JSON Pointer. */
type Keys<F extends string> = F extends '' | '.'
  ? []
  : F extends `${'..' | '$' | '/'}${string}`
    ? null
    : F extends `.[${infer Rest}`
      ? Keys<`[${Rest}`>
      : F extends `["${infer Name}"]${infer Rest}`
        ? Prepend<Name, Keys<Rest>>
        : F extends `[${infer Index}]${infer Rest}`
          ? Index extends '*'
            ? Prepend<'*', Keys<Rest>>
            : Index extends `${bigint}`
              ? Prepend<number, Keys<Rest>>
              : null
          : F extends `.${infer Name}[${infer Rest}`
            ? Name extends `${infer First}.${infer More}`
              ? Prepend<First, Keys<`.${More}[${Rest}`>>
              : Prepend<Name, Keys<`[${Rest}`>>
            : F extends `.${infer Name}.${infer Rest}`
              ? Prepend<Name, Keys<`.${Rest}`>>
              : F extends `.${infer Name}`
                ? [Name]
                : null;

type Prepend<Key, Rest> = Rest extends any[] ? [Key, ...Rest] : null;

type IsAny<T> = 0 extends 1 & T ? true : false;

/** What is at these keys of a document; never, if there can be nothing. */
type Dig<Doc, Path> =
  IsAny<Doc> extends true
    ? any
    : Path extends [infer Key, ...infer Rest]
      ? Dig<Step<NonNullable<Doc>, Key>, Rest>
      : Doc;

type Step<Doc, Key> = Doc extends readonly (infer Element)[]
  ? Key extends number | '*'
    ? Element
    : never
  : Doc extends object
    ? Key extends '*'
      ? Doc[keyof Doc]
      : Key extends keyof Doc
        ? Doc[Key]
        : never
    : never;

/** Where the type of the document is told once, for the hooks and stores of frameworks:
 *  `declare module 'triode-client' { interface Register { document: Shop } }`. */
export interface Register {}

/** The value of a place. `any` for a path that is not known when it is compiled. */
export type At<Doc, Path extends string> = string extends Path
  ? any
  : Keys<Path> extends infer Known extends any[]
    ? Dig<Doc, Known>
    : any;

/** What a view of a filter shows: the value of one place, or a Map of several. */
export type Selected<Doc, Filter extends string> = string extends Filter
  ? any
  : Keys<Filter> extends infer Known extends any[]
    ? '*' extends Known[number]
      ? ReadonlyMap<string, Dig<Doc, Known>>
      : Dig<Doc, Known> | undefined
    : any;

/** The path itself, if the document can have that place; otherwise what is wrong with it. */
export type Place<Doc, Path extends string> = [At<Doc, Path>] extends [never]
  ? `the document has no ${Path}`
  : Path;

/** Any filter, for who says the type of its value: `watch<Price>('$.prices[0]')`. */
export type Told<Value> = [Value] extends [never] ? never : string;

/** What has changed in a view. Of a `snapshot` anything may have. */
export interface Change {
  type: 'snapshot' | 'update' | 'delete';
  filter: string;
  /** Of an update or delete: the place, in canonical form. */
  path?: string;
  /** Of an update: what is at `path` now. */
  value?: any;
  /** Unix milliseconds. */
  time?: number;
  id?: Position;
}

/** Events that this connection was too slow for. */
export interface Gap {
  filter?: string;
  room?: string;
  missed: number;
  after?: Position;
  to?: Position;
  reason: string;
}

export interface Message<Data = any> {
  type: 'message';
  /** null: to this client. */
  room: string | null;
  event: string;
  data: Data;
  /** The id of the client that sent it, or a name. */
  from: string;
  time: number;
  id?: string;
}

interface Emitter<Events extends { [name: string]: any[] }> {
  on<Name extends keyof Events & string>(
    name: Name,
    listener: (...values: Events[Name]) => void,
  ): this;
  once<Name extends keyof Events & string>(
    name: Name,
    listener: (...values: Events[Name]) => void,
  ): this;
  off<Name extends keyof Events & string>(
    name: Name,
    listener: (...values: Events[Name]) => void,
  ): this;
}

export type ViewEvents<Value> = {
  /** The view has changed; read its `value`. */
  change: [change: Change, view: View<Value>];
  stale: [stale: boolean, view: View<Value>];
  gap: [gap: Gap, view: View<Value>];
  error: [error: TriodeError, view: View<Value>];
  close: [];
};

/** What a filter selects, always as it is now. */
export interface View<Value = any> extends Emitter<ViewEvents<Value>>, AsyncIterable<Value> {
  readonly filter: string;
  /** What is there: for the filter of one place (`.prices["BTC-USD"]`) its value, `undefined` if there is
   *  none; for any other (`.prices.*`) a Map from path to value. Never changes once given: after a
   *  change there is a new one, which shares what stayed the same. */
  readonly value: Value;
  /** The selected places: canonical path → value. */
  readonly items: ReadonlyMap<string, any>;
  /** Whether it may be out of date: before the first value, while reconnecting, in a gap, closed. */
  readonly stale: boolean;
  /** Why the server does not give it, or no longer. */
  readonly error: TriodeError | null;
  /** All up to here has arrived; null while that is not known. */
  readonly position: Position | null;
  readonly closed: boolean;
  /** Wait for the first value; rejects when the filter is refused. */
  ready(options?: { signal?: AbortSignal }): Promise<this>;
  /** Call `listener` now, if there is a value, and after each change. Returns what ends that. */
  subscribe(listener: (value: Value) => void): () => void;
  /** Stop watching. */
  close(): void;
}

/** A room. Its events are those that are published in it: `room.on('say', (data, message) => …)`; also
 *  `gap` and `error`. */
export interface Room extends Emitter<{ [event: string]: [data: any, message: Message] }> {
  readonly name: string;
  readonly joined: boolean;
  /** Enter, and stay in it over reconnects. Resolves with the ids of those in it (over an event stream
   *  with undefined). */
  join(): Promise<string[] | undefined>;
  leave(): Promise<string[] | undefined>;
  /** To the others in the room, with `echo` also to oneself; resolves with how many it reached. Over an
   *  event stream it is always also to oneself. */
  publish(event: string, data?: any, options?: { echo?: boolean } & CallOptions): Promise<number>;
}

export interface CallOptions {
  /** Ends waiting: `AbortSignal.timeout(5000)` is a time limit. What was not sent yet is never sent, and
   *  rejects with the signal's reason. Of what was sent nobody knows whether it was done: `unknown`. */
  signal?: AbortSignal;
}

export interface GetOptions extends CallOptions {
  /** Not before this position, as a write resolved with it, here or elsewhere. Of several servers with one
   *  document one may be a moment behind: it waits, for 2 s at most. */
  at?: Position;
}

export interface WriteOptions extends CallOptions {
  /** Only if the place has not changed since, or if its value is so. */
  if?: Position | { equals: any } | { exists: boolean } | { less: number | string };
  /** The place ends so many seconds later, unless it is written or touched again. */
  ttl?: number | null;
  /** A name of your own for this write, 1 to 255 printable ASCII characters: the server does it once.
   *  Without one the client gives it a key itself. */
  key?: string;
}

export interface Optimistic {
  /** Show it at once in all views, and take it back if it is refused. The path has to be of names and
   *  indexes, such as `.a[0].b`. */
  optimistic?: boolean;
}

export interface SetOptions extends WriteOptions {
  /** Make missing parents. */
  create?: boolean;
}

/** An operation of RFC 6902. */
export interface PatchOperation {
  op: 'add' | 'remove' | 'replace' | 'move' | 'copy' | 'test';
  path: string;
  from?: string;
  value?: any;
}

/** Members that are null are removed. */
export type MergePatch<T> = T extends readonly any[]
  ? T
  : T extends object
    ? { [Name in keyof T]?: MergePatch<T[Name]> | null }
    : T;

export type Write =
  | ({ type: 'set'; path: string; value: any } & SetOptions)
  | ({ type: 'append'; path: string; value: any } & SetOptions)
  | ({ type: 'push'; path: string; value: any } & WriteOptions)
  | ({ type: 'merge'; path: string; patch: any } & WriteOptions)
  | ({ type: 'patch'; path: string; patch: PatchOperation[] } & WriteOptions)
  | ({ type: 'increment'; path: string; by?: number } & WriteOptions)
  | ({ type: 'touch'; path: string; ttl: number | null } & WriteOptions)
  | ({ type: 'delete'; path: string } & WriteOptions);

export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

export type TriodeEvents = {
  state: [state: State];
  /** A new attempt follows: its number since the last success, and after how long. */
  reconnecting: [attempt: number, delayMs: number, error: TriodeError];
  /** An attempt to connect failed; or, with `final`, it has given up. */
  error: [error: TriodeError];
  /** The token ends in so many seconds; a `token` function is asked for a new one by itself. */
  expiring: [in_s: number];
  /** Any message, in a room or to this client. */
  message: [message: Message];
  /** Messages of a room were lost. */
  gap: [gap: Gap];
};

/** A connection to a server, shared by all its views and rooms. `Doc` is the type of its document: with
 *  `triode<Shop>()` paths are checked, and values have their types. */
export interface Triode<Doc = any> extends Emitter<TriodeEvents> {
  readonly state: State;
  readonly transport: 'websocket' | 'sse' | null;
  /** The id of this connection. */
  readonly client: string | undefined;
  /** Why it is closed, if not by `close`. */
  readonly error: TriodeError | null;

  /** A live view of what a filter selects; without one, of the whole document. */
  watch(): View<Doc>;
  watch<Value = never>(filter: Told<Value>, options?: { policy?: Policy }): View<Value>;
  watch<const F extends string>(
    filter: Place<Doc, F>,
    options?: { policy?: Policy },
  ): View<Selected<Doc, F>>;
  /** A room, entered at once. */
  room(name: string): Room;
  /** Resolves with how many it reached. */
  publish(message: {
    room?: string | string[];
    to?: string;
    /** For admins. A tag that a client gave itself is `client.NAME`. */
    tags?: Record<string, string>;
    event?: string;
    data?: any;
    echo?: boolean;
    signal?: AbortSignal;
  }): Promise<number>;

  /** What a filter selects now, in the form of a view's `value`. */
  get<Value = never>(filter: Told<Value>, options?: GetOptions): Promise<Value>;
  get<const F extends string>(
    filter: Place<Doc, F>,
    options?: GetOptions,
  ): Promise<Selected<Doc, F>>;
  set<const P extends string>(
    path: Place<Doc, P>,
    value: At<Doc, P>,
    options?: SetOptions & Optimistic,
  ): Promise<Position>;
  /** Write what `change` makes of the value of a place, and begin again if another was faster; so it may be
   *  called several times. If it makes undefined nothing is written; to give up, throw. Resolves with what
   *  is there then. Rejects with status 412 after a hundred tries. */
  transaction<const P extends string>(
    path: Place<Doc, P>,
    change: (
      value: At<Doc, P> | undefined,
    ) => At<Doc, P> | undefined | Promise<At<Doc, P> | undefined>,
    options?: CallOptions & { create?: boolean } & Optimistic,
  ): Promise<At<Doc, P>>;
  /** RFC 7396. */
  merge<const P extends string>(
    path: Place<Doc, P>,
    patch: MergePatch<At<Doc, P>>,
    options?: WriteOptions,
  ): Promise<Position>;
  /** RFC 6902. */
  patch<const P extends string>(
    path: Place<Doc, P>,
    operations: PatchOperation[],
    options?: WriteOptions,
  ): Promise<Position>;
  delete<const P extends string>(
    path: Place<Doc, P>,
    options?: WriteOptions & Optimistic,
  ): Promise<Position>;
  increment<const P extends string>(
    path: Place<Doc, P>,
    by?: number,
    options?: WriteOptions,
  ): Promise<Position>;
  append<const P extends string>(
    path: Place<Doc, P>,
    value: At<Doc, P> extends readonly (infer Element)[] ? Element : any,
    options?: SetOptions,
  ): Promise<Position>;
  /** Add a member to the object there. Resolves with its new name: names sort by time. */
  push<const P extends string>(
    path: Place<Doc, P>,
    value: any,
    options?: WriteOptions,
  ): Promise<string>;
  /** Several writes; `atomic`: as one change, all or none. Otherwise the position of a refused one is
   *  null, and it is in `errors` with its index. */
  batch(
    writes: Write[],
    options?: { atomic?: boolean; key?: string } & CallOptions,
  ): Promise<{
    positions: (Position | null)[];
    errors: ({ index: number } & Record<string, any>)[];
    /** The names that `push` gave, if there was any. */
    keys?: (string | null)[];
  }>;
  /** Any other command of the wire, such as `{type: 'tag', tags: {…}}`; resolves with its answer. */
  command(command: { type: string; signal?: AbortSignal; [member: string]: any }): Promise<any>;

  /** Use another token from now on, also on the living connection. */
  auth(token: string): Promise<void>;
  /** Wait until it is connected; rejects when it gives up. */
  ready(options?: { signal?: AbortSignal }): Promise<this>;
  /** Connect now, also after an end. */
  connect(): this;
  /** Disconnect. Closes all views and rejects what was not sent. */
  close(): void;
}

/** Connect to a server. Without an address: to the server that this file was loaded from, in a bundle to
 *  that of the page. */
export function triode<Doc = any>(url?: string | URL, options?: Options): Triode<Doc>;
