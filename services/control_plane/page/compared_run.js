// @ts-check
// One of several runs laid over one another: what is read of it, and its curves.

import { call, runPath } from "./api.js";
import { wantedOf } from "./chart_view.js";
import { curvesOf, placesOf } from "./curves.js";
import { Horizontal, PLACE_FIELDS } from "./horizontal.js";
import { entropyPanel, groupsOf, overlaid } from "./panels.js";
import { isPassing } from "./poll.js";
import { Series } from "./series.js";

/** @typedef {import("./panels.js").Group} Group */

/** A run of the comparison. */
export class ComparedRun {
  /** The run resource; null until it is read. @type {any} */
  run = null;
  /** Why the run cannot be read; empty if it can. */
  failure = "";
  visible = true;
  /** @type {Group[]} */
  groups = [];
  /** Whether the configuration was read, or has changed, since the charts were built. */
  fresh = false;
  /** @type {Horizontal} */
  horizontal = new Horizontal("step");
  #hash = "";

  /**
   * @param {string} id
   * @param {string} colour the class that sets its colour
   * @param {AbortSignal} signal
   */
  constructor(id, colour, signal) {
    this.id = id;
    this.colour = colour;
    /** The colour of the line that shows the run: its own, or that of another run with the same configuration. */
    this.tone = colour;
    this.signal = signal;
    this.series = new Series(id, []);
    this.whole = new Series(id, PLACE_FIELDS);
  }

  /** The newest step; -1 without one. */
  get newest() {
    return (this.run?.status.step ?? 0) - 1;
  }

  /**
   * Read the run, and its curves if they have grown. Throws what may pass; anything else becomes `failure`.
   * @param {import("./chart_options.js").Choice} choice
   */
  async read(choice) {
    try {
      const { body } = await call(runPath(this.id), { signal: this.signal });
      this.run = body;
      this.failure = "";
      const changed = body.metadata.config_hash !== this.#hash;
      if (changed) this.#furnish(body);
      const { record } = body.status;
      const onwards = record === null || this.series.know(record);
      if (changed || !onwards || this.newest > this.series.last) await this.load(choice);
    } catch (error) {
      if (this.signal.aborted || isPassing(error)) throw error;
      this.failure = /** @type {Error} */ (error).message;
    }
  }

  /**
   * Read the curves of what is chosen.
   * @param {import("./chart_options.js").Choice} choice
   */
  async load(choice) {
    if (choice.axis !== "step") await this.whole.load(this.signal, this.newest);
    this.horizontal = new Horizontal(choice.axis, this.whole);
    this.series.wanted = wantedOf({ ...choice, recent: 0 }, this.horizontal, this.newest);
    await this.series.load(this.signal, this.newest);
    this.horizontal = new Horizontal(choice.axis, this.whole, this.series);
  }

  /** Whether the run has steps to show. */
  get shows() {
    return this.visible && this.series.steps.length > 0 && this.horizontal.known;
  }

  /** First and last place of the run. @returns {[number, number]} */
  get extent() {
    return [this.horizontal.place(0), this.horizontal.place(Math.max(1, this.newest))];
  }

  /**
   * The curves of a panel; none if the run has no such panel.
   * @param {string} title
   * @param {import("./chart_options.js").Choice} choice
   * @returns {Record<string, import("./chart.js").Curve>}
   */
  curves(title, choice) {
    const panel = title === entropyPanel.look.title ? entropyPanel : this.groups.flatMap((group) => group.panels).find(({ look }) => look.title === title);
    return panel && this.shows ? curvesOf(panel, { series: this.series, places: placesOf(this.series, this.horizontal), choice }) : {};
  }

  /** @param {any} run */
  #furnish({ spec, metadata }) {
    this.#hash = metadata.config_hash;
    this.fresh = true;
    this.groups = groupsOf(spec.config).map((group) => ({ ...group, panels: group.panels.map(overlaid) }));
    const fields = [...entropyPanel.fields, ...PLACE_FIELDS, ...this.groups.flatMap((group) => group.panels.flatMap((panel) => panel.fields))];
    this.series = new Series(this.id, [...new Set(fields)]);
  }
}
