// @ts-check
// The charts of a run: the fields of its step records that they show, and what they derive from them.

/** @typedef {import("./chart_geometry.js").Column} Column */
/** @typedef {Record<string, Column>} Columns */

/**
 * @typedef {object} Panel
 * @property {import("./chart.js").Look} look
 * @property {string[]} fields
 * @property {(columns: Columns) => Columns} [derive] the columns to show, if not the fields themselves
 * @property {{value: number, label: string} | null} [limit]
 */

const MISMATCH_KL_ALARM = 0.02;
const STALE_KL_ALLOWANCE = 0.1;

/**
 * The entropy chart, with the history and the preview of the entropy target.
 * @type {Panel}
 */
export const entropyPanel = {
  look: {
    title: "Policy entropy",
    unit: "nats per token",
    large: true,
    lines: [
      { key: "entropy", label: "measured", tone: "measured" },
      { key: "entropy_target", label: "entropy target", tone: "target", kind: "step" },
      { key: "reference", label: "reference", tone: "target", kind: "dotted" },
    ],
  },
  fields: ["entropy", "entropy_target", "reference", "saturated"],
};

/**
 * The other charts of a run.
 * @param {Record<string, any>} config the run's configuration
 * @returns {Panel[]}
 */
export function panelsOf(config) {
  const { max_staleness: stalest = 0, queue_capacity: capacity } = config.pipeline ?? {};
  const limit = MISMATCH_KL_ALARM + STALE_KL_ALLOWANCE * stalest;
  return [
    panel(
      "Temperature",
      "of adaptive rollouts",
      [
        ["temperature", "set", "measured"],
        ["sampling_temperature", "sampled", "tone-3", "dotted"],
      ],
      false,
    ),
    panel("Weight of positives", "α, and surprisal exponent ρ", [
      ["alpha", "α", "measured"],
      ["surprisal_exponent", "ρ", "tone-3"],
    ]),
    panel("Reward", "mean over rollouts", [
      ["reward", "base", "measured"],
      ["adaptive_reward", "adaptive", "tone-3"],
    ]),
    staleness(stalest),
    {
      ...panel("Queue", "groups", [
        ["queue_unread", "unread", "measured"],
        ["queue_pending", "pending", "tone-3"],
      ]),
      limit: capacity ? { value: capacity, label: `capacity ${capacity}` } : null,
    },
    panel("Throughput", "tokens per second", [
      ["learner_tokens_per_second", "learner", "measured"],
      ["generator_tokens_per_second/base", "base", "tone-3"],
      ["generator_tokens_per_second/adaptive", "adaptive", "tone-4"],
    ]),
    stepTime(),
    {
      ...panel("Mismatch KL", "engine to learner, nats", [
        ["mismatch_kl_base", "base", "measured"],
        ["mismatch_kl_adaptive", "adaptive", "tone-3"],
      ]),
      limit: { value: limit, label: `alarm above ${Number(limit.toFixed(3))}` },
    },
  ];
}

/** The chart of pass@k by evaluation; its lines depend on the k evaluated. */
export const passAtK = { title: "Held-out pass@k", unit: "evaluations", top: 1, lines: [] };

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
 * @param {string} title
 * @param {string} unit
 * @param {[string, string, string, ("line" | "dotted")?][]} lines
 * @param {boolean} [zero]
 * @returns {Panel}
 */
function panel(title, unit, lines, zero = true) {
  return {
    look: { title, unit, zero, lines: lines.map(([key, label, tone, kind = "line"]) => ({ key, label, tone, kind })) },
    fields: lines.map(([key]) => key),
  };
}

/**
 * @param {number} stalest
 * @returns {Panel}
 */
function staleness(stalest) {
  const steps = Array.from({ length: stalest + 1 }, (_, step) => step);
  const { look } = panel("Staleness", "learner steps", [
    ["mean", "mean", "measured"],
    ["largest", "largest", "tone-3"],
  ]);
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
    look: { title: "Step time", unit: "seconds", zero: true, stacked: true, lines },
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
