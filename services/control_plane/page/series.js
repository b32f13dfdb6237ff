// @ts-check
// The metrics of a run: means from the server, with new steps appended until the next reload.

import { call, runPath } from "./api.js";

/** Points requested for the steps to show. */
const ROWS = 400;
/** The most rows of one answer. */
export const MOST_ROWS = 2000;
/** Points appended before the next reload. */
const APPENDED = 40;

/**
 * Numeric fields of a step record by name, entries of maps as `name/key`, like `services.records.step_record.flatten`.
 * @param {Record<string, any>} record
 */
function flatten(record) {
  /** @type {Record<string, number | null>} */
  const flat = {};
  for (const [name, value] of Object.entries(record)) {
    if (typeof value === "number" || typeof value === "boolean") flat[name] = Number(value);
    else if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, entry] of Object.entries(value)) flat[`${name}/${key}`] = Number(entry);
    }
  }
  return flat;
}

/** @typedef {import("./chart_geometry.js").Column} Column */

/**
 * The steps to show.
 * @typedef {object} Wanted
 * @property {number} recent so many of the newest ones; 0: those from `from` to `to`
 * @property {number} from
 * @property {number | null} to null: the newest
 * @property {number} margin steps to load before the first one, for what depends on the past
 */

/** Columns over the learner step. */
export class Series {
  /** The last step of each point. @type {number[]} */
  steps = [];
  /** Means over the steps of each point. @type {Record<string, Column>} */
  values = {};
  /** Smallest value among the steps of each point. @type {Record<string, Column>} */
  lowest = {};
  /** Largest value among the steps of each point. @type {Record<string, Column>} */
  highest = {};
  /** The newest record's fields. @type {Record<string, number | null>} */
  newest = {};
  /** The newest step up to which the curves are complete; -1 without one. */
  last = -1;
  /** The steps to show from the next load on. @type {Wanted} */
  wanted = { recent: 0, from: 0, to: null, margin: 0 };
  /** The steps of the loaded data. @type {Wanted} */
  #shown = this.wanted;
  #lineage = -1;
  #appended = 0;
  /** Steps per point in the server's answer. */
  #stride = 1;
  /** The records of the last point; empty if the point is from the server. @type {Record<string, number | null>[]} */
  #tail = [];
  /** Records received during a load. @type {Record<string, any>[] | null} */
  #held = null;

  /**
   * @param {string} run
   * @param {string[]} fields
   */
  constructor(run, fields) {
    this.run = run;
    this.fields = fields;
  }

  /** Whether a reload is due. */
  get overdue() {
    return this.#appended > APPENDED;
  }

  /**
   * First and last step to show.
   * @returns {[number, number]}
   */
  get domain() {
    const { recent, from, to } = this.#shown;
    const last = Math.max(1, to ?? this.last);
    return recent ? [Math.max(0, last - recent + 1), last] : [Math.min(from, last - 1), last];
  }

  /**
   * Read the curves of the wanted steps.
   * @param {AbortSignal} signal
   * @param {number} newest step that is known to exist
   */
  async load(signal, newest) {
    this.#held ??= [];
    const wanted = this.wanted;
    const { recent, from, to, margin } = wanted;
    const first = recent ? Math.max(0, newest - recent + 1) : from;
    const early = Math.max(0, first - margin);
    const rows = Math.min(MOST_ROWS, Math.ceil((ROWS * ((to ?? newest) - early + 1)) / Math.max(1, (to ?? newest) - first + 1)));
    const query = new URLSearchParams({ fields: this.fields.join(","), first: String(early), rows: String(Math.max(1, rows)), extremes: "true" });
    if (to !== null) query.set("last", String(to));
    try {
      const { body } = await call(runPath(this.run, `/metrics?${query}`), { signal });
      if (this.wanted !== wanted) return;
      this.#shown = wanted;
      ({ steps: this.steps, values: this.values, lowest: this.lowest, highest: this.highest } = body);
      this.last = to === null ? (this.steps.at(-1) ?? -1) : newest;
      this.#appended = 0;
      this.#tail = [];
      this.#stride = Math.max(1, Math.round((body.last - body.first + 1) / Math.max(1, body.steps.length)));
    } finally {
      const held = this.#held ?? [];
      this.#held = null;
      for (const record of held) this.append(record);
    }
  }

  /**
   * Store the newest record without adding it to the curves. Returns false if a newer lineage
   * repeats a step of the curves: the learner has rolled back to a checkpoint.
   * @param {Record<string, any>} record
   */
  know(record) {
    const back = this.#lineage >= 0 && record.lineage > this.#lineage && record.step <= this.last;
    if (record.step >= (this.newest.step ?? -1) || back) this.newest = this.#flat(record);
    this.#lineage = Math.max(this.#lineage, record.lineage);
    return !back;
  }

  /**
   * Add the record of a new step to the curves. Returns false after a rollback, like `know`.
   * @param {Record<string, any>} record
   */
  append(record) {
    const onwards = this.know(record);
    if (this.#held) this.#held.push(record);
    else if (record.step > this.last) {
      this.last = record.step;
      if (record.step <= (this.#shown.to ?? Infinity)) this.#extend(record.step, this.#flat(record));
      this.#forget();
    }
    return onwards;
  }

  /**
   * Put a step into the last point, or begin the next one: points to the right are means like those to the left.
   * @param {number} step
   * @param {Record<string, number | null>} flat
   */
  #extend(step, flat) {
    const fresh = this.#tail.length === 0 || this.#tail.length >= this.#stride;
    if (fresh) this.#tail = [];
    this.#tail.push(flat);
    const at = fresh ? this.steps.length : this.steps.length - 1;
    this.#appended += fresh ? 1 : 0;
    this.steps[at] = step;
    for (const field of this.fields) {
      const known = this.#tail.map((one) => one[field] ?? null).filter((value) => value !== null);
      (this.values[field] ??= [])[at] = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      (this.lowest[field] ??= [])[at] = known.length ? Math.min(...known) : null;
      (this.highest[field] ??= [])[at] = known.length ? Math.max(...known) : null;
    }
  }

  /**
   * The record's fields; a staleness that no rollout has counts 0, as in the curves of the control plane.
   * @param {Record<string, any>} record
   */
  #flat(record) {
    const flat = flatten(record);
    for (const field of this.fields) if (field.startsWith("staleness/")) flat[field] ??= 0;
    return flat;
  }

  #forget() {
    const { recent, margin } = this.#shown;
    const before = recent ? this.steps.findIndex((step) => step >= this.domain[0] - margin) : 0;
    if (before <= 0) return;
    this.steps.splice(0, before);
    for (const columns of [this.values, this.lowest, this.highest]) for (const field of this.fields) columns[field].splice(0, before);
  }
}
