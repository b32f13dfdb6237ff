// @ts-check
// What the view of a run shows before its first step: the stages of the start, and how long each takes.

import { el, say } from "./dom.js";
import { duration } from "./format.js";
import { STAGES, phaseText, stageOf } from "./phases.js";

/** The list of stages. `update` shows a run; `tick` is to be called every second. */
export class Start {
  /** When each phase began, seconds by the clock of the heartbeats; only phases that this page has seen. @type {Map<string, number>} */
  #began = new Map();
  /** @type {any} */
  #run = null;

  constructor() {
    this.stages = STAGES.map(({ title, what }) => stage(title, what));
    this.now = el("p", { class: "start-now", role: "status" });
    this.clock = el("p", { class: "note" });
    this.element = el(
      "section",
      { class: "start", "aria-labelledby": "start-title", hidden: true },
      el("h2", { id: "start-title" }, "The run is starting"),
      el("div", {}, this.now, this.clock),
      el("ol", { class: "stages" }, ...this.stages.map((one) => one.element)),
      el("p", { class: "note" }, "The curves appear with the first step."),
    );
  }

  /**
   * @param {any} run
   * @param {number} now by the clock of the heartbeats, seconds
   */
  update(run, now) {
    this.#run = run;
    const { phase, phase_since } = run.status;
    if (phase_since) this.#began.set(phase, Date.parse(phase_since) / 1000);
    const at = stageOf(phase);
    const words = phase === "running" ? "waiting for the first step" : phaseText(run.status, run.spec.control);
    say(this.now, `${sentence(words)}.`);
    this.stages.forEach(({ element, detail }, i) => {
      element.dataset.state = i < at ? "done" : i === at ? "active" : "";
      if (i === at) element.setAttribute("aria-current", "step");
      else element.removeAttribute("aria-current");
      say(detail, i === at ? (run.status.phase_detail ?? "") : "");
    });
    this.tick(now);
  }

  /** @param {number} now by the clock of the heartbeats, seconds */
  tick(now) {
    if (!this.#run) return;
    const at = stageOf(this.#run.status.phase);
    this.stages.forEach(({ time }, i) => say(time, i > at ? "" : this.#length(i, i === at ? now : null)));
    const started = Date.parse(this.#run.metadata.started_at) / 1000;
    say(this.clock, `Started ${whole(now - started)} ago.`);
  }

  /**
   * How long a stage took, or has taken; empty if this page did not see it begin or end.
   * @param {number} i
   * @param {number | null} now for the stage that is not over
   */
  #length(i, now) {
    const from = this.#began.get(STAGES[i].phase);
    const later = STAGES.slice(i + 1).map((one) => this.#began.get(one.phase));
    const to = now ?? later.find((began) => began !== undefined);
    return from === undefined || to === undefined ? "" : whole(to - from);
  }
}

/**
 * @param {string} title
 * @param {string} what
 */
function stage(title, what) {
  const time = el("span", { class: "stage-time" });
  const detail = el("span", { class: "stage-detail" });
  const head = el("p", { class: "stage-head" }, el("span", { class: "stage-title" }, title), detail, time);
  return { time, detail, element: el("li", {}, head, el("p", { class: "note" }, what)) };
}

/**
 * A duration without parts of seconds.
 * @param {number} seconds
 */
function whole(seconds) {
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds);
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
