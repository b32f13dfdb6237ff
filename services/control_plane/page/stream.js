// @ts-check
// Server-sent events over fetch: `EventSource` cannot send the Authorization header.

import { open } from "./api.js";
import { RETRY, report } from "./connection.js";
import { backoff, isPassing, sleep } from "./poll.js";

/** The server sends a comment at least every five seconds. */
const SILENT_SECONDS = 20;
/** After a longer interruption a reload costs less than all missed events. */
const RESUME_SECONDS = 120;

/**
 * @typedef {object} Follower
 * @property {AbortSignal} signal
 * @property {(kind: string, data: any) => void} onEvent
 * @property {() => void} onFresh the stream starts at the newest event: load the current state separately
 */

/**
 * Follow a stream until aborted; after an interruption it resumes after the last event received. Returns at the first
 * error that is not temporary.
 * @param {string} path
 * @param {Follower} follower
 * @returns {Promise<Error | null>}
 */
export async function follow(path, follower) {
  let place = "";
  let heard = 0;
  let failures = 0;
  while (!follower.signal.aborted) {
    if (Date.now() - heard > 1000 * RESUME_SECONDS) place = "";
    let fault = "The event stream ended.";
    try {
      await once(path, place, follower, (id) => {
        if (id !== null) place = id;
        heard = Date.now();
        failures = 0;
        report("events", null);
      });
    } catch (error) {
      if (follower.signal.aborted) return null;
      if (!isPassing(error)) return /** @type {Error} */ (error);
      fault = /** @type {Error} */ (error).message;
    }
    failures += 1;
    const pause = backoff(failures);
    report("events", fault, pause);
    await sleep(pause, follower.signal);
  }
  return null;
}

/**
 * One connection, until it ends.
 * @param {string} path
 * @param {string} place
 * @param {Follower} follower
 * @param {(id: string | null) => void} alive
 */
async function once(path, place, follower, alive) {
  const connection = new AbortController();
  const end = () => connection.abort();
  follower.signal.addEventListener("abort", end);
  // A connection from before the machine slept may be dead without a sign.
  window.addEventListener(RETRY, end);
  /** @type {number | undefined} */
  let watchdog;
  const watch = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(end, 1000 * SILENT_SECONDS);
  };
  try {
    watch();
    const answer = await open(path, { headers: place ? { "Last-Event-ID": place } : {}, signal: connection.signal });
    const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    const decoder = new TextDecoder();
    const parse = parser();
    alive(null);
    if (!place) follower.onFresh();
    for (;;) {
      watch();
      const { done, value } = await reader.read();
      if (done) return;
      alive(null);
      for (const { id, kind, data } of parse(decoder.decode(value, { stream: true }))) {
        follower.onEvent(kind, JSON.parse(data));
        alive(id);
      }
    }
  } catch (error) {
    // Ended by the watchdog or the network: follow reconnects.
    if (follower.signal.aborted || !(error instanceof DOMException || error instanceof TypeError)) throw error;
  } finally {
    clearTimeout(watchdog);
    follower.signal.removeEventListener("abort", end);
    window.removeEventListener(RETRY, end);
  }
}

/** A parser of the event stream format: takes text in pieces, returns the complete events. */
export function parser() {
  let rest = "";
  /** @type {Record<string, string>} */
  let fields = {};
  /**
   * @param {string} text
   * @returns {{id: string, kind: string, data: string}[]}
   */
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    const events = [];
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (line === "") {
        if (fields.data !== undefined) events.push({ id: fields.id ?? "", kind: fields.event ?? "message", data: fields.data });
        fields = {};
      } else if (colon !== 0) {
        fields[colon < 0 ? line : line.slice(0, colon)] = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      }
    }
    return events;
  };
}
