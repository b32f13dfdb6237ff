// @ts-check
// The view of several runs laid over one another: one chart for each quantity, one line for each run.

import { MOST_COMPARED } from "./address.js";
import { Chart } from "./chart.js";
import { Cursor } from "./chart_cursor.js";
import { ChartOptions } from "./chart_options.js";
import { chartTools } from "./chart_tools.js";
import { ComparedRun } from "./compared_run.js";
import { ComparedRuns } from "./compared_runs.js";
import { differences } from "./config_differences.js";
import { csvOf, downloadButton, fileName } from "./csv.js";
import { notify } from "./dialog.js";
import { el } from "./dom.js";
import { fixed } from "./format.js";
import { Painter } from "./paint.js";
import { entropyPanel, passAtK, passKey, passTitle } from "./panels.js";
import { poll } from "./poll.js";
import { linesOf, meanOf } from "./seeds.js";
import { groupElement, stepsOf, zoomOf } from "./chart_view.js";

const REFRESH_SECONDS = 5;

/**
 * The view of several runs.
 * @param {string[]} ids
 * @param {URLSearchParams} options of the charts, from the address
 */
export function compareView(ids, options) {
  const view = new CompareView(ids, options);
  view.begin();
  return view;
}

class CompareView {
  title = "Compare";
  #stop = new AbortController();
  /** The charts by title. @type {Map<string, Chart>} */
  #charts = new Map();

  /**
   * @param {string[]} ids
   * @param {URLSearchParams} options
   */
  constructor(ids, options) {
    const { signal } = this.#stop;
    this.runs = ids.slice(0, MOST_COMPARED).map((id, i) => new ComparedRun(id, `run-${i + 1}`, signal));
    this.options = new ChartOptions(options);
    this.cursor = new Cursor();
    this.painter = new Painter(() => this.#draw());
    this.zoom = zoomOf(this.options, { shown: () => this.#domain(), all: () => this.#all(), axis: () => (this.#shown()[0] ?? this.runs[0]).horizontal });
    this.entropy = this.#chart({ ...entropyPanel.look, lines: [] });
    this.groups = el("div", { class: "groups" });
    this.list = new ComparedRuns(this.runs, this.options, () => this.painter.ask());
    this.differences = differences();
    this.heading = el("h1", { tabindex: -1 }, `${this.runs.length} ${this.runs.length === 1 ? "run" : "runs"} laid over one another`);
    const cut = ids.length > MOST_COMPARED ? el("p", { class: "failure", role: "status" }, `The address names ${ids.length} runs; the first ${MOST_COMPARED} are shown.`) : null;
    this.element = el(
      "div",
      { class: "view" },
      el("div", { class: "title-line" }, this.heading),
      cut,
      this.list.element,
      el(
        "section",
        { "aria-label": "Curves" },
        chartTools(this.options, this.zoom, this.#csv("all charts", (run) => run.series.fields), false),
        el("div", { class: "entropy alone" }, this.entropy.element),
        this.groups,
      ),
      this.differences.element,
    );
    this.options.follow((before) => this.#chosen(before));
  }

  /** Read the runs and keep them up to date until `stop`. */
  begin() {
    poll("runs", () => this.#read(), REFRESH_SECONDS, this.#stop.signal).then((error) => error && notify(error.message, "error"));
  }

  /** Stop reading. */
  stop() {
    this.#stop.abort();
    for (const chart of this.#charts.values()) chart.end();
  }

  /** Focus the heading. */
  focus() {
    this.heading.focus();
  }

  async #read() {
    const read = await Promise.allSettled(
      this.runs.map((run) =>
        run.read(this.options.choice).finally(() => {
          if (run.fresh) this.#furnish();
          run.fresh = false;
          this.painter.ask();
        }),
      ),
    );
    const failed = read.find((one) => one.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Build the charts: those that any run has, in the order of the run that has most. */
  #furnish() {
    const known = this.runs.filter((run) => run.run !== null);
    const groups = known.reduce((most, { groups }) => (charts(groups) > charts(most) ? groups : most), known[0].groups);
    const ks = known.flatMap(({ run }) => run.status.evaluations.flatMap((/** @type {any} */ one) => Object.keys(one.pass_at_k).map(Number)));
    this.groups.replaceChildren(
      ...groups.map((group) => {
        const looks = group.panels.map(({ look }) => look);
        if (group.title === "Reward and exploration" && ks.length) looks.splice(1, 0, ...passLooks(ks));
        return groupElement(group, looks.map((look) => (this.#charts.get(look.title) ?? this.#chart({ ...look, terse: true })).element));
      }),
    );
    this.#setLines();
    this.differences.show(known.map(({ id, run }) => ({ id, config: run.spec.config })));
  }

  #setLines() {
    const lines = linesOf(this.runs, this.options.choice.seeds);
    for (const { runs, tone } of lines) for (const run of runs) run.tone = tone;
    for (const [title, chart] of this.#charts) {
      if (chart === this.entropy) chart.setLines(lines.flatMap((one) => [one, /** @type {import("./chart.js").Line} */ ({ ...one, key: `${one.key} target`, label: `${one.label}, target`, kind: "dotted" })]));
      else chart.setLines(passKey(title) !== null ? lines.map((one) => ({ ...one, kind: "points" })) : lines);
    }
  }

  /** @param {import("./chart.js").Look} look */
  #chart(look) {
    const chart = new Chart(look, this.cursor, this.zoom);
    this.#charts.set(look.title, chart);
    if (passKey(look.title) !== null) return chart;
    chart.tools.append(this.#csv(look.title, (run) => (chart === this.entropy ? entropyPanel.fields : fieldsOf(run, look.title))));
    return chart;
  }

  #shown() {
    return this.runs.filter((run) => run.shows);
  }

  /** All that can be shown. @returns {[number, number]} */
  #all() {
    const extents = this.#shown().map((run) => run.extent);
    const [from, to] = [Math.min(...extents.map(([first]) => first)), Math.max(...extents.map(([, last]) => last))];
    return extents.length ? [from, to > from ? to : from + 1] : [0, 1];
  }

  /** @returns {[number, number]} */
  #domain() {
    return this.options.choice.zoom ?? this.#all();
  }

  #draw() {
    const { choice } = this.options;
    const base = { axis: choice.axis, domain: this.#domain() };
    this.list.update();
    for (const [title, chart] of this.#charts) {
      /** @type {Record<string, import("./chart.js").Curve>} */
      const curves = {};
      const k = passKey(title);
      for (const { key, runs } of linesOf(this.runs, choice.seeds)) {
        const found = runs.filter((run) => run.shows).map((run) => (k === null ? run.curves(title, choice) : passCurve(run, k)));
        const own = found.flatMap((one) => Object.values(one).slice(0, 1));
        if (own.length) curves[key] = meanOf(own, choice.range);
        if (chart === this.entropy && own.length) curves[`${key} target`] = found[0].entropy_target;
      }
      chart.give({ ...base, curves, limits: this.#limits(title) });
      chart.draw();
    }
    this.element.dataset.points = String(this.#shown().reduce((sum, run) => sum + run.series.steps.length, 0));
    this.element.dataset.redrawMilliseconds = fixed(this.painter.took, 1);
  }

  /**
   * The limits that all runs shown have in common.
   * @param {string} title
   */
  #limits(title) {
    const each = this.#shown().map(({ groups }) => groups.flatMap(({ panels }) => panels).find(({ look }) => look.title === title)?.limits ?? []);
    const [first = [], ...others] = each;
    return first.filter(({ label }) => others.every((limits) => limits.some((limit) => limit.label === label)));
  }

  /** @param {import("./chart_options.js").Choice} before */
  async #chosen(before) {
    const { choice } = this.options;
    // The same part of another axis would be another part of each run.
    if (choice.axis !== before.axis && choice.zoom) {
      this.options.change({ zoom: null });
      return;
    }
    if (choice.seeds !== before.seeds) this.#setLines();
    if (choice.axis !== before.axis || choice.zoom !== before.zoom || choice.span !== before.span) {
      await Promise.allSettled(this.runs.filter(({ run }) => run !== null).map((run) => run.load(choice)));
    }
    this.painter.ask();
  }

  /**
   * @param {string} what
   * @param {(run: ComparedRun) => string[]} fields
   */
  #csv(what, fields) {
    return downloadButton(
      `Download ${what} as CSV`,
      async (signal, progress) => {
        const domain = this.#domain();
        const parts = this.#shown().map((run) => ({ run: run.id, fields: fields(run), ...stepsOf(domain, run.horizontal, run.newest) }));
        return { name: fileName(parts.map(({ run }) => run), what), text: await csvOf(parts, signal, progress) };
      },
      (error) => notify(error.message, "error"),
    );
  }
}

/** @param {import("./panels.js").Group[]} groups */
function charts(groups) {
  return groups.reduce((sum, { panels }) => sum + panels.length, 0);
}

/**
 * @param {ComparedRun} run
 * @param {string} title
 */
function fieldsOf(run, title) {
  return run.groups.flatMap(({ panels }) => panels).find(({ look }) => look.title === title)?.fields ?? [];
}

/**
 * Charts of pass@k for the smallest and the largest k.
 * @param {number[]} ks
 * @returns {import("./chart.js").Look[]}
 */
function passLooks(ks) {
  return [...new Set([Math.min(...ks), Math.max(...ks)])].map((k) => ({ ...passAtK, title: passTitle(k), lines: [] }));
}

/**
 * @param {ComparedRun} run
 * @param {string} k
 * @returns {Record<string, import("./chart.js").Curve>}
 */
function passCurve({ run, horizontal }, k) {
  const found = run.status.evaluations.filter((/** @type {any} */ one) => one.pass_at_k[k] !== undefined);
  return { pass: { places: found.map((/** @type {any} */ one) => horizontal.place(one.step)), values: found.map((/** @type {any} */ one) => one.pass_at_k[k]) } };
}
