// @ts-check
// The view of one run: header, charts, entropy target control, processes, history and rollouts, updated live.

import { Problem, call, runPath } from "./api.js";
import { Chart } from "./chart.js";
import { Cursor } from "./chart_cursor.js";
import { notify } from "./dialog.js";
import { el, say } from "./dom.js";
import { TargetControl } from "./entropy.js";
import { limitText } from "./entropy_state.js";
import { count, level } from "./format.js";
import { ranges } from "./chart_geometry.js";
import { Header } from "./header.js";
import { History } from "./history.js";
import { Painter } from "./paint.js";
import { entropyPanel, panelsOf, passAtK, passCurves } from "./panels.js";
import { Permit } from "./permissions.js";
import { poll } from "./poll.js";
import { processes } from "./processes.js";
import { details } from "./newest_record.js";
import { Rollouts } from "./rollouts.js";
import { RunFrame } from "./run_frame.js";
import { Series } from "./series.js";
import { follow } from "./stream.js";

const REFRESH_SECONDS = 5;
const RECENT_POINTS = 12;
const RANGES = [["All steps", 0], ["Last 1,000", 1000], ["Last 200", 200]];

/**
 * The view of a run.
 * @param {string} id
 */
export function runView(id) {
  const view = new RunView(id);
  view.begin();
  return view;
}

class RunView {
  /** @type {any} */
  #run = null;
  /** @type {import("./panels.js").Panel[]} */
  #panels = [];
  /** @type {Chart[]} */
  #charts = [];
  /** @type {Series | null} */
  #series = null;
  /** @type {{step: number, pass_at_k: Record<string, number>}[]} */
  #evaluations = [];
  #passKeys = "";
  #loading = false;
  /** When the run was last read, `performance.now()`. */
  #readAt = 0;
  #stop = new AbortController();

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.title = id;
    const { signal } = this.#stop;
    this.permit = new Permit(id, signal);
    this.cursor = new Cursor();
    this.painter = new Painter(() => this.#draw());
    this.header = new Header(id, (run) => this.#show(run));
    this.history = new History(id, signal, () => this.painter.ask());
    this.control = new TargetControl(id, {
      signal,
      onPreview: () => this.painter.ask(),
      nextStep: () => this.#run?.status.step ?? 0,
      span: () => (this.#series ? this.#series.domain[1] - this.#series.domain[0] : 1),
      stepSeconds: () => this.#stepSeconds(),
    });
    this.entropy = new Chart({ ...entropyPanel.look, format: level }, this.cursor);
    this.pass = new Chart({ ...passAtK, zero: true }, this.cursor);
    this.limit = el("p", { class: "limit-note", role: "status" });
    this.entropy.element.append(this.limit);
    this.grid = el("div", { class: "charts" });
    this.processes = processes();
    this.rollouts = new Rollouts(id, signal);
    this.details = details();
    const charts = el("section", { "aria-labelledby": "charts-title" }, this.#ranges(), el("div", { class: "entropy" }, this.entropy.element, this.control.element), this.grid);
    const parts = [charts, this.processes.element, this.history.element, this.rollouts.element];
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
    for (const chart of [this.entropy, this.pass, ...this.#charts]) chart.end();
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
    const series = /** @type {Series} */ (this.#series);
    const onwards = body.status.record === null || series.know(body.status.record);
    if (first) this.#follow();
    else if (!onwards || body.status.step - 1 > series.last) await this.#load();
  }

  /**
   * Build the charts, which depend on the configuration.
   * @param {any} run
   */
  #furnish(run) {
    const { config } = run.spec;
    this.#panels = panelsOf(config);
    const fields = [...entropyPanel.fields, ...this.#panels.flatMap((panel) => panel.fields)];
    this.#series = new Series(this.id, [...new Set(fields)]);
    this.#charts = this.#panels.map((panel) => new Chart(panel.look, this.cursor));
    this.control.configure(config);
    this.details.configure(run);
    const elements = this.#charts.map((chart) => chart.element);
    elements.splice(3, 0, this.pass.element);
    this.grid.replaceChildren(...elements);
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
      const evaluations = [...this.#evaluations.filter((one) => one.step !== data.step), data];
      this.#show({ ...this.#run, status: { ...this.#run.status, evaluations } });
    } else if (kind === "entropy-target") {
      this.history.add(data);
      this.control.load().catch(() => {});
    }
    this.painter.ask();
  }

  /** @param {any} record */
  #step(record) {
    const series = /** @type {Series} */ (this.#series);
    const onwards = series.append(record);
    if (!onwards || series.overdue) this.#load();
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
      await Promise.all([/** @type {Series} */ (this.#series).load(this.#stop.signal, this.#run.status.step - 1), this.history.load()]);
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
    this.#evaluated(run.status.evaluations ?? []);
    const { record, step, of } = run.status;
    this.permit.apply(run, this.header.actions, this.control);
    document.title = `${record?.alarms.length ? "⚠ " : ""}${count(step)}/${count(of)} ${this.id} · SCOPE-RL`;
    this.painter.ask();
  }

  /** @param {{step: number, pass_at_k: Record<string, number>}[]} evaluations */
  #evaluated(evaluations) {
    this.#evaluations = evaluations.toSorted((a, b) => a.step - b.step);
  }

  #stepSeconds() {
    const column = this.#series?.values.step_seconds?.slice(-RECENT_POINTS).filter((value) => value !== null) ?? [];
    return column.length ? column.reduce((sum, value) => sum + value, 0) / column.length : null;
  }

  /** @param {Error | null} error */
  #fail(error) {
    // A refused token leads to the sign-in.
    const refused = error instanceof Problem && error.status === 401;
    if (error && !refused && !this.#stop.signal.aborted) notify(error.message, "error");
  }

  #ranges() {
    const choices = RANGES.map(([label, steps]) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name: "range", value: steps, checked: steps === 0, change: () => this.#choose(Number(steps)) }),
        el("span", {}, label),
      ),
    );
    return el(
      "div",
      { class: "title-line" },
      el("h2", { id: "charts-title" }, "Curves"),
      el("fieldset", { class: "ranges" }, el("legend", { class: "unseen" }, "Steps to show"), ...choices),
    );
  }

  /** @param {number} steps */
  async #choose(steps) {
    if (!this.#series) return;
    this.#series.range = steps;
    this.#loading = false;
    await this.#load();
  }

  #draw() {
    const series = this.#series;
    if (!series) return;
    const { record } = this.#run.status;
    this.header.update(this.#run, this.#stepSeconds());
    this.details.update(record);
    const { steps, values, newest } = series;
    const domain = series.domain;
    const { preview } = this.control;
    /** @type {[number, number]} */
    const ahead = [domain[0], Math.max(domain[1], preview.at(-1)?.[0] ?? 0)];
    const bands = ranges(steps, values.saturated ?? []);
    this.limit.dataset.state = record?.saturated ? "warn" : "";
    say(this.limit, limitText(record, bands.length > 0));
    this.entropy.give({ steps, values, newest, domain: ahead, marks: this.history.marks, bands, preview });
    this.#charts.forEach((chart, i) => {
      const { derive, limit } = this.#panels[i];
      if (!derive) return chart.give({ steps, values, newest, domain, limit });
      const last = derive(Object.fromEntries(Object.entries(newest).map(([name, value]) => [name, [value]])));
      const one = Object.fromEntries(Object.entries(last).map(([name, column]) => [name, column[0] ?? null]));
      return chart.give({ steps, values: derive(values), newest: steps.length ? one : undefined, domain, limit });
    });
    this.#givePass(domain);
    for (const chart of [this.entropy, this.pass, ...this.#charts]) chart.draw();
    this.element.dataset.points = String(steps.length);
    this.element.dataset.lastStep = String(series.last);
    this.element.dataset.redrawMilliseconds = this.painter.took.toFixed(1);
  }

  /** @param {[number, number]} domain */
  #givePass(domain) {
    const { lines, steps, values } = passCurves(this.#evaluations);
    const keys = lines.map((line) => line.key).join();
    if (keys !== this.#passKeys) this.pass.setLines(lines);
    this.#passKeys = keys;
    this.pass.give({ steps, values, domain: [0, Math.max(domain[1], steps.at(-1) ?? 0)] });
  }
}
