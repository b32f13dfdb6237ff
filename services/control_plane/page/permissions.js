// @ts-check
// Whether this page may change a run, and the sentence for a reader who cannot.

import { call } from "./api.js";

const ENDED = ["finished", "failed"];

/** @typedef {{forbid: (why: string) => void}} Closable takes a reason to be closed; an empty one opens it */

/** What this token may do about a run, and what the run lets anybody do. */
export class Permit {
  #scopeReason = "";

  /**
   * @param {string} run
   * @param {AbortSignal} signal
   */
  constructor(run, signal) {
    this.run = run;
    this.signal = signal;
  }

  /** Ask what the token may do. */
  async load() {
    const { body } = await call("/v1/token", { signal: this.signal });
    /** @type {{run_id: string | null, name: string, scope: string}[]} */
    const grants = body.grants;
    const grant = grants.find((one) => one.run_id === this.run) ?? grants.find((one) => one.run_id === null);
    this.#scopeReason = grant?.scope === "viewer" ? `The token “${grant.name}” is a viewer's: it sees the run and cannot change it.` : "";
  }

  /**
   * Close what cannot be used, with the reason.
   * @param {any} run
   * @param {Closable} actions
   * @param {Closable} entropyTarget
   */
  apply(run, actions, entropyTarget) {
    actions.forbid(this.#scopeReason);
    entropyTarget.forbid(this.#scopeReason || phaseReason(run.status.phase, run.spec.control));
  }
}

/**
 * @param {string} phase
 * @param {string} control
 */
function phaseReason(phase, control) {
  if (ENDED.includes(phase)) return `The run has ${phase}: no learner step would take up another target.`;
  return control === "stop" ? "The run is stopping: no learner step would take up another target." : "";
}
