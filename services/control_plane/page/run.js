// @ts-check
// The view of one run: header, charts, entropy target control, processes, history and rollouts, updated live.

import { Problem, call, runPath } from "./api.js";
import { notify } from "./dialog.js";
import { TargetControl } from "./entropy.js";
import { count, fixed } from "./format.js";
import { Header } from "./header.js";
import { History } from "./history.js";
import { Painter } from "./paint.js";
import { Permit } from "./permissions.js";
import { poll } from "./poll.js";
import { processes } from "./processes.js";
import { details } from "./newest_record.js";
import { Rollouts } from "./rollouts.js";
import { RunCharts } from "./run_charts.js";
import { RunFrame } from "./run_frame.js";
import { follow } from "./stream.js";

const REFRESH_SECONDS = 5;

/**
 * The view of a run.
 * @param {string} id
 * @param {URLSearchParams} options of its charts, from the address
 */
export function runView(id, options) {
  const view = new RunView(id, options);
  view.begin();
  return view;
}

class RunView {
  /** @type {any} */
  #run = null;
  #loading = false;
  /** When the run was last read, `performance.now()`. */
  #readAt = 0;
  #stop = new AbortController();

  /**
   * @param {string} id
   * @param {URLSearchParams} options
   */
  constructor(id, options) {
    this.id = id;
    this.title = id;
    const { signal } = this.#stop;
    this.permit = new Permit(id, signal);
    this.painter = new Painter(() => this.#draw());
    this.header = new Header(id, (run) => this.#show(run));
    this.history = new History(id, signal, () => this.painter.ask());
    this.charts = new RunCharts(id, options, { signal, onChange: () => this.painter.ask() });
    this.control = new TargetControl(id, {
      signal,
      onPreview: () => this.painter.ask(),
      nextStep: () => this.#run?.status.step ?? 0,
      span: () => this.charts.span,
      stepSeconds: () => this.charts.stepSeconds,
    });
    this.charts.row.append(this.control.element);
    this.processes = processes();
    this.rollouts = new Rollouts(id, signal);
    this.details = details();
    const parts = [this.charts.element, this.processes.element, this.history.element, this.rollouts.element];
    this.frame = new RunFrame(this.header, parts, this.processes.element, this.details.element);
    this.element = this.frame.element;
  }

  /** Read the run and keep it up to date until `stop`. */
  begin() {
    const { signal } = this.#stop;
    poll("run", () => this.#read(), REFRESH_SECONDS, signal).then((error) => this.#fail(error));
    this.ticking = setInterval(() => this.#run && this.frame.tick(this.#serverNow() / 1000), 1000);
  }

  /** Stop reading. */
  stop() {
    this.#stop.abort();
    clearInterval(this.ticking);
    this.charts.end();
  }

  /** Focus the heading. */
  focus() {
    /** @type {HTMLElement} */ (this.header.element.querySelector("h1")).focus();
  }

  async #read() {
    const { body } = await call(runPath(this.id), { signal: this.#stop.signal });
    const first = this.#run === null;
    if (first) await this.permit.load();
    if (first) this.#furnish(body);
    else if (body.metadata.config_hash !== this.#run.metadata.config_hash) {
      // The run was resumed with another configuration: limits and charts may differ.
      window.dispatchEvent(new HashChangeEvent("hashchange"));
      return;
    }
    this.#readAt = performance.now();
    this.#show(body);
    this.processes.update(body);
    await this.control.load();
    const onwards = body.status.record === null || this.charts.know(body.status.record);
    if (first) this.#follow();
    else if (!onwards || body.status.step - 1 > this.charts.last) await this.#load();
  }

  /**
   * Build the charts, which depend on the configuration.
   * @param {any} run
   */
  #furnish(run) {
    this.charts.furnish(run.spec.config);
    this.control.configure(run.spec.config);
    this.details.configure(run);
  }

  #follow() {
    follow(runPath(this.id, "/events"), {
      signal: this.#stop.signal,
      onEvent: (kind, data) => this.#take(kind, data),
      onFresh: () => this.#load(),
    }).then((error) => this.#fail(error));
  }

  /**
   * @param {string} kind
   * @param {any} data
   */
  #take(kind, data) {
    if (kind === "step" && data.lineage !== undefined) this.#step(data);
    else if (kind === "phase") {
      const begun = { phase: data.phase, phase_since: new Date(this.#serverNow()).toISOString(), phase_detail: null };
      this.#show({ ...this.#run, status: { ...this.#run.status, ...begun } });
      this.#read().catch(() => {});
    } else if (kind === "evaluation" && data.pass_at_k) {
      const evaluations = [...(this.#run.status.evaluations ?? []).filter((/** @type {any} */ one) => one.step !== data.step), data];
      this.#show({ ...this.#run, status: { ...this.#run.status, evaluations } });
    } else if (kind === "entropy-target") {
      this.history.add(data);
      this.control.load().catch(() => {});
    }
    this.painter.ask();
  }

  /** @param {any} record */
  #step(record) {
    const onwards = this.charts.append(record);
    if (!onwards || this.charts.overdue) this.#load();
    if (!onwards || record.step >= this.#run.status.step) {
      const status = { ...this.#run.status, step: record.step + 1, record, seconds_since_heartbeat: 0 };
      status.heartbeat_at = new Date(this.#serverNow()).toISOString();
      this.#readAt = performance.now();
      this.#show({ ...this.#run, status });
    }
  }

  /** Reload metrics and history; does nothing during a reload. */
  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    try {
      await Promise.all([this.charts.load(this.#run.status.step - 1), this.history.load()]);
    } catch {
      // Polling reports the error and retries.
    }
    this.#loading = false;
    this.painter.ask();
  }

  /** The current time by the clock of the run's heartbeats, milliseconds. */
  #serverNow() {
    const { heartbeat_at, seconds_since_heartbeat } = this.#run.status;
    return Date.parse(heartbeat_at) + 1000 * seconds_since_heartbeat + performance.now() - this.#readAt;
  }

  /** @param {any} run */
  #show(run) {
    this.#run = run;
    this.frame.update(run, this.#serverNow() / 1000);
    this.charts.evaluated(run.status.evaluations ?? []);
    const { record, step, of } = run.status;
    this.permit.apply(run, this.header.actions, this.control);
    document.title = `${record?.alarms.length ? "⚠ " : ""}${count(step)}/${count(of)} ${this.id} · SCOPE-RL`;
    this.painter.ask();
  }

  /** @param {Error | null} error */
  #fail(error) {
    // A refused token leads to the sign-in.
    const refused = error instanceof Problem && error.status === 401;
    if (error && !refused && !this.#stop.signal.aborted) notify(error.message, "error");
  }

  #draw() {
    if (!this.#run) return;
    const { record } = this.#run.status;
    const { charts } = this;
    this.header.update(this.#run, charts.stepSeconds);
    this.details.update(record);
    charts.draw({ record, marks: this.history.marks, preview: this.control.preview });
    this.element.dataset.points = String(charts.series.steps.length);
    this.element.dataset.lastStep = String(charts.last);
    this.element.dataset.redrawMilliseconds = fixed(this.painter.took, 1);
  }
}
