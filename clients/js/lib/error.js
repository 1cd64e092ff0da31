// What goes wrong.

/** A refusal or a failure. Has the members of the server's problem object, RFC 9457. */
export class TriodeError extends Error {
  constructor(detail, members) {
    super(detail);
    Object.assign(this, { name: 'TriodeError', status: 0, detail }, members);
  }
}

export const problem = (members, more) => new TriodeError(members.detail, { ...members, ...more });

/** The promise; but rejected when the signal is aborted before. */
export const abortable = (promise, signal) =>
  new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort);
    promise.then(resolve, reject);
  });
