// @ts-check
// The connection to the control plane. Every source of data reports here; the header shows whether it works, and a panel
// says since when it does not, what the run did last, and when the page tries again.

import { command } from "./command.js";
import { el, say } from "./dom.js";
import { brief, count } from "./format.js";
import { hasEnded, isEnding, phaseText } from "./phases.js";

/** The event on the window that ends every pause between attempts. */
export const RETRY = "scope-retry";
/** A shorter interruption gets no panel. */
const PANEL_SECONDS = 3;
/** A clock that has jumped further ahead than this shows that the machine has slept. */
const SLEPT_SECONDS = 10;

/** @type {Record<string, string>} */
const LINES = { lost: "connection lost", ended: "control plane ended" };

/** @type {Map<string, {fault: string, retryAt: number}>} */
const faults = new Map();
/** @type {Set<string>} */
const sources = new Set();
/** When the first fault came, milliseconds since the epoch; 0 without one. */
let lostSince = 0;
/** The run that the view shows, as it was last seen. @type {any} */
let seen = null;
/** Whether another control plane answers in place of the run's own. */
let replaced = false;
/** Whether the view shows several runs, all of them recorded ones. */
let allRecorded = false;
let ticked = Date.now();

/**
 * Report that a source of data works (null), or its fault.
 * @param {string} source
 * @param {string | null} fault
 * @param {number} [seconds] until it tries again
 */
export function report(source, fault, seconds = 0) {
  sources.add(source);
  if (fault === null) faults.delete(source);
  else faults.set(source, { fault, retryAt: Date.now() + 1000 * seconds });
  if (faults.size === 0) lostSince = 0;
  else lostSince ||= Date.now();
  show();
}

/**
 * Keep the newest state of the run that the view shows.
 * @param {any} run
 */
export function saw(run) {
  seen = run;
  show();
}

/**
 * Keep whether the view shows recorded runs only.
 * @param {boolean} recorded
 */
export function sawRecorded(recorded) {
  allRecorded = recorded;
  show();
}

/**
 * Whether a refused token comes from another control plane, started where the one of an ended run was lost: what the page
 * shows of that run then stays.
 */
export function isReplaced() {
  replaced = lostSince > 0 && seen !== null && isEnding(seen.status);
  show();
  return replaced;
}

/** Whether a source of data does not work. */
export function isLost() {
  return lostSince > 0;
}

/** Forget every source, for a new view. */
export function silence() {
  faults.clear();
  sources.clear();
  [lostSince, seen, replaced, allRecorded] = [0, null, false, false];
  show();
}

/** Try again at once. */
function retry() {
  window.dispatchEvent(new Event(RETRY));
}

const words = el("p", { class: "lost-words", role: "status" });
const countdown = el("p", { class: "note" });
const again = el("button", { type: "button", click: () => (replaced ? location.reload() : retry()) });
const hint = el("div", { class: "lost-hint" });
const panel = /** @type {HTMLElement} */ (document.getElementById("lost"));
panel.append(el("div", { class: "lost-line" }, words, countdown, again), hint);

function show() {
  const lost = lostSince > 0;
  const line = /** @type {HTMLElement} */ (document.getElementById("link"));
  const recorded = allRecorded || Boolean(seen?.metadata.recorded_at);
  const ended = seen !== null && hasEnded(seen.status.phase);
  const state = sources.size === 0 ? "" : lost ? (ended ? "ended" : "lost") : recorded ? "recorded" : "live";
  line.dataset.state = state;
  say(line, LINES[state] ?? state);
  const shown = lost && (replaced || Date.now() - lostSince >= 1000 * PANEL_SECONDS);
  panel.dataset.state = ended ? "ended" : "lost";
  if (panel.hidden === shown) panel.hidden = !shown;
  if (shown) fill();
}

function fill() {
  say(words, sentence());
  const next = Math.min(...[...faults.values()].map((one) => one.retryAt));
  const seconds = Math.max(0, Math.ceil((next - Date.now()) / 1000));
  say(countdown, replaced ? "" : seconds ? `Trying again in ${seconds} s.` : "Trying again…");
  say(again, replaced ? "Sign in" : "Try now");
  const id = seen?.metadata.id ?? "";
  if (hint.dataset.run === id) return;
  hint.dataset.run = id;
  hint.replaceChildren(...(id ? [command(`scope view ${id}`, "shows a run that has ended")] : []));
}

/** What is known, in words. */
function sentence() {
  const at = brief(lostSince);
  const kept = "What the page shows is its last state.";
  if (!seen) return `Connection lost since ${at}. ${[...faults.values()][0].fault}`;
  const { phase, step } = seen.status;
  const gone = replaced ? "Another control plane answers at this address; the run's own has ended." : "Its control plane has ended.";
  if (phase === "failed") return `The run failed at step ${count(step)}. ${gone} ${kept}`;
  if (phase === "finished") return `The run finished at step ${count(step)}. ${gone} ${kept}`;
  if (isEnding(seen.status)) return `The run was at step ${count(step)}, ${phaseText(seen.status)}, when its control plane ended at ${at}. ${kept}`;
  return `Connection lost since ${at}. ${[...faults.values()][0].fault} ${kept}`;
}

setInterval(() => {
  const slept = Date.now() - ticked > 1000 * SLEPT_SECONDS;
  ticked = Date.now();
  // A hidden tab ticks rarely as well.
  if (slept && !document.hidden) retry();
  if (lostSince > 0) show();
}, 1000);
