// @ts-check
// The horizontal axis: learner steps, time or tokens. It places steps, and says what a place means.

import { axis } from "./chart_geometry.js";
import { count, si } from "./format.js";
import { elapsedText, timeTicks } from "./time_axis.js";

/** @typedef {"step" | "elapsed" | "clock" | "tokens"} Kind */

/** @type {Kind[]} */
export const KINDS = ["step", "elapsed", "clock", "tokens"];

/** @type {Record<Kind, string>} */
export const KIND_NAMES = {
  step: "learner step",
  elapsed: "time since the first step",
  clock: "time of day",
  tokens: "response tokens learned",
};

/** Fields of the step record from which places are computed. */
export const PLACE_FIELDS = ["at", "tokens"];

/** Maps the learner steps of a run to places on an axis, and back. */
export class Horizontal {
  /** @type {number[]} */
  #steps;
  /** @type {number[]} */
  #places;

  /**
   * @param {Kind} kind
   * @param {import("./series.js").Series} [whole] `PLACE_FIELDS` of the whole run; not needed for steps
   * @param {import("./series.js").Series} [part] the same of the steps shown, which may be finer
   */
  constructor(kind, whole, part) {
    this.kind = kind;
    const knots = kind === "step" || !whole ? { steps: [], places: [] } : kind === "tokens" ? tokenKnots(whole) : timeKnots(whole, part, kind);
    this.#steps = knots.steps;
    this.#places = knots.places;
  }

  /** Whether places can be told: a run without steps has no times. */
  get known() {
    return this.kind === "step" || this.#steps.length > 0;
  }

  /**
   * The place of a step, in units of the axis: steps, seconds or tokens.
   * @param {number} step
   */
  place(step) {
    return this.kind === "step" ? step : between(step, this.#steps, this.#places);
  }

  /**
   * The step at a place; not whole between two steps.
   * @param {number} place
   */
  step(place) {
    return this.kind === "step" ? place : between(place, this.#places, this.#steps);
  }
}

/**
 * Round places between two others, with their text.
 * @param {Kind} kind
 * @param {number} first
 * @param {number} last
 * @param {number} wanted about how many
 * @returns {{place: number, text: string}[]}
 */
export function ticksOf(kind, first, last, wanted) {
  if (kind === "elapsed" || kind === "clock") return timeTicks(kind, first, last, wanted);
  const { ticks } = axis(first, last, wanted, false);
  if (kind === "tokens") return ticks.map((place) => ({ place, text: si(place) }));
  return ticks.filter(Number.isInteger).map((place) => ({ place, text: count(place) }));
}

/**
 * A place in words.
 * @param {Kind} kind
 * @param {number} place
 */
export function placeText(kind, place) {
  switch (kind) {
    case "step":
      return `step ${count(place)}`;
    case "tokens":
      return `${si(place)} tokens`;
    case "elapsed":
      return elapsedText(place);
    default:
      return new Date(1000 * place).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  }
}

/**
 * Times at the end of steps; where both series have steps, those of `part`.
 * @param {import("./series.js").Series} whole
 * @param {import("./series.js").Series | undefined} part
 * @param {Kind} kind
 */
function timeKnots(whole, part, kind) {
  const knots = ends(whole);
  const fine = part ? ends(part) : [];
  const [from, to] = [fine[0]?.[0] ?? Infinity, fine.at(-1)?.[0] ?? -Infinity];
  const merged = [...knots.filter(([step]) => step < from), ...fine, ...knots.filter(([step]) => step > to)];
  const start = kind === "elapsed" ? (whole.lowest.at?.[0] ?? knots[0]?.[1] ?? 0) : 0;
  let latest = -Infinity;
  // Clocks of machines differ: time must not run backwards where a learner restarted elsewhere.
  const places = merged.map(([, at]) => (latest = Math.max(latest, at - start)));
  return { steps: merged.map(([step]) => step), places };
}

/**
 * Steps and the times at their ends.
 * @param {import("./series.js").Series} series
 * @returns {[number, number][]}
 */
function ends({ steps, values, highest }) {
  return steps.flatMap((step, i) => {
    const at = highest.at?.[i] ?? values.at?.[i] ?? null;
    return at === null ? [] : [/** @type {[number, number]} */ ([step, at])];
  });
}

/**
 * Tokens up to each step.
 * @param {import("./series.js").Series} whole
 */
function tokenKnots({ steps, values }) {
  let [sum, before] = [0, -1];
  const places = steps.map((step, i) => {
    sum += (values.tokens?.[i] ?? 0) * (step - before);
    before = step;
    return sum;
  });
  return { steps, places };
}

/**
 * Linear interpolation; beyond the ends, the mean slope goes on.
 * @param {number} x
 * @param {number[]} xs ascending
 * @param {number[]} ys
 */
function between(x, xs, ys) {
  const last = xs.length - 1;
  if (last < 0) return 0;
  if (last === 0) return ys[0];
  if (x < xs[0] || x > xs[last]) {
    const slope = (ys[last] - ys[0]) / (xs[last] - xs[0] || 1);
    return x < xs[0] ? ys[0] + (x - xs[0]) * slope : ys[last] + (x - xs[last]) * slope;
  }
  let [low, high] = [0, last];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle;
    else high = middle;
  }
  return xs[high] === xs[low] ? ys[low] : ys[low] + ((x - xs[low]) / (xs[high] - xs[low])) * (ys[high] - ys[low]);
}
