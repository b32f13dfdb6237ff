// @ts-check
// How a run ended: what it reached, or its error; its files; the commands that come next.

import { command } from "./command.js";
import { el, say } from "./dom.js";
import { age, brief, count, duration, level, short } from "./format.js";
import { hasEnded } from "./phases.js";
import { visible } from "./visible.js";

/** The panel; hidden until the run has ended. */
export class Outcome {
  #shown = "";

  constructor() {
    this.title = el("h2", { id: "outcome-title" });
    this.when = el("p", { class: "note" });
    this.error = el("p", { class: "failure" });
    this.facts = el("dl", { class: "reached" });
    this.next = el("div", { class: "next" });
    this.element = el("section", { class: "outcome", "aria-labelledby": "outcome-title", hidden: true }, this.title, this.when, this.error, this.facts, this.next);
  }

  /**
   * @param {any} run
   * @param {number} now by the clock of the heartbeats, seconds
   */
  update(run, now) {
    const { phase, error } = run.status;
    this.element.hidden = !hasEnded(phase);
    if (this.element.hidden) return;
    this.element.dataset.phase = phase;
    say(this.title, titleOf(run.status));
    this.tick(run, now);
    this.error.hidden = !error;
    this.#show(run);
  }

  /**
   * Update what depends on the time.
   * @param {any} run
   * @param {number} now by the clock of the heartbeats, seconds
   */
  tick(run, now) {
    if (!this.element.hidden) say(this.when, whenOf(run, now));
  }

  /** @param {any} run */
  #show(run) {
    // A part that is built anew would lose the focus and the selection.
    const shown = JSON.stringify([run.status.phase, run.status.step, run.status.error, run.status.evaluations, run.status.record?.step]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.error.replaceChildren(...visible(run.status.error ?? ""));
    this.facts.replaceChildren(...reached(run.status).map(([name, value, note]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("span", { class: "figure" }, value), el("span", { class: "note" }, note)))));
    this.facts.hidden = this.facts.children.length === 0;
    this.next.replaceChildren(...nextOf(run));
  }
}

/** @param {any} status */
function titleOf({ phase, step, of }) {
  if (phase === "failed") return step ? `The run failed at step ${count(step)} of ${count(of)}` : "The run failed before its first step";
  if (step === 0) return "The run was stopped before its first step";
  return step < of ? `The run was stopped at step ${count(step)} of ${count(of)}` : `The run finished all ${count(of)} steps`;
}

/**
 * @param {any} run
 * @param {number} now
 */
function whenOf({ metadata, status }, now) {
  const ended = status.phase_since ?? status.heartbeat_at;
  const seconds = Date.parse(ended) / 1000 - Date.parse(metadata.started_at) / 1000;
  const took = seconds > 0 ? `, after ${duration(seconds)}` : "";
  return `${brief(ended)}, ${age(now - Date.parse(ended) / 1000)}${took}`;
}

/**
 * What the run reached, each as name, value and note.
 * @param {any} status
 * @returns {[string, string, string][]}
 */
function reached({ record, evaluations }) {
  /** @type {[string, string, string][]} */
  const facts = [];
  const [first, last] = [evaluations[0], evaluations.at(-1)];
  for (const k of ends(last)) {
    const [before, after] = [first.pass_at_k[k], last.pass_at_k[k]];
    const from = first === last || before === undefined ? `after step ${count(last.step)}` : `from ${short(before)} after step ${count(first.step)}`;
    facts.push([`Held-out pass@${k}`, short(after), from]);
  }
  if (!record) return facts;
  const target = record.entropy_target === null ? "no target" : `target ${level(record.entropy_target)}`;
  const start = record.starting_entropy == null ? "" : `, ${level(record.starting_entropy)} at the start`;
  facts.push(["Entropy of the last step", level(record.entropy), target + start], ["Reward of the last step", short(record.reward), ""]);
  return facts;
}

/**
 * The smallest and the largest k of an evaluation.
 * @param {{pass_at_k: Record<string, number>} | undefined} evaluation
 */
function ends(evaluation) {
  const ks = Object.keys(evaluation?.pass_at_k ?? {}).sort((a, b) => Number(a) - Number(b));
  return ks.length > 1 ? [ks[0], ks[ks.length - 1]] : ks;
}

/** @param {any} run */
function nextOf({ metadata, spec, status }) {
  const { id } = metadata;
  const directory = `${spec.config.runs_dir ?? "runs"}/${id}`;
  const complete = status.phase === "finished" && status.step > 0;
  const resume = command(`scope train --resume ${directory}`, status.phase === "failed" ? "continue from the newest checkpoint" : "continue it");
  const files = complete ? `Its directory, ${directory}, has report.json, report.png and model/.` : `Its directory is ${directory}.`;
  return [
    el("p", {}, files),
    ...(status.phase === "failed" || status.step < status.of ? [resume] : []),
    ...(complete ? [command(`scope eval ${id}`, "evaluate the model"), command(`scope export ${id} --out ${id}-model`, "export the model")] : []),
    ...(metadata.recorded_at ? [] : [command(`scope view ${id}`, "open this page again, without the run")]),
  ];
}
