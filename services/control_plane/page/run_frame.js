// @ts-check
// Which parts of the view of a run are shown: the stages of its start, what it shows while it learns, how it ended.

import { saw } from "./connection.js";
import { el } from "./dom.js";
import { Outcome } from "./outcome.js";
import { hasEnded } from "./phases.js";
import { Start } from "./start.js";

/** The frame of the view. `update` shows a run; `tick` is to be called every second. */
export class RunFrame {
  /** @type {any} */
  #run = null;

  /**
   * @param {import("./header.js").Header} header
   * @param {HTMLElement[]} parts shown from the first step on
   * @param {HTMLElement} processes shown until the run has ended
   * @param {HTMLElement} details always shown
   */
  constructor(header, parts, processes, details) {
    this.header = header;
    this.start = new Start();
    this.outcome = new Outcome();
    this.processes = processes;
    this.body = el("div", { class: "run-body", hidden: true }, ...parts);
    this.element = el("div", { class: "view" }, header.element, this.outcome.element, this.start.element, this.body, details);
  }

  /**
   * @param {any} run
   * @param {number} now by the clock of the heartbeats, seconds
   */
  update(run, now) {
    this.#run = run;
    saw(run);
    const { phase, record } = run.status;
    const ended = hasEnded(phase);
    this.element.dataset.ended = String(ended);
    this.body.hidden = !record;
    this.processes.hidden = ended;
    this.start.element.hidden = Boolean(record) || ended;
    this.start.update(run, now);
    this.outcome.update(run, now);
  }

  /** @param {number} now by the clock of the heartbeats, seconds */
  tick(now) {
    this.header.tick();
    this.start.tick(now);
    if (this.#run) this.outcome.tick(this.#run, now);
  }
}
