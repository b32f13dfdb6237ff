// @ts-check
// Whether the page hears from the control plane: each source reports, one line in the header says so.

import { say } from "./dom.js";

/** @type {Map<string, string>} */
const faults = new Map();
/** @type {Set<string>} */
const sources = new Set();

/**
 * A source of data works, or has a fault.
 * @param {string} source
 * @param {string | null} fault
 */
export function report(source, fault) {
  sources.add(source);
  if (fault === null) faults.delete(source);
  else faults.set(source, fault);
  show();
}

/** Forget every source: another view begins. */
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
  say(line, state === "lost" ? "connection lost, trying again" : state);
}
