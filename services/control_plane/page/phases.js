// @ts-check
// The phases of a run: their order, their words, and what they say about the run.

/** Phases of an ended run. */
const ENDED = ["finished", "failed"];
/** Phases after the last step. */
const ENDING = ["stopping", "saving", "learned", "reporting"];
/** Phases in which learner steps are made. */
const LEARNING = ["running", "paused"];
/** Seconds without a heartbeat of driver or learner after which a run that has not ended is stale. */
export const STALE_SECONDS = 30;

/** @type {Record<string, string>} */
const WORDS = {
  starting: "starting",
  starting_model: "preparing the starting model",
  starting_ray: "starting Ray",
  starting_engines: "starting the engines",
  evaluating: "evaluating",
  starting_learner: "waiting for the learner",
  running: "learning",
  paused: "paused",
  stopping: "stopping",
  saving: "saving",
  learned: "ending the learner",
  reporting: "writing the report",
  finished: "finished",
  failed: "failed",
};
/** @type {Record<string, string>} */
const ASKED = { pause: "pausing", stop: "stopping", run: "resuming" };

/**
 * The phase in words, with its detail, and the requested state if it differs.
 * @param {{phase: string, phase_detail?: string | null, step: number, of: number}} status
 * @param {string} [control]
 */
export function phaseText({ phase, phase_detail, step, of }, control) {
  const words = [phase === "finished" && step < of ? "stopped" : (WORDS[phase] ?? phase.replaceAll("_", " "))];
  if (phase_detail) words.push(phase_detail);
  if (differs(phase, control)) words.push(ASKED[control ?? ""]);
  return words.join(", ");
}

/** @param {string} phase */
export function hasEnded(phase) {
  return ENDED.includes(phase);
}

/**
 * Whether the run makes no further step: it has ended, or is about to.
 * @param {{phase: string, step: number, of: number}} status
 */
export function isEnding({ phase, step, of }) {
  return hasEnded(phase) || ENDING.includes(phase) || (phase === "evaluating" && step >= of);
}

/**
 * How far a run that has made no step is, as the place of its phase among the stages of a start; after the last one it
 * waits for its first step. -1: before the first stage.
 * @param {string} phase
 */
export function stageOf(phase) {
  return LEARNING.includes(phase) || ENDING.includes(phase) ? STAGES.length - 1 : STAGES.findIndex((stage) => stage.phase === phase);
}

/** The stages of a start, in order. */
export const STAGES = [
  { phase: "starting_model", title: "Starting model", what: "It is found, downloaded, or trained in a warm start." },
  { phase: "starting_ray", title: "Ray", what: "The cluster of this run starts." },
  { phase: "starting_engines", title: "Engines", what: "The generators load the model into vLLM." },
  { phase: "evaluating", title: "Evaluation", what: "Held-out problems are sampled before the first step, for comparison." },
  { phase: "starting_learner", title: "Learner", what: "Its ranks load the model." },
  { phase: "running", title: "First step", what: "Generators sample the first batch, and the learner takes its first step." },
];

/**
 * @param {string} phase
 * @param {string | undefined} control
 */
function differs(phase, control) {
  return (
    (control === "pause" && phase !== "paused" && !hasEnded(phase)) ||
    (control === "stop" && !ENDING.includes(phase) && !hasEnded(phase)) ||
    (control === "run" && phase === "paused")
  );
}
