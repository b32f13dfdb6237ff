// @ts-check
// The legend of a chart: its lines with their values, and the limits that lie outside of the vertical axis.

import { el, say, svg } from "./dom.js";
import { hint } from "./hint.js";

/** The legend; `element` goes on the page. */
export class Legend {
  /** @type {{value: HTMLElement, smooth: HTMLElement}[]} */
  #items = [];

  /** @param {import("./chart.js").Look} look */
  constructor(look) {
    this.look = look;
    this.lines = el("ul", { class: "legend" });
    this.limits = el("p", { class: "off-scale", hidden: true });
    this.element = el("div", { class: "legends" }, this.lines, this.limits);
  }

  /** @param {import("./chart.js").Line[]} lines */
  setLines(lines) {
    this.#items = lines.map(() => ({ value: el("b"), smooth: el("i", { title: "smoothed", hidden: true }) }));
    this.lines.replaceChildren(
      ...lines.map((line, i) => {
        const { value, smooth } = this.#items[i];
        const name = this.look.terse ? el("span", { class: "unseen" }, line.label) : line.label;
        return el("li", { class: line.tone, title: this.look.terse ? line.label : null }, swatch(line, this.look.stacked), name, line.note ? hint(`About ${line.label}`, line.note) : null, " ", value, smooth);
      }),
    );
  }

  /**
   * Show the values of a line.
   * @param {number} index
   * @param {string} value
   * @param {string} smooth the smoothed value; empty without smoothing
   * @param {boolean} drawn whether the line has points
   */
  show(index, value, smooth, drawn) {
    if (this.look.terse) this.lines.children[index].toggleAttribute("hidden", !drawn);
    say(this.#items[index].value, value);
    this.#items[index].smooth.hidden = smooth === "";
    say(this.#items[index].smooth, smooth);
  }

  /**
   * Name the limits that are not drawn.
   * @param {import("./chart.js").Limit[]} limits
   * @param {number} top the upper end of the axis
   */
  showLimits(limits, top) {
    this.limits.hidden = limits.length === 0;
    say(this.limits, limits.map(({ label, value }) => `${label} ${value > top ? "↑" : "↓"}`).join(" · "));
  }
}

/**
 * @param {import("./chart.js").Line} line
 * @param {boolean} [area]
 */
function swatch(line, area) {
  const mark = area ? svg("path", { class: "area", d: "M0 1H14V11H0Z" }) : svg("path", { class: line.kind ?? "line", d: "M0 6h14" });
  return svg("svg", { viewBox: "0 0 14 12", "aria-hidden": "true" }, mark);
}
