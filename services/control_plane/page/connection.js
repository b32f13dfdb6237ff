// @ts-check
// The state of the connection: every source of data reports here, and a line in the header shows it.

import { say } from "./dom.js";

/** @type {Map<string, string>} */
const faults = new Map();
/** @type {Set<string>} */
const sources = new Set();

/**
 * Report that a source of data works (null), or its fault.
 * @param {string} source
 * @param {string | null} fault
 */
export function report(source, fault) {
  sources.add(source);
  if (fault === null) faults.delete(source);
  else faults.set(source, fault);
  show();
}

/** Forget every source, for a new view. */
export function silence() {
  faults.clear();
  sources.clear();
  show();
}

function show() {
  const line = /** @type {HTMLElement} */ (document.getElementById("link"));
  const state = sources.size === 0 ? "" : faults.size === 0 ? "live" : "lost";
  line.dataset.state = state;
  line.title = [...faults.values()].join(" ");
  say(line, state === "lost" ? "connection lost, retrying" : state);
}
