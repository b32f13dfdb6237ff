// @ts-check
// The history of a run's entropy target: one row per generation, newest first, older ones on demand.

import { call, runPath } from "./api.js";
import { notify } from "./dialog.js";
import { el, row, table } from "./dom.js";
import { count, nats, when } from "./format.js";

const PAGE = 60;
const HEADINGS = ["Generation", "Target", "Over", "By", "Requested", "Effect"];

/**
 * @typedef {object} Generation
 * @property {any} [changed] the event of the request
 * @property {any} [effect] the newest of its events `applied` and `superseded`
 */

/** The history; `marks` are for the chart. */
export class History {
  /** @type {Map<number, Generation>} */
  #generations = new Map();
  /** @type {Set<string>} */
  #seen = new Set();
  /** @type {string | null} */
  #next = null;
  #loaded = false;

  /**
   * @param {string} run
   * @param {AbortSignal} signal
   * @param {() => void} onChange
   */
  constructor(run, signal, onChange) {
    this.run = run;
    this.signal = signal;
    this.onChange = onChange;
    const { table: made, body } = table("Changes of the entropy target, newest first", HEADINGS, "stacking");
    this.body = body;
    this.more = el("button", { type: "button", hidden: true, click: () => this.#older() }, "Older changes");
    this.element = el(
      "section",
      { class: "history", "aria-labelledby": "history-title" },
      el("h2", { id: "history-title" }, "Changes of the entropy target"),
      made,
      this.more,
    );
  }

  /** The learner steps at which generations took effect. */
  get marks() {
    return [...this.#generations]
      .filter(([, { effect }]) => effect?.event === "applied")
      .map(([generation, { effect }]) => ({ step: effect.step, label: `g${generation}` }));
  }

  /** Read the newest events and keep those read before. */
  async load() {
    const { body } = await call(runPath(this.run, `/entropy-target/history?limit=${PAGE}`), { signal: this.signal });
    const overlap = body.events.some((/** @type {any} */ event) => this.#seen.has(event.id));
    if (!overlap) {
      this.#generations.clear();
      this.#seen.clear();
      this.#next = body.next;
    } else if (!this.#loaded) this.#next = body.next;
    this.#loaded = true;
    this.#take(body.events.toReversed());
  }

  /** @param {any} event a new entry */
  add(event) {
    this.#take([event]);
  }

  async #older() {
    this.more.disabled = true;
    try {
      const { body } = await call(runPath(this.run, `/entropy-target/history?limit=${PAGE}&cursor=${this.#next}`), { signal: this.signal });
      this.#next = body.next;
      const rows = this.body.rows.length;
      this.#take(body.events, true);
      if (this.more.hidden) this.body.rows[rows]?.querySelector("th")?.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (!this.signal.aborted) notify(/** @type {Error} */ (error).message, "error");
    }
    this.more.disabled = false;
  }

  /**
   * @param {any[]} events in the order of effect; with `older`, newest first and older than all known ones
   * @param {boolean} [older]
   */
  #take(events, older = false) {
    for (const event of events) {
      if (this.#seen.has(event.id)) continue;
      this.#seen.add(event.id);
      const known = this.#generations.get(event.generation) ?? {};
      if (event.event === "changed") known.changed = event;
      else if (!older || !known.effect) known.effect = event;
      this.#generations.set(event.generation, known);
    }
    this.#show();
    this.onChange();
  }

  #show() {
    const newest = [...this.#generations].sort(([a], [b]) => b - a);
    this.body.replaceChildren(...newest.map(([generation, one]) => row(HEADINGS, cells(generation, one))));
    this.more.hidden = this.#next === null;
  }
}

/**
 * @param {number} generation
 * @param {Generation} one
 */
function cells(generation, { changed, effect }) {
  const target = changed ? (changed.target === null ? "as configured" : nats(changed.target)) : "–";
  const over = changed?.over_steps ? `${count(changed.over_steps)} steps` : changed ? "at once" : "–";
  const at = changed ? el("time", { datetime: changed.at }, when(changed.at)) : "–";
  return [`g${generation}`, target, over, changed?.by ?? "–", at, effectText(effect)];
}

/** @param {any} effect */
function effectText(effect) {
  if (!effect) return "waiting for a step boundary";
  return effect.event === "applied" ? `in force from step ${count(effect.step)}` : `superseded by g${effect.by} at step ${count(effect.step)}`;
}
