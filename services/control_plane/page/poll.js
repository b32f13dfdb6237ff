// @ts-check
// Polling: less often in a hidden tab, and with backoff after errors.

import { Problem, Unreachable } from "./api.js";
import { RETRY, report } from "./connection.js";

const LONGEST_SECONDS = 15;
const HIDDEN_SECONDS = 60;

/**
 * Wait; ends early when the network or the tab becomes active again, on a request to try again, or on abort.
 * @param {number} seconds
 * @param {AbortSignal} signal
 */
export function sleep(seconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      for (const kind of ["online", RETRY]) window.removeEventListener(kind, end);
      document.removeEventListener("visibilitychange", seen);
      signal.removeEventListener("abort", end);
      resolve(undefined);
    };
    const seen = () => document.hidden || end();
    const timer = setTimeout(end, 1000 * seconds);
    for (const kind of ["online", RETRY]) window.addEventListener(kind, end);
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", end);
  });
}

/**
 * Seconds before the next attempt after some failures: doubling, with jitter so that tabs do not retry together.
 * @param {number} failures
 */
export function backoff(failures) {
  return Math.min(LONGEST_SECONDS, 0.5 * 2 ** failures) * (0.75 + 0.5 * Math.random());
}

/**
 * Whether an error is temporary: the connection failed, or the server asks to retry.
 * @param {unknown} error
 */
export function isPassing(error) {
  return error instanceof Unreachable || (error instanceof Problem && error.passing);
}

/**
 * Run `task` every `seconds` until aborted. Returns at the first error that is not temporary.
 * @param {string} source name for `report`
 * @param {() => Promise<void>} task
 * @param {number} seconds
 * @param {AbortSignal} signal
 * @returns {Promise<Error | null>} the error; null when aborted
 */
export async function poll(source, task, seconds, signal) {
  let failures = 0;
  while (!signal.aborted) {
    let pause = document.hidden ? HIDDEN_SECONDS : seconds;
    try {
      await task();
      failures = 0;
      report(source, null);
    } catch (error) {
      if (signal.aborted) return null;
      if (!isPassing(error)) return /** @type {Error} */ (error);
      failures += 1;
      pause = Math.max(backoff(failures), (error instanceof Problem && error.retryAfter) || 0);
      report(source, /** @type {Error} */ (error).message, pause);
    }
    await sleep(pause, signal);
  }
  return null;
}
