// What an HTTP server sends: refusals and event streams.

import { problem } from './error.js';

/** The refusal that an HTTP answer is. */
export async function refusal(response) {
  const { status, headers } = response;
  const body = await response.json().catch(() => ({ detail: `HTTP ${status}` }));
  const seconds = body.retry_after ?? headers.get('retry-after');
  const final = status < 500 && status !== 408 && status !== 429;
  return problem(body, { status, final, delayMs: seconds * 1000 || undefined });
}

/** Read an event stream to its end: `take` for each event, as a frame, and `heard` after each chunk.
 *  Triode's events have one line of data, which is JSON. */
export async function readEvents(body, take, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = {};
  for (let chunk; !(chunk = await reader.read()).done; heard()) {
    // Only what is new is searched: one event may come in hundreds of chunks.
    const lines = chunk.value.split('\n');
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (const line of lines) {
      const colon = line.indexOf(': ');
      if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
      else if (line === '' && event.data) {
        take({ type: event.event, id: event.id, ...JSON.parse(event.data) });
        event = {};
      }
    }
  }
}
