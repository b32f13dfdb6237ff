// @ts-check
// What the charts of a view show, and how: axis, range, smoothing. Kept in the address, so that a link shows the same.

import { keepOptions } from "./address.js";
import { KINDS } from "./horizontal.js";

/** Time constants of the smoothing, learner steps; 0: none. */
export const SPANS = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** @typedef {import("./horizontal.js").Kind} Kind */

/**
 * @typedef {object} Choice
 * @property {Kind} axis
 * @property {number} span time constant of the smoothing, learner steps
 * @property {boolean} range whether the lowest and the highest value of each point are shown
 * @property {[number, number] | null} zoom the part of the axis to show, in its units; null: all of it
 * @property {number} recent the newest steps to show; 0: all
 * @property {boolean} seeds whether compared runs that differ only in their seed are one line
 */

/** The options of a view's charts. */
export class ChartOptions {
  /** @type {Set<(before: Choice) => void>} */
  #followers = new Set();

  /** @param {URLSearchParams} given from the address; what is not valid has its default */
  constructor(given) {
    this.choice = read(given);
  }

  /** @param {(before: Choice) => void} act called after a change */
  follow(act) {
    this.#followers.add(act);
  }

  /** @param {Partial<Choice>} part the options that change */
  change(part) {
    const before = this.choice;
    this.choice = { ...before, ...part };
    keepOptions(written(this.choice));
    for (const act of this.#followers) act(before);
  }
}

/**
 * @param {URLSearchParams} given
 * @returns {Choice}
 */
export function read(given) {
  const axis = KINDS.find((kind) => kind === given.get("x")) ?? "step";
  const [from, to] = ["from", "to"].map((name) => (given.has(name) ? Number(given.get(name)) : NaN));
  const recent = Number(given.get("last"));
  return {
    axis,
    span: SPANS.find((span) => String(span) === given.get("smooth")) ?? 0,
    range: given.get("range") !== "off",
    zoom: Number.isFinite(from) && Number.isFinite(to) && from < to ? [from, to] : null,
    recent: Number.isInteger(recent) && recent > 0 ? recent : 0,
    seeds: given.get("seeds") === "mean",
  };
}

/**
 * @param {Choice} choice
 */
export function written({ axis, span, range, zoom, recent, seeds }) {
  const options = new URLSearchParams();
  if (axis !== "step") options.set("x", axis);
  if (span) options.set("smooth", String(span));
  if (!range) options.set("range", "off");
  if (seeds) options.set("seeds", "mean");
  if (recent) options.set("last", String(recent));
  if (zoom) {
    options.set("from", String(Number(zoom[0].toPrecision(12))));
    options.set("to", String(Number(zoom[1].toPrecision(12))));
  }
  return options;
}
