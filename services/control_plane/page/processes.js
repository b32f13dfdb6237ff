// @ts-check
// The processes of a run: the learner and each generator, with state, counters and the last heartbeat.

import { el, row, table } from "./dom.js";
import { age, count } from "./format.js";
import { hasEnded, phaseText } from "./phases.js";

const HEADINGS = ["Process", "State", "Policy version", "Staleness", "Tokens", "Groups", "In flight", "Restarts", "Heartbeat"];
/** Seconds without a heartbeat after which a generator counts as lost; it sends one every second. */
const SILENT_SECONDS = 10;

/** The table of processes. */
export function processes() {
  const { table: made, body } = table("Processes of the run", HEADINGS, "stacking");
  return {
    element: el("section", { "aria-labelledby": "processes-title" }, el("h2", { id: "processes-title" }, "Processes"), made),
    /** @param {any} run */
    update(run) {
      const { heartbeat_at, seconds_since_heartbeat, generators, step, phase } = run.status;
      const now = Date.parse(heartbeat_at) / 1000 + seconds_since_heartbeat;
      const ended = hasEnded(phase);
      const ranks = run.spec.config.learner?.workers ?? 1;
      const learner = row(HEADINGS, [
        ranks > 1 ? `learner, ${ranks} ranks` : "learner",
        phaseText(run.status),
        count(step),
        ...Array(5).fill("–"),
        age(seconds_since_heartbeat),
      ]);
      const rows = Object.entries(generators).map(([id, one]) => generator(id, one, step, now, ended));
      body.replaceChildren(learner, ...rows);
    },
  };
}

/**
 * @param {string} id
 * @param {any} one its newest heartbeat
 * @param {number} newest the newest policy version
 * @param {number} now by the clock of the heartbeats, seconds
 * @param {boolean} ended
 */
function generator(id, one, newest, now, ended) {
  const silent = now - one.at;
  const lost = !ended && silent > SILENT_SECONDS;
  const loaded = one.step >= 0 ? one.step : null;
  const made = row(HEADINGS, [
    id,
    lost ? `${one.state}, no heartbeat` : one.state,
    count(loaded),
    loaded === null ? "–" : count(Math.max(0, newest - loaded)),
    count(one.tokens),
    count(one.groups),
    count(one.in_flight),
    count(one.restarts),
    age(silent),
  ]);
  if (lost) made.dataset.state = "warn";
  return made;
}
