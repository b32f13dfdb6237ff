// @ts-check
// The header of a run's view: phase, progress, time left, newest values, alarms. The values are there from the first step
// until the run has ended.

import { actions } from "./actions.js";
import { isLost } from "./connection.js";
import { el, say } from "./dom.js";
import { age, brief, count, duration, level, short } from "./format.js";
import { STALE_SECONDS, hasEnded, phaseText } from "./phases.js";

/** The header. `update` shows a run resource; `tick` is to be called every second. */
export class Header {
  #heard = 0;
  #silence = 0;
  /** Whether a heartbeat is expected. */
  #alive = false;
  /** The phase in words. */
  #words = "";
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
    this.strip = el("dl", { class: "strip", hidden: true }, ...Object.values(this.cells).map((one) => one.element));
    this.element = el(
      "header",
      { class: "run-head" },
      el("div", { class: "title-line" }, el("h1", { tabindex: -1 }, run), this.phase, this.actions.element),
      this.strip,
      this.alarms,
    );
  }

  /**
   * @param {any} run
   * @param {number | null} stepSeconds of the newest steps, mean
   */
  update(run, stepSeconds) {
    const { phase, step, of, record } = run.status;
    const { control } = run.spec;
    const ended = hasEnded(phase);
    this.#words = phaseText(run.status, control);
    this.actions.update(phase, control);
    this.actions.element.hidden = ended;
    this.strip.hidden = this.alarms.hidden = !record || ended;
    this.#put("Step", `${count(step)} / ${count(of)}`, run.status.checkpoints_pending ? "checkpoint requested" : "");
    this.progress.max = Math.max(1, of);
    this.progress.value = step;
    this.#left(run.status, stepSeconds);
    this.#put("Step time", duration(stepSeconds), "mean of recent steps");
    this.#values(record);
    this.#showAlarms(record);
    if (run.status !== this.#status) this.#heard = performance.now();
    this.#status = run.status;
    this.#silence = run.status.seconds_since_heartbeat;
    this.#alive = !ended && !run.metadata.recorded_at;
    this.tick();
  }

  /** Update what depends on the time. */
  tick() {
    // Without a connection nothing is known of the run's silence.
    if (this.#heard === 0 || isLost()) return;
    const silent = this.#silence + (performance.now() - this.#heard) / 1000;
    const stale = this.#alive && silent > STALE_SECONDS;
    say(this.phase, stale ? `stale, was ${this.#words}` : this.#words);
    this.phase.dataset.phase = stale ? "stale" : this.#status.phase;
    if (stale) this.#put("Time left", "–", "the run is silent");
    this.#put("Heartbeat", age(silent), stale ? "overdue: the run may be dead" : "driver or learner");
    this.cells.Heartbeat.element.dataset.state = stale ? "warn" : "";
  }

  /**
   * @param {any} status
   * @param {number | null} stepSeconds
   */
  #left(status, stepSeconds) {
    const seconds = stepSeconds === null ? null : (status.of - status.step) * stepSeconds;
    if (status.phase !== "running" || seconds === null) this.#put("Time left", "–", phaseText(status));
    else this.#put("Time left", duration(seconds), `until ${brief(Date.now() + 1000 * seconds)}`);
  }

  /** @param {any} record the newest; null before the first step */
  #values(record) {
    if (!record) return;
    const { entropy, entropy_target: target, reward, positives, saturated } = record;
    this.#put("Entropy", level(entropy), target === null ? "no target" : `target ${level(target)}`);
    const off = entropy === null || target === null ? null : entropy - target;
    this.#put("Off target", off === null ? "–" : signed(off), saturated ? "at the limit" : "nats per token");
    this.cells["Off target"].element.dataset.state = saturated ? "warn" : "";
    this.#put("Reward", short(reward), `${count(positives)} positives`);
  }

  /** @param {any} record */
  #showAlarms(record) {
    const alarms = record?.alarms ?? [];
    this.alarms.dataset.state = alarms.length ? "warn" : "";
    const texts = alarms.length ? alarms : ["No alarms"];
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
  const size = level(Math.abs(value));
  return Number(size) === 0 ? size : `${value < 0 ? "−" : "+"}${size}`;
}
