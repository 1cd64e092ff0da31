// Requests to the server, with the visitor's token: kept for this tab only, sent in a header only.

const KEY = "triode.token";

/** What the server refused, in its words; `status` 0: it did not answer. */
export class Problem extends Error {
  constructor(status, body, retryAfterS = null, isTriodes = true) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.column = body.column ?? null;
    this.retryAfterS = retryAfterS;
    this.isTriodes = isTriodes; // or of a proxy in between
  }

  /** For people who have not said who they are the server's own words are about header fields. */
  get words() {
    return this.status === 401 && !session.token ? "This server wants a token." : this.message;
  }

  /** A token, or another one, would help. */
  get wantsToken() {
    return this.status === 401 || this.status === 403;
  }
}

/** Says `change` when the token is another, `denied` when the server wants one. */
class Session extends EventTarget {
  #token = sessionStorage.getItem(KEY) ?? "";

  get token() {
    return this.#token;
  }

  set token(text) {
    this.#token = text;
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
    this.dispatchEvent(new Event("change"));
  }

  deny(problem) {
    this.dispatchEvent(new CustomEvent("denied", { detail: problem }));
  }
}

export const session = new Session();

/** Ask; the address is relative to the page. Throws `Problem`, or `AbortError` when aborted. */
export async function request(address, { method = "GET", body, headers = {}, signal } = {}) {
  const fields = new Headers(headers);
  const { token } = session;
  if (token) fields.set("Authorization", `Bearer ${token}`);
  let answer;
  try {
    answer = await fetch(address, { method, body, headers: fields, signal, cache: "no-store" });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Problem(0, { detail: "The server does not answer." });
  }
  if (answer.ok) return answer;
  const retryAfter = answer.headers.get("Retry-After");
  const told = await answer.json().catch(() => ({}));
  const after = retryAfter === null ? null : Number(retryAfter);
  const problem = new Problem(answer.status, told, after, answer.headers.has("Triode"));
  // One that was asked with an older token says nothing about this one.
  if (problem.status === 401 && token === session.token) session.deny(problem);
  throw problem;
}

export const getJson = async (address, options) => (await request(address, options)).json();

/** The body of `/health`. An unhealthy server answers 503, and still says why. */
export const getHealth = async () => (await fetch("health", { cache: "no-store", signal: AbortSignal.timeout(5000) })).json();

const JSON_TYPE = { "Content-Type": "application/json" };
const at = (path) => `store?path=${encodeURIComponent(path)}`;

/** Writes to the document. `text` is JSON as it was typed: the server is the judge of it. */
export const store = {
  set: (path, text) => request(at(path), { method: "PUT", body: text, headers: JSON_TYPE }),
  remove: (path) => request(at(path), { method: "DELETE" }),

  /** Put a value where there was none; in an array it moves those behind it. */
  insert(parent, key, value) {
    const pointer = "/" + String(key).replaceAll("~", "~0").replaceAll("/", "~1");
    return request(at(parent), {
      method: "PATCH",
      body: JSON.stringify([{ op: "add", path: pointer, value }]),
      headers: { "Content-Type": "application/json-patch+json" },
    });
  },
};

/** End connections by id; the server answers how many it reached. */
export const closeClient = (id) =>
  getJson(`connections/close?id=${encodeURIComponent(id)}`, { method: "POST", body: "{}", headers: JSON_TYPE });
