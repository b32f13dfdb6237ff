// @ts-check
// The list of the compared runs: colour, progress, newest values; each can be hidden.

import { runAddress } from "./address.js";
import { el, row, say, svg, table } from "./dom.js";
import { count, level, short } from "./format.js";
import { phaseText } from "./phases.js";

const HEADINGS = ["Run", "Phase", "Steps", "Entropy", "Target", "Reward"];

/** The list; `update` shows what was read. */
export class ComparedRuns {
  /**
   * @param {import("./compared_run.js").ComparedRun[]} runs
   * @param {() => void} onChange a run was shown or hidden
   */
  constructor(runs, onChange) {
    this.lines = runs.map((run) => line(run, onChange));
    const { table: made, body } = table("The compared runs", HEADINGS, "compared stacking");
    body.append(...this.lines.map(({ element }) => element));
    this.element = made;
  }

  /** Show what was read. */
  update() {
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
