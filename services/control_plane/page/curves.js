// @ts-check
// From the series of a run to the curves of a chart: places on the axis, smoothing, ranges.

import { smoothed } from "./smoothing.js";

/** @typedef {import("./chart_geometry.js").Column} Column */
/** @typedef {import("./chart.js").Curve} Curve */

/**
 * @typedef {object} Shown
 * @property {import("./series.js").Series} series
 * @property {number[]} places one per point of the series
 * @property {import("./chart_options.js").Choice} choice
 */

/**
 * The places of a series' points.
 * @param {import("./series.js").Series} series
 * @param {import("./horizontal.js").Horizontal} horizontal
 */
export function placesOf(series, horizontal) {
  return series.steps.map((step) => horizontal.place(step));
}

/**
 * The curves of a panel, by the keys of its lines. Lines are smoothed; targets, stacks and derived columns keep to what they say.
 * @param {import("./panels.js").Panel} panel
 * @param {Shown} shown
 * @returns {Record<string, Curve>}
 */
export function curvesOf({ look, derive }, { series, places, choice }) {
  const columns = derive ? derive(series.values) : series.values;
  return Object.fromEntries(
    look.lines.map(({ key, kind = "line" }) => {
      const values = columns[key] ?? [];
      const plain = kind === "line" && !look.stacked;
      const smooth = plain && choice.span > 0 ? smoothed(series.steps, values, choice.span) : null;
      const ranged = plain && choice.range && !derive && hides(series, key);
      return [key, { places, values, smooth, ...(ranged ? { low: series.lowest[key], high: series.highest[key] } : {}) }];
    }),
  );
}

/**
 * The newest values of a panel's lines.
 * @param {import("./panels.js").Panel} panel
 * @param {import("./series.js").Series} series
 * @returns {Record<string, number | null> | undefined} undefined before the first step
 */
export function newestOf({ derive }, { newest, steps }) {
  if (!derive) return newest;
  if (steps.length === 0) return undefined;
  const last = derive(Object.fromEntries(Object.entries(newest).map(([name, value]) => [name, [value]])));
  return Object.fromEntries(Object.entries(last).map(([name, column]) => [name, column[0] ?? null]));
}

/**
 * The curve with a tolerance around it.
 * @param {Curve} curve
 * @param {number} share of the value
 * @returns {Curve}
 */
export function tolerated(curve, share) {
  const part = (/** @type {number} */ factor) => curve.values.map((value) => (value === null ? null : value * factor));
  return { ...curve, low: part(1 - share), high: part(1 + share) };
}

/**
 * Whether a point of the line stands for more than one step.
 * @param {import("./series.js").Series} series
 * @param {string} key
 */
function hides({ values, lowest, highest }, key) {
  return Boolean(lowest[key] && highest[key] && lowest[key].length === values[key]?.length && lowest[key].some((low, i) => low !== highest[key][i]));
}
