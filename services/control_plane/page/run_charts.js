// @ts-check
// The charts of one run, with their controls: what they load, and what they show.

import { Chart } from "./chart.js";
import { Cursor } from "./chart_cursor.js";
import { ranges } from "./chart_geometry.js";
import { ChartOptions } from "./chart_options.js";
import { chartTools } from "./chart_tools.js";
import { csvOf, downloadButton, evaluationsCsv, fileName } from "./csv.js";
import { curvesOf, newestOf, placesOf, tolerated } from "./curves.js";
import { notify } from "./dialog.js";
import { el, say } from "./dom.js";
import { limitText } from "./entropy_state.js";
import { Horizontal, PLACE_FIELDS } from "./horizontal.js";
import { entropyPanel, groupsOf, passAtK, passCurves, TARGET_TOLERANCE } from "./panels.js";
import { Series } from "./series.js";
import { groupElement, stepsOf, wantedOf, zoomOf } from "./chart_view.js";

const RECENT_POINTS = 12;

/** @typedef {{step: number, pass_at_k: Record<string, number>}} Evaluation */

/** The charts of a run. `furnish` builds those that depend on its configuration. */
export class RunCharts {
  /** @type {import("./panels.js").Panel[]} */
  #panels = [];
  /** @type {Chart[]} */
  #charts = [];
  /** @type {Evaluation[]} */
  #evaluations = [];
  #passKeys = "";
  /** The newest step of the run; -1 without one. */
  #newest = -1;

  /**
   * @param {string} id
   * @param {URLSearchParams} options from the address
   * @param {object} host
   * @param {AbortSignal} host.signal
   * @param {() => void} host.onChange the charts are to be drawn again
   */
  constructor(id, options, { signal, onChange }) {
    this.id = id;
    this.signal = signal;
    this.onChange = onChange;
    this.options = new ChartOptions(options);
    this.cursor = new Cursor();
    this.series = new Series(id, []);
    this.whole = new Series(id, PLACE_FIELDS);
    this.zoom = zoomOf(this.options, { shown: () => this.#domain(), all: () => this.#all(), axis: () => this.#horizontal() });
    this.entropy = new Chart(entropyPanel.look, this.cursor, this.zoom);
    this.pass = new Chart(passAtK, this.cursor, this.zoom);
    this.limit = el("p", { class: "limit-note", role: "status" });
    this.entropy.element.append(this.limit);
    /** The entropy chart, with room for its control. */
    this.row = el("div", { class: "entropy" }, this.entropy.element);
    this.groups = el("div", { class: "groups" });
    const after = el("span", { tabindex: -1 });
    this.element = el(
      "section",
      { "aria-labelledby": "charts-title" },
      el("div", { class: "title-line" }, el("h2", { id: "charts-title" }, "Curves"), chartTools(this.options, this.zoom, this.#csv("all charts", () => this.series.fields))),
      this.row,
      el("button", { type: "button", class: "skip-charts", click: () => after.focus() }, "Skip the charts"),
      this.groups,
      after,
    );
    this.options.follow((before) => this.#chosen(before));
  }

  /**
   * Build the charts.
   * @param {Record<string, any>} config the run's configuration
   */
  furnish(config) {
    const groups = groupsOf(config);
    this.#panels = groups.flatMap((group) => group.panels);
    const fields = [...entropyPanel.fields, ...PLACE_FIELDS, ...this.#panels.flatMap((panel) => panel.fields)];
    this.series = new Series(this.id, [...new Set(fields)]);
    this.#charts = this.#panels.map((panel) => new Chart(panel.look, this.cursor, this.zoom));
    this.#charts.forEach((chart, i) => chart.tools.append(this.#csv(chart.look.title, () => this.#panels[i].fields)));
    this.entropy.tools.replaceChildren(this.#csv(entropyPanel.look.title, () => entropyPanel.fields));
    this.pass.tools.replaceChildren(
      downloadButton(`Download ${passAtK.title} as CSV`, async () => ({ name: fileName([this.id], passAtK.title), text: evaluationsCsv([{ run: this.id, evaluations: this.#evaluations }]) }), fail),
    );
    const charts = [...this.#charts];
    this.groups.replaceChildren(
      ...groups.map((group) => {
        const own = charts.splice(0, group.panels.length).map((chart) => chart.element);
        if (group.title === "Reward and exploration") own.splice(1, 0, this.pass.element);
        return groupElement(group, own);
      }),
    );
  }

  /** Stop observing. */
  end() {
    for (const chart of [this.entropy, this.pass, ...this.#charts]) chart.end();
  }

  /** The number of steps shown. */
  get span() {
    const [first, last] = this.series.domain;
    return last - first;
  }

  /** The newest step up to which the curves are complete. */
  get last() {
    return this.series.last;
  }

  /** Whether a reload is due. */
  get overdue() {
    return this.series.overdue;
  }

  /** Mean duration of recent steps, seconds; null before the first one. */
  get stepSeconds() {
    const column = this.series.values.step_seconds?.slice(-RECENT_POINTS).filter((value) => value !== null) ?? [];
    return column.length ? column.reduce((sum, value) => sum + value, 0) / column.length : null;
  }

  /**
   * Read the curves.
   * @param {number} newest the newest step of the run
   */
  async load(newest) {
    this.#newest = newest;
    if (this.options.choice.axis !== "step") await this.whole.load(this.signal, newest);
    this.#aim();
    await this.series.load(this.signal, newest);
  }

  /**
   * @param {Record<string, any>} record the newest
   * @returns {boolean} false after a rollback
   */
  know(record) {
    return this.series.know(record);
  }

  /**
   * @param {Record<string, any>} record of a new step
   * @returns {boolean} false after a rollback
   */
  append(record) {
    this.#newest = record.step;
    this.whole.append(record);
    return this.series.append(record);
  }

  /** @param {Evaluation[]} evaluations */
  evaluated(evaluations) {
    this.#evaluations = evaluations.toSorted((a, b) => a.step - b.step);
  }

  /**
   * Draw all charts.
   * @param {object} now
   * @param {any} now.record the newest
   * @param {{step: number, label: string}[]} now.marks steps at which a change of the target took effect
   * @param {[number, number][]} now.preview steps and values of a change that is not made yet
   */
  draw({ record, marks, preview }) {
    const { series } = this;
    const { choice } = this.options;
    const horizontal = this.#horizontal();
    const places = placesOf(series, horizontal);
    const domain = this.#domain();
    const shown = { series, places, choice };
    const base = { axis: choice.axis, domain };
    // A part of the past shows its own last values.
    const current = series.wanted.to === null;
    // A point stands for many steps in a long run: shaded is where entropy control was at its limit most of the time.
    const bands = ranges(places, (series.values.saturated ?? []).map((share) => Number((share ?? 0) >= 0.5)));
    this.limit.dataset.state = record?.saturated ? "warn" : "";
    say(this.limit, limitText(record, bands.length > 0));
    const ahead = preview.map(([step, value]) => /** @type {[number, number]} */ ([horizontal.place(step), value]));
    const curves = curvesOf(entropyPanel, shown);
    if (choice.range) curves.entropy_target = tolerated(curves.entropy_target, TARGET_TOLERANCE);
    this.entropy.give({
      ...base,
      domain: choice.zoom ? domain : [domain[0], Math.max(domain[1], ahead.at(-1)?.[0] ?? -Infinity)],
      curves,
      newest: current ? series.newest : undefined,
      marks: marks.map(({ step, label }) => ({ place: horizontal.place(step), label })),
      bands,
      preview: ahead,
    });
    this.#charts.forEach((chart, i) => {
      const panel = this.#panels[i];
      chart.give({ ...base, curves: curvesOf(panel, shown), newest: current ? newestOf(panel, series) : undefined, limits: panel.limits });
    });
    this.#givePass(base, horizontal);
    for (const chart of [this.entropy, this.pass, ...this.#charts]) chart.draw();
  }

  /**
   * @param {{axis: import("./horizontal.js").Kind, domain: [number, number]}} base
   * @param {Horizontal} horizontal
   */
  #givePass(base, horizontal) {
    const { lines, steps, values } = passCurves(this.#evaluations);
    const keys = lines.map((line) => line.key).join();
    if (keys !== this.#passKeys) this.pass.setLines(lines);
    this.#passKeys = keys;
    const places = steps.map((step) => horizontal.place(step));
    const curves = Object.fromEntries(lines.map(({ key }) => [key, { places, values: values[key] }]));
    // The newest evaluation belongs to the policy after the newest step.
    const end = this.options.choice.zoom ? base.domain[1] : Math.max(base.domain[1], places.at(-1) ?? -Infinity);
    this.pass.give({ ...base, domain: [base.domain[0], end], curves });
  }

  /** @param {import("./chart_options.js").Choice} before */
  async #chosen(before) {
    const { choice } = this.options;
    if (this.#newest >= 0 && (choice.axis !== before.axis || choice.zoom !== before.zoom || choice.recent !== before.recent || choice.span !== before.span)) {
      try {
        await this.load(this.#newest);
      } catch {
        // Polling reports the error and reads again.
      }
    }
    this.onChange();
  }

  /** Say which steps the next load reads. */
  #aim() {
    const wanted = wantedOf(this.options.choice, this.#horizontal(), this.#newest);
    if (JSON.stringify(wanted) !== JSON.stringify(this.series.wanted)) this.series.wanted = wanted;
  }

  #horizontal() {
    return new Horizontal(this.options.choice.axis, this.whole, this.series);
  }

  /**
   * What the charts show.
   * @returns {[number, number]}
   */
  #domain() {
    const { zoom } = this.options.choice;
    if (zoom) return zoom;
    const horizontal = this.#horizontal();
    const [from, to] = this.series.domain.map((step) => horizontal.place(step));
    return [from, to > from ? to : from + 1];
  }

  /**
   * All that can be shown.
   * @returns {[number, number]}
   */
  #all() {
    const horizontal = this.#horizontal();
    return [horizontal.place(0), horizontal.place(Math.max(1, this.#newest))];
  }

  /**
   * @param {string} what
   * @param {() => string[]} fields
   */
  #csv(what, fields) {
    return downloadButton(
      `Download ${what} as CSV`,
      async (signal, progress) => {
        const part = { run: this.id, fields: fields(), ...stepsOf(this.#domain(), this.#horizontal(), this.#newest) };
        return { name: fileName([this.id], what), text: await csvOf([part], signal, progress) };
      },
      fail,
    );
  }
}

/** @param {Error} error */
function fail(error) {
  notify(error.message, "error");
}
