// @ts-check
// Smoothing of a curve.

/** @typedef {import("./chart_geometry.js").Column} Column */

/**
 * Exponential mean over the steps before each point, without bias towards the first one. The weight of a step falls by
 * e in `span` steps, however many steps a point stands for: zooming does not change the curve.
 * @param {number[]} steps ascending
 * @param {Column} values
 * @param {number} span learner steps
 * @returns {Column} null where a value is missing
 */
export function smoothed(steps, values, span) {
  let [sum, weight, before] = [0, 0, steps[0] - (steps.length > 1 ? steps[1] - steps[0] : 1)];
  return steps.map((step, i) => {
    const value = values[i];
    if (value === null || value === undefined) return null;
    const kept = Math.exp(-(step - before) / span);
    sum = kept * sum + (1 - kept) * value;
    weight = kept * weight + (1 - kept);
    before = step;
    return sum / weight;
  });
}
