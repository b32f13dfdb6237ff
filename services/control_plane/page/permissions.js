// @ts-check
// Whether this page may change a run, and the reason if not.

import { call } from "./api.js";
import { hasEnded } from "./phases.js";

/** @typedef {{forbid: (why: string) => void}} Closable disabled with a reason; enabled by an empty one */

/** What this token may change, and what the state of the run allows. */
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

  /** Read the scopes of the token. */
  async load() {
    const { body } = await call("/v1/token", { signal: this.signal });
    /** @type {{run_id: string | null, name: string, scope: string}[]} */
    const grants = body.grants;
    const grant = grants.find((one) => one.run_id === this.run) ?? grants.find((one) => one.run_id === null);
    this.#scopeReason = grant?.scope === "viewer" ? `The token “${grant.name}” has the scope viewer and cannot change the run.` : "";
  }

  /**
   * Disable the controls that cannot be used, with the reason.
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
  if (hasEnded(phase)) return `The run has ${phase}: no learner step would apply a new target.`;
  return control === "stop" ? "The run is stopping: no learner step would apply a new target." : "";
}
