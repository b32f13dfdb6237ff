// @ts-check
// The list of the compared runs: colour, progress, newest values; each can be hidden.

import { runAddress } from "./address.js";
import { el, row, say, set, svg, table } from "./dom.js";
import { count, level, short } from "./format.js";
import { hint } from "./hint.js";
import { phaseText } from "./phases.js";
import { linesOf } from "./seeds.js";

const HEADINGS = ["Run", "Phase", "Steps", "Entropy", "Target", "Reward"];

/** The list; `update` shows what was read. */
export class ComparedRuns {
  /**
   * @param {import("./compared_run.js").ComparedRun[]} runs
   * @param {import("./chart_options.js").ChartOptions} options
   * @param {() => void} onChange a run was shown or hidden
   */
  constructor(runs, options, onChange) {
    this.runs = runs;
    this.lines = runs.map((run) => line(run, onChange));
    const { table: made, body } = table("The compared runs", HEADINGS, "compared stacking");
    body.append(...this.lines.map(({ element }) => element));
    const box = el("input", { id: "seeds", type: "checkbox", checked: options.choice.seeds, change: () => options.change({ seeds: box.checked }) });
    const note = "Runs that differ only in their seed become one line: their mean, and the range from the lowest to the highest, where all of them have steps.";
    this.seeds = el("div", { class: "tool", hidden: true }, box, el("label", { for: "seeds" }, "Seeds as one line"), hint("About seeds as one line", note));
    this.element = el("section", { "aria-label": "Runs" }, made, this.seeds);
  }

  /** Show what was read. */
  update() {
    this.seeds.hidden = linesOf(this.runs, true).length === this.runs.length;
    for (const one of this.lines) one.update();
  }
}

/**
 * @param {import("./compared_run.js").ComparedRun} run
 * @param {() => void} onChange
 */
function line(run, onChange) {
  const box = el("input", {
    type: "checkbox",
    checked: true,
    "aria-label": `Show ${run.id}`,
    change: () => {
      run.visible = box.checked;
      onChange();
    },
  });
  const swatch = svg("svg", { class: `swatch ${run.tone}`, viewBox: "0 0 22 12", "aria-hidden": "true" }, svg("path", { class: "line", d: "M0 6h22" }));
  const name = el("span", { class: "name" }, box, swatch, el("a", { href: runAddress(run.id) }, run.id));
  const cells = HEADINGS.slice(1).map(() => el("span"));
  return {
    element: row(HEADINGS, [name, ...cells]),
    update() {
      const texts = run.failure ? [run.failure] : textsOf(run.run);
      set(swatch, { class: `swatch ${run.tone}` });
      cells.forEach((cell, i) => say(cell, texts[i] ?? ""));
      cells[0].className = run.failure ? "failure" : "";
    },
  };
}

/** @param {any} run */
function textsOf(run) {
  if (run === null) return ["reading…"];
  const { step, of, record } = run.status;
  return [phaseText(run.status), `${count(step)} / ${count(of)}`, level(record?.entropy), level(record?.entropy_target), short(record?.reward)];
}
