// @ts-check
// The header of a run's view: phase, progress, time left, newest values, alarms.

import { actions } from "./actions.js";
import { el, say } from "./dom.js";
import { age, brief, count, duration, level, short } from "./format.js";

const SILENT_SECONDS = 120;
const WORKING = ["warm_start", "running", "stopping"];
/** @type {Record<string, string>} */
const WORDS = { warm_start: "warm start" };
/** @type {Record<string, string>} */
const ASKED = { pause: "pausing", stop: "stopping", run: "resuming" };

/**
 * The phase, and the requested one if it differs.
 * @param {string} phase
 * @param {string} [control]
 */
export function phaseText(phase, control) {
  const word = WORDS[phase] ?? phase;
  const differs =
    (control === "pause" && !["paused", "finished", "failed"].includes(phase)) ||
    (control === "stop" && !["stopping", "finished", "failed"].includes(phase)) ||
    (control === "run" && phase === "paused");
  return differs ? `${word}, ${ASKED[control ?? ""]}` : word;
}

/** The header. `update` shows a run resource; `tick` is to be called every second. */
export class Header {
  #heard = 0;
  #silence = 0;
  #limit = SILENT_SECONDS;
  #working = false;
  /** @type {any} */
  #status = null;

  /**
   * @param {string} run
   * @param {(run: any) => void} onRun
   */
  constructor(run, onRun) {
    this.phase = el("span", { class: "phase" });
    this.actions = actions(run, onRun);
    this.progress = el("progress", { max: 1, value: 0, "aria-label": "Learner steps done" });
    this.cells = Object.fromEntries(
      ["Step", "Time left", "Step time", "Entropy", "Off target", "Reward", "Heartbeat"].map((name) => [name, cell(name)]),
    );
    this.cells.Step.value.after(this.progress);
    this.alarms = el("div", { class: "alarms", role: "status" });
    this.error = el("p", { class: "failure", hidden: true });
    this.element = el(
      "header",
      { class: "run-head" },
      el("div", { class: "title-line" }, el("h1", { tabindex: -1 }, run), this.phase, this.actions.element),
      this.error,
      el("dl", { class: "strip" }, ...Object.values(this.cells).map((one) => one.element)),
      this.alarms,
    );
  }

  /**
   * @param {any} run
   * @param {number | null} stepSeconds of the newest steps, mean
   */
  update(run, stepSeconds) {
    const { phase, step, of, record, error } = run.status;
    const { control } = run.spec;
    say(this.phase, phaseText(phase, control));
    this.phase.dataset.phase = phase;
    this.actions.update(phase, control);
    this.#put("Step", `${count(step)} / ${count(of)}`, run.status.checkpoints_pending ? "checkpoint requested" : "");
    this.progress.max = Math.max(1, of);
    this.progress.value = step;
    this.#left(phase, of - step, stepSeconds);
    this.#put("Step time", duration(stepSeconds), "mean of recent steps");
    this.#put("Entropy", level(record?.entropy), record ? `target ${level(record.entropy_target)}` : "");
    const off = record && record.entropy !== null && record.entropy_target !== null ? record.entropy - record.entropy_target : null;
    this.#put("Off target", off === null ? "–" : signed(off), record?.saturated ? "at the limit" : "nats per token");
    this.cells["Off target"].element.dataset.state = record?.saturated ? "warn" : "";
    this.#put("Reward", short(record?.reward), record ? `${count(record.positives)} positives` : "");
    this.error.hidden = !error;
    say(this.error, error ?? "");
    this.#showAlarms(record);
    if (run.status !== this.#status) this.#heard = performance.now();
    this.#status = run.status;
    this.#silence = run.status.seconds_since_heartbeat;
    this.#limit = Math.max(SILENT_SECONDS, 3 * (stepSeconds ?? 0));
    this.#working = WORKING.includes(phase);
    this.tick();
  }

  /** Update what depends on the time. */
  tick() {
    if (this.#heard === 0) return;
    const silent = this.#silence + (performance.now() - this.#heard) / 1000;
    const stale = this.#working && silent > this.#limit;
    this.#put("Heartbeat", age(silent), stale ? "overdue" : "driver or learner");
    this.cells.Heartbeat.element.dataset.state = stale ? "warn" : "";
  }

  /**
   * @param {string} phase
   * @param {number} steps
   * @param {number | null} stepSeconds
   */
  #left(phase, steps, stepSeconds) {
    const seconds = stepSeconds === null ? null : steps * stepSeconds;
    if (phase !== "running" || seconds === null) this.#put("Time left", "–", phase === "running" ? "" : phaseText(phase));
    else this.#put("Time left", duration(seconds), `until ${brief(Date.now() + 1000 * seconds)}`);
  }

  /** @param {any} record */
  #showAlarms(record) {
    const alarms = record?.alarms ?? [];
    this.alarms.dataset.state = alarms.length ? "warn" : "";
    const texts = alarms.length ? alarms : [record ? "No alarms" : "No step yet"];
    if (texts.join("\n") === [...this.alarms.children].map((line) => line.textContent).join("\n")) return;
    this.alarms.replaceChildren(...texts.map((/** @type {string} */ text) => el("p", {}, text)));
  }

  /**
   * @param {string} name
   * @param {string} value
   * @param {string} note
   */
  #put(name, value, note) {
    say(this.cells[name].value, value);
    say(this.cells[name].note, note);
  }
}

/** @param {string} name */
function cell(name) {
  const value = el("span", { class: "figure" });
  const note = el("span", { class: "note" });
  return { value, note, element: el("div", {}, el("dt", {}, name), el("dd", {}, value, note)) };
}

/** @param {number} value */
function signed(value) {
  return `${value < 0 ? "−" : "+"}${level(Math.abs(value))}`;
}
