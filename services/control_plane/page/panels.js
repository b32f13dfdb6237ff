// @ts-check
// The charts of a run, grouped by the question that they answer: fields, limits, explanations.

import { level, precise } from "./format.js";
import { LINE_NOTES, NOTES } from "./panel_notes.js";

/** @typedef {import("./chart_geometry.js").Column} Column */
/** @typedef {Record<string, Column>} Columns */
/** @typedef {import("./chart.js").Limit} Limit */

/**
 * @typedef {object} Panel
 * @property {import("./chart.js").Look} look
 * @property {string[]} fields of the step record
 * @property {(columns: Columns) => Columns} [derive] the columns to show, if not the fields themselves
 * @property {Limit[]} [limits]
 */

/** @typedef {{title: string, question: string, panels: Panel[]}} Group */

/** @typedef {[key: string, label: string, tone: string, kind?: "line" | "dotted"]} LineSpec */

const MISMATCH_KL_ALARM = 0.02;
const STALE_KL_ALLOWANCE = 0.1;
/** Entropy is on target within this share of it. */
export const TARGET_TOLERANCE = 0.1;

/**
 * The entropy chart, with the history and the preview of the entropy target.
 * @type {Panel}
 */
export const entropyPanel = {
  look: {
    title: "Policy entropy",
    unit: "nats per token",
    large: true,
    format: level,
    note: NOTES["Policy entropy"],
    lines: [
      { key: "entropy", label: "measured", tone: "measured" },
      { key: "entropy_target", label: "entropy target", tone: "target", kind: "step", note: LINE_NOTES.entropy_target },
      { key: "reference", label: "reference", tone: "target", kind: "dotted", note: LINE_NOTES.reference },
    ],
  },
  fields: ["entropy", "entropy_target", "reference", "saturated"],
};

const HELD_OUT = "Held-out pass@";

/** The chart of pass@k by evaluation; its lines depend on the k evaluated. */
export const passAtK = { title: `${HELD_OUT}k`, unit: "evaluations", note: NOTES["Held-out pass@k"], top: 1, zero: true, lines: [] };

/**
 * Lines and columns of pass@k.
 * @param {{step: number, pass_at_k: Record<string, number>}[]} evaluations
 */
export function passCurves(evaluations) {
  const ks = [...new Set(evaluations.flatMap((one) => Object.keys(one.pass_at_k)))].sort((a, b) => Number(a) - Number(b));
  const lines = ks.slice(0, 4).map((k, i) => {
    const tone = ["measured", "tone-3", "tone-4", "tone-5"][i];
    return /** @type {import("./chart.js").Line} */ ({ key: k, label: `pass@${k}`, tone, kind: "points" });
  });
  const values = Object.fromEntries(ks.map((k) => [k, evaluations.map((one) => one.pass_at_k[k] ?? null)]));
  return { lines, steps: evaluations.map((one) => one.step), values };
}

/**
 * The panel reduced to one line, for a chart that has one line for each of several runs.
 * @param {Panel} whole
 * @returns {Panel}
 */
export function overlaid(whole) {
  const { look } = whole;
  if (look.stacked) return { look: { ...look, stacked: false, lines: [{ key: "step_seconds", label: "step", tone: "measured" }] }, fields: ["step_seconds"] };
  const [line] = look.lines;
  const unit = look.lines.length > 1 ? [look.unit, line.label].filter(Boolean).join(", ") : look.unit;
  return { ...whole, look: { ...look, unit, lines: [line] }, fields: whole.derive ? whole.fields : [line.key], limits: whole.limits?.filter(({ of }) => of === line.key) };
}

/**
 * The groups of charts, without entropy and pass@k.
 * @param {Record<string, any>} config the run's configuration
 * @returns {Group[]}
 */
export function groupsOf(config) {
  return [
    { title: "Entropy control", question: "By what is entropy held, and is there room left?", panels: control(config) },
    { title: "Reward and exploration", question: "Does the policy solve more problems?", panels: reward() },
    { title: "Learner stability", question: "Are the updates sound?", panels: learner(config) },
    { title: "Response length", question: "Do answers grow, and do they fit?", panels: lengths(config) },
    { title: "Pipeline", question: "How old is what the learner learns from, and does the queue fill up?", panels: pipeline(config) },
    { title: "Throughput", question: "How fast is it, and what does the time go to?", panels: [speed(), stepTime(), busy()] },
  ];
}

/**
 * @param {Record<string, any>} config
 * @returns {Panel[]}
 */
function control({ entropy_control: law = {}, regularizer = {} }) {
  const { t_min, t_max, alpha_max, surprisal_exponent_max } = law[law.kind] ?? {};
  /** @type {LineSpec[]} */
  const temperatures = [["temperature", "set", "measured"], ["sampling_temperature", "sampled", "tone-3", "dotted"]];
  const panels = [
    limited(panel("Temperature", "of adaptive rollouts", temperatures, false), ["temperature", t_min, "lowest"], ["temperature", t_max, "highest"]),
    limited(panel("Weight of positives", "α", [["alpha", "α", "measured"]]), ["alpha", alpha_max, "highest"]),
    limited(panel("Surprisal exponent", "ρ", [["surprisal_exponent", "ρ", "measured"]]), ["surprisal_exponent", surprisal_exponent_max, "highest"]),
  ];
  const rival = regularizer.kind && regularizer.kind !== "none";
  return rival ? [...panels, panel("Regularizer strength", regularizer.kind.replaceAll("_", " "), [["regularizer_strength", "strength", "measured"]], true, precise)] : panels;
}

/** @returns {Panel[]} */
function reward() {
  return [
    panel("Reward", "mean over rollouts", [["reward", "base", "measured"], ["adaptive_reward", "adaptive", "tone-3"]]),
    panel("Learning signal", "per step", [["positives", "positives", "measured"], ["auxiliary_effective", "effective", "tone-4"], ["uniform_groups", "uniform groups", "tone-3"], ["unscored_rollouts", "unscored rollouts", "tone-2"]]),
  ];
}

/**
 * @param {Record<string, any>} config
 * @returns {Panel[]}
 */
function learner({ optimizer = {}, pipeline: { max_staleness: stalest = 0 } = {}, loss = {} }) {
  const alarm = MISMATCH_KL_ALARM + STALE_KL_ALLOWANCE * stalest;
  const panels = [
    limited(panel("Gradient norm", "before clipping", [["gradient_norm", "norm", "measured"]]), ["gradient_norm", optimizer.gradient_clip, "clipped above"]),
    panel("Clipped tokens", "share", [["clip_fraction", "clipped", "measured"]], true, precise),
    limited(panel("Learning rate", "", [["learning_rate", "rate", "measured"]], true, precise), ["learning_rate", optimizer.learning_rate, "configured"]),
    limited(panel("Mismatch KL", "engine to learner, nats", [["mismatch_kl_base", "base", "measured"], ["mismatch_kl_adaptive", "adaptive", "tone-3"]]), ["mismatch_kl_base", alarm, "alarm above"]),
    panel("Ratio deviation", "largest |ratio − 1|", [["ratio_deviation_base", "base", "measured"], ["ratio_deviation_adaptive", "adaptive", "tone-3"]]),
    panel("Loss", "per step", [["surrogate", "policy", "measured"], ["auxiliary", "auxiliary", "tone-3"]], false, precise),
  ];
  const anchored = loss.reference && loss.reference !== "none";
  return anchored ? [...panels, panel("Reference KL", "policy to start, nats", [["reference_kl", "KL", "measured"]])] : panels;
}

/**
 * @param {Record<string, any>} config
 * @returns {Panel[]}
 */
function lengths({ rollout = {} }) {
  return [
    limited(panel("Response length", "tokens, mean", [["response_length", "length", "measured"]]), ["response_length", rollout.max_new_tokens, "longest allowed"]),
    panel("Truncated responses", "share", [["truncated_share", "truncated", "measured"]], true, precise),
    panel("Tokens", "per step", [["tokens", "learned", "measured"], ["generated_tokens", "sampled", "tone-3"]]),
  ];
}

/**
 * @param {Record<string, any>} config
 * @returns {Panel[]}
 */
function pipeline({ pipeline: { max_staleness: stalest = 0, queue_capacity: capacity } = {} }) {
  return [
    limited(staleness(stalest), ["largest", stalest, "most allowed"]),
    limited(panel("Unread groups", "in the queue", [["queue_unread", "unread", "measured"]]), ["queue_unread", capacity, "capacity"]),
    panel("Pending groups", "not yet acknowledged", [["queue_pending", "pending", "measured"]]),
  ];
}

/** @returns {Panel} */
function speed() {
  return panel("Tokens per second", "", [
    ["learner_tokens_per_second", "learner", "measured"],
    ["generator_tokens_per_second/base", "base", "tone-3"],
    ["generator_tokens_per_second/adaptive", "adaptive", "tone-4"],
  ]);
}

/** @returns {Panel} */
function busy() {
  const made = panel("Busy generators", "share of time", [["generator_busy_share/base", "base", "measured"], ["generator_busy_share/adaptive", "adaptive", "tone-3"]]);
  return { ...made, look: { ...made.look, top: 1 } };
}

/**
 * The title of a chart of pass@k for one k.
 * @param {number} k
 */
export function passTitle(k) {
  return `${HELD_OUT}${k}`;
}

/**
 * The k of a chart of pass@k; null for any other chart.
 * @param {string} title
 */
export function passKey(title) {
  return title.startsWith(HELD_OUT) ? title.slice(HELD_OUT.length) : null;
}

/**
 * @param {string} title
 * @param {string} unit
 * @param {LineSpec[]} lines
 * @param {boolean} [zero]
 * @param {import("./chart.js").Look["format"]} [format]
 * @returns {Panel}
 */
function panel(title, unit, lines, zero = true, format = undefined) {
  const drawn = lines.map(([key, label, tone, kind = "line"]) => ({ key, label, tone, kind, note: LINE_NOTES[key] }));
  return { look: { title, unit, zero, format, note: NOTES[title], lines: drawn }, fields: lines.map(([key]) => key) };
}

/**
 * A panel with limits; one without a value is left out.
 * @param {Panel} made
 * @param {[of: string, value: number | null | undefined, label: string][]} limits
 * @returns {Panel}
 */
function limited(made, ...limits) {
  const known = limits.flatMap(([of, value, label]) => (typeof value === "number" ? [{ of, value, label: `${label} ${value >= 1000 ? value.toLocaleString("en") : precise(value)}` }] : []));
  return { ...made, limits: known };
}

/**
 * @param {number} stalest
 * @returns {Panel}
 */
function staleness(stalest) {
  const steps = Array.from({ length: stalest + 1 }, (_, step) => step);
  const { look } = panel("Staleness", "learner steps", [["mean", "mean", "measured"], ["largest", "largest", "tone-3"]]);
  return {
    look,
    fields: steps.map((step) => `staleness/${step}`),
    derive: (columns) => {
      const of = (/** @type {number} */ step) => columns[`staleness/${step}`] ?? [];
      const rows = of(0).map((_, i) => steps.map((step) => of(step)[i] ?? 0));
      return {
        mean: rows.map((counts) => ratio(sum(counts.map((n, step) => n * step)), sum(counts))),
        largest: rows.map((counts) => (sum(counts) ? counts.findLastIndex((n) => n > 0) : null)),
      };
    },
  };
}

/** @returns {Panel} */
function stepTime() {
  const parts = ["wait", "batch", "learn", "publish", "checkpoint"];
  const tones = ["tone-4", "tone-6", "measured", "tone-3", "tone-5", "tone-2"];
  const labels = ["waiting", "batching", "learning", "publishing", "checkpoint", "other"];
  const lines = [...parts, "other"].map((key, i) => ({ key, label: labels[i], tone: tones[i] }));
  return {
    look: { title: "Step time", unit: "seconds", note: NOTES["Step time"], zero: true, stacked: true, lines },
    fields: [...parts.map((part) => `${part}_seconds`), "step_seconds"],
    derive: (columns) => {
      const known = parts.map((part) => columns[`${part}_seconds`] ?? []);
      const whole = columns.step_seconds ?? [];
      const other = whole.map((all, i) => Math.max(0, (all ?? 0) - sum(known.map((column) => column[i] ?? 0))));
      return { ...Object.fromEntries(parts.map((part, i) => [part, known[i]])), other };
    },
  };
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/**
 * @param {number} part
 * @param {number} whole
 */
function ratio(part, whole) {
  return whole ? part / whole : null;
}
