// @ts-check
// One row of the list of runs.

import { el, row, say, set } from "./dom.js";
import { age, brief, count, level, short, when } from "./format.js";
import { hasEnded, phaseText } from "./phases.js";
import { visible } from "./visible.js";

export const HEADINGS = ["Run", "Phase", "Progress", "Entropy", "Reward", "Held-out", "Started"];
/** Share of the target by which the entropy may differ and count as on target. */
const TOLERANCE = 0.1;

/**
 * The row of a run; `update` shows a newer state.
 * @param {any} run
 * @param {() => void} onCheck the check box for the comparison was used
 */
export function runRow(run, onCheck) {
  const check = el("input", { type: "checkbox", "aria-label": `Compare ${run.id}`, change: onCheck });
  const link = el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.id);
  const phase = el("span", { class: "phase" });
  const why = el("p", { class: "note why-stale" });
  const bar = el("progress", { "aria-label": `Steps of ${run.id} done`, max: 1, value: 0 });
  const steps = el("span", { class: "note" });
  const entropy = pair();
  const reward = el("span");
  const heldOut = pair();
  const started = el("time");
  const since = el("span", { class: "note" });
  const element = row(HEADINGS, [
    el("span", { class: "run-name" }, check, link),
    el("div", {}, phase, why),
    el("div", {}, bar, steps),
    entropy.element,
    reward,
    heldOut.element,
    el("div", { class: "pair" }, started, since),
  ]);
  return {
    element,
    check,
    /**
     * @param {any} now
     * @param {number} at the server's clock, milliseconds
     */
    update(now, at) {
      element.dataset.phase = now.stale ? "stale" : now.phase;
      element.dataset.bare = String(now.entropy === null && now.evaluation === null);
      say(phase, now.stale ? `stale, was ${phaseText(now, now.control)}` : phaseText(now, now.control));
      phase.dataset.phase = element.dataset.phase;
      explain(why, now);
      bar.max = Math.max(1, now.of);
      bar.value = now.step;
      say(steps, `${count(now.step)} / ${count(now.of)}`);
      say(entropy.value, level(now.entropy));
      say(entropy.note, entropyState(now));
      entropy.note.dataset.state = now.saturated ? "warn" : "";
      say(reward, short(now.reward));
      const [first, last] = heldOutOf(now.evaluation);
      say(heldOut.value, first ?? "–");
      say(heldOut.note, last ?? "");
      set(started, { datetime: now.started_at, title: when(now.started_at) });
      say(started, brief(now.started_at));
      say(since, sinceText(now, at));
    },
  };
}

/** A value with a note under it. */
function pair() {
  const value = el("span");
  const note = el("span", { class: "note" });
  return { value, note, element: el("div", { class: "pair" }, value, note) };
}

/**
 * Why a run is stale or has failed.
 * @param {HTMLElement} node
 * @param {any} run
 */
function explain(node, { stale, error, heartbeat_at, seconds_since_heartbeat }) {
  const text = stale ? `silent since ${brief(heartbeat_at)}, ${age(seconds_since_heartbeat)}` : (error ?? "");
  if (node.title === text) return;
  node.title = text;
  node.replaceChildren(...visible(text));
}

/**
 * The entropy beside its target, in words.
 * @param {{entropy: number | null, entropy_target: number | null, saturated: boolean}} run
 */
export function entropyState({ entropy, entropy_target: target, saturated }) {
  if (entropy === null) return "";
  if (target === null) return "no target";
  const of = `target ${level(target)}`;
  if (Math.abs(entropy - target) <= TOLERANCE * target) return `on ${of}`;
  return `${entropy > target ? "above" : "below"} ${of}${saturated ? ", at the limit" : ""}`;
}

/**
 * pass@k of the smallest and of the largest k.
 * @param {{pass_at_k: Record<string, number>} | null} evaluation
 */
function heldOutOf(evaluation) {
  const ks = Object.keys(evaluation?.pass_at_k ?? {}).sort((a, b) => Number(a) - Number(b));
  const ends = ks.length > 1 ? [ks[0], ks[ks.length - 1]] : ks;
  return ends.map((k) => `pass@${k} ${level(evaluation?.pass_at_k[k])}`);
}

/**
 * @param {any} run
 * @param {number} at the server's clock, milliseconds
 */
function sinceText({ phase, phase_since, started_at }, at) {
  const ended = hasEnded(phase) && phase_since;
  return ended ? `ended ${age((at - Date.parse(phase_since)) / 1000)}` : age((at - Date.parse(started_at)) / 1000);
}
