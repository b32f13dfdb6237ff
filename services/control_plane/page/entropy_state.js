// @ts-check
// The limits and the state of a run's entropy target, as numbers and text; independent of the page.

import { brief, count, fixed, nats } from "./format.js";

/**
 * @typedef {object} Limits
 * @property {number} low smallest target that one change may set, nats per token
 * @property {number} high
 * @property {number | null} from the target that the size of a change is measured from
 * @property {number} change the largest change
 */

/**
 * What one change may set: a value in the run's range, within the largest change from the current target.
 * @param {any} control the run's `entropy_control`
 * @param {any} target the entropy-target resource
 * @returns {Limits}
 */
export function limitsOf(control, target) {
  const configured = control.target === "auto" ? null : control.target;
  const from = target.spec.target ?? target.status.target ?? configured;
  const change = control.target_max_change;
  return {
    low: from === null ? control.target_min : Math.max(control.target_min, tidy(from - change)),
    high: from === null ? control.target_max : Math.min(control.target_max, tidy(from + change)),
    from,
    change,
  };
}

/**
 * The limits as text for the form.
 * @param {Limits} limits
 */
export function limitsText({ low, high, from, change }) {
  const range = `${tidy(low)} to ${tidy(high)} nats per token`;
  return from === null ? range : `${range}; at most ${tidy(change)} per change`;
}

/**
 * The error in an input; empty without one.
 * @param {string} target
 * @param {string} over
 * @param {Limits} limits
 */
export function fault(target, over, limits) {
  const value = Number(target);
  if (target.trim() === "" || !Number.isFinite(value)) return "Enter a target in nats per token.";
  if (value < limits.low - 1e-9 || value > limits.high + 1e-9) return `The target must lie in ${limitsText(limits)}.`;
  if (!/^\d{1,7}$/.test(over.trim()) || Number(over) > 1e6) return "Enter a whole number of steps for the ramp, 0 to 1,000,000.";
  return "";
}

/**
 * The line of a change that is not made yet: from the target in force, along the ramp, and on to the right. The first
 * step of a ramp is already a part of it.
 * @param {number} next the learner step at which the change begins
 * @param {number | null} from
 * @param {number} target
 * @param {number} over
 * @param {number} beyond steps to draw after the ramp
 * @returns {[number, number][]}
 */
export function previewOf(next, from, target, over, beyond) {
  const start = from ?? target;
  const there = next + Math.max(over, 1) - 1;
  return [[over > 1 ? next - 1 : next, start], [there, target], [there + beyond, target]];
}

/**
 * The rest of the ramp in force; empty at its end.
 * @param {any} target the entropy-target resource
 * @param {number} beyond
 * @returns {[number, number][]}
 */
export function restOfRamp({ spec, status }, beyond) {
  const there = status.applied_from_step + spec.over_steps - 1;
  if (status.state !== "applied" || spec.target === null || status.target === null || there <= status.step) return [];
  return [[status.step, status.target], [there, spec.target], [there + beyond, spec.target]];
}

/**
 * The state of the newest generation in one sentence.
 * @param {any} target
 */
export function stateText({ metadata, status }) {
  const { generation } = metadata;
  switch (status.state) {
    case "applied":
      return `in force from learner step ${count(status.applied_from_step)} (generation ${generation})`;
    case "superseded":
      return `generation ${generation} was superseded by ${status.generation}`;
    default:
      return `generation ${generation} is waiting for the next step boundary`;
  }
}

/**
 * Who made the last change, and when.
 * @param {any} target
 */
export function authorText({ metadata }) {
  const who = metadata.source === "api" ? `set by ${metadata.updated_by}` : `configuration, ${metadata.updated_by}`;
  return `${metadata.updated_by === "configuration" ? "the run's configuration" : who}, ${brief(metadata.updated_at)}`;
}

/**
 * The configured entropy target as text.
 * @param {any} configured
 */
export function configuredText({ target, auto_fraction: share, schedule }) {
  const first = target === "auto" ? `auto (${Math.round(100 * share)} % of the starting entropy)` : nats(target);
  switch (schedule.kind) {
    case "step":
      return [first, ...schedule.points.map((/** @type {number[]} */ [step, value]) => `${nats(value)} from step ${count(step)}`)].join(", ");
    case "linear":
    case "cosine": {
      const start = target === "auto" ? "the starting entropy" : first;
      return `${start} to ${nats(schedule.to)}, ${schedule.kind}, steps ${count(schedule.from_step)} to ${count(schedule.until_step)}`;
    }
    default:
      return `${first}, constant`;
  }
}

/**
 * The ramp to a target.
 * @param {number} over
 */
export function rampText(over) {
  return over ? `linearly over ${count(over)} steps` : "at once";
}

/** @param {number} value */
function tidy(value) {
  return Number(fixed(value, 6));
}

/**
 * What the shading means; advice while entropy control is at the limit of its actuators.
 * @param {any} record the newest
 * @param {boolean} shaded
 */
export function limitText(record, shaded) {
  if (!record?.saturated) return shaded ? "shaded: entropy control was at the limit of its actuators" : "";
  const cooling = record.alarm_kinds?.includes("cooling_at_limit");
  return `at the limit: ${cooling ? "raise alpha_max, lower t_min or raise the target" : "raise alpha_max or lower the target"}`;
}
