// @ts-check
// One chart in SVG: lines, step lines or a stack over the learner step, with a legend that shows values.

import { slider } from "./chart_cursor.js";
import { el, say, set, svg } from "./dom.js";
import { count, short } from "./format.js";
import { areaPath, axis, extent, linePath, nearest, roomy, scale, stack } from "./chart_geometry.js";

/** @typedef {import("./chart_geometry.js").Column} Column */

/**
 * @typedef {object} Line
 * @property {string} key
 * @property {string} label
 * @property {string} tone the class that sets its colour
 * @property {"line" | "step" | "dotted" | "points"} [kind]
 */

/**
 * @typedef {object} Look
 * @property {string} title
 * @property {string} unit
 * @property {Line[]} lines
 * @property {boolean} [stacked]
 * @property {boolean} [zero] the axis starts at zero
 * @property {number} [top] upper end of the axis
 * @property {boolean} [large]
 * @property {(value: number | null | undefined) => string} [format]
 */

/**
 * @typedef {object} Data
 * @property {number[]} steps
 * @property {Record<string, Column>} values
 * @property {Record<string, number | null>} [newest] values of the newest step, as a point of the curve is a mean over steps
 * @property {[number, number]} domain
 * @property {{step: number, label: string}[]} [marks] steps at which a change took effect
 * @property {[number, number][]} [bands] ranges of steps to shade
 * @property {[number, number][]} [preview] a line of a change that is not made yet
 * @property {{value: number, label: string} | null} [limit] drawn if it is within the axis
 */

const EDGE = { left: 44, right: 12, top: 16, bottom: 20 };
const LABEL_ROOM = 26;
let made = 0;

/** A chart. `element` goes on the page; `draw` draws the data passed to `give`. */
export class Chart {
  /** @type {Data} */
  #data = { steps: [], values: {}, domain: [0, 1] };
  /** @type {Line[]} */
  #lines = [];
  #width = 0;
  #height = 0;
  /** @type {(value: number) => number} */
  #x = (step) => step;
  /** @type {(value: number) => number} */
  #y = (value) => value;
  #observer = new ResizeObserver(([entry]) => {
    this.#width = Math.round(entry.contentRect.width);
    this.#height = Math.round(entry.contentRect.height);
    this.draw();
  });

  /**
   * @param {Look} look
   * @param {import("./chart_cursor.js").Cursor} cursor
   */
  constructor(look, cursor) {
    this.look = look;
    this.cursor = cursor;
    made += 1;
    this.parts = {
      grid: svg("g", { class: "grid" }),
      bands: svg("path", { class: "band" }),
      curves: svg("g", { "clip-path": `url(#clip-${made})` }),
      limit: svg("g", { class: "limit" }),
      preview: svg("path", { class: "preview" }),
      marks: svg("g", { class: "marks" }),
      cursor: svg("g", { class: "reading" }),
      clip: svg("rect"),
    };
    const { clip, ...drawn } = this.parts;
    this.svg = svg("svg", { role: "img" }, svg("clipPath", { id: `clip-${made}` }, clip), ...Object.values(drawn));
    this.legend = el("ul", { class: "legend" });
    this.at = el("span", { class: "at" });
    this.track = slider(cursor, {
      label: look.title,
      steps: () => this.#data.steps,
      stepAt: (x) => this.#stepAt(x),
      text: (step) => this.#words(nearest(this.#data.steps, step)),
    });
    const plot = el("div", { class: "plot" }, this.svg, this.track);
    const heading = el("h3", {}, look.title, " ", el("span", { class: "unit" }, look.unit));
    const caption = el("figcaption", {}, heading, this.at, this.legend);
    this.element = el("figure", { class: look.large ? "chart large" : "chart" }, caption, plot);
    this.setLines(look.lines);
    cursor.follow(() => this.#drawCursor());
    this.#observer.observe(plot);
  }

  /** @param {Line[]} lines */
  setLines(lines) {
    this.#lines = lines;
    this.parts.curves.replaceChildren(
      ...lines.map((line) => {
        const curve = svg("path", { class: this.look.stacked ? "area" : line.kind ?? "line" });
        return svg("g", { class: line.tone }, curve, line.kind === "points" ? svg("path", { class: "dots" }) : null);
      }),
    );
    this.legend.replaceChildren(
      ...lines.map((line) => el("li", { class: line.tone }, swatch(line, this.look.stacked), line.label, " ", el("b"))),
    );
  }

  /** @param {Data} data */
  give(data) {
    this.#data = data;
  }

  /** Stop observing the size. */
  end() {
    this.#observer.disconnect();
  }

  /** Draw the newest data. */
  draw() {
    if (this.#width === 0) return;
    set(this.svg, { viewBox: `0 0 ${this.#width} ${this.#height}` });
    this.#drawAxes();
    this.#drawCurves();
    this.#drawExtras();
    this.#drawCursor();
    set(this.svg, { "aria-label": this.#summary() });
  }

  #columns() {
    return this.#lines.map((line) => this.#data.values[line.key] ?? []);
  }

  #drawAxes() {
    const [first, last] = this.#data.domain;
    const shown = this.look.stacked ? stack(this.#columns()).map((edge) => edge.upper) : this.#columns();
    const preview = this.#data.preview?.map((point) => point[1]) ?? [];
    const [low, high] = roomy(extent([...shown, preview]) ?? [0, 1]);
    const pad = (high - low) * 0.06;
    const from = this.look.zero || (low >= 0 && low < pad) ? Math.min(0, low) : low - pad;
    const vertical = axis(from, Math.min(high + pad / 2, this.look.top ?? Infinity), this.look.large ? 5 : 3, true);
    const bottom = this.#height - EDGE.bottom;
    this.#x = scale(first, last, EDGE.left, this.#width - EDGE.right);
    this.#y = scale(vertical.low, vertical.high, bottom, EDGE.top);
    const horizontal = axis(first, last, Math.max(2, Math.floor(this.#width / 80)), false);
    set(this.parts.clip, { x: EDGE.left, y: 0, width: Math.max(0, this.#width - EDGE.left), height: bottom + 1 });
    const lines = vertical.ticks.map((tick) => `M${EDGE.left} ${line(this.#y(tick))}H${this.#width - EDGE.right}`);
    this.parts.grid.replaceChildren(
      svg("path", { class: "rule", d: lines.join("") }),
      ...vertical.ticks.map((tick) =>
        svg("text", { x: EDGE.left - 6, y: this.#y(tick) + 3.5, class: "value" }, tickText(tick, vertical.digits)),
      ),
      ...horizontal.ticks
        .filter((tick) => Number.isInteger(tick))
        .map((tick) => svg("text", { x: this.#x(tick), y: this.#height - 5, class: "step" }, count(tick))),
    );
  }

  #drawCurves() {
    const { steps } = this.#data;
    const columns = this.#columns();
    const edges = this.look.stacked ? stack(columns) : [];
    [...this.parts.curves.children].forEach((group, i) => {
      const [curve, dots] = group.children;
      const d = this.look.stacked
        ? areaPath(steps, edges[i].lower, edges[i].upper, this.#x, this.#y)
        : linePath(steps, columns[i], this.#x, this.#y, this.#lines[i].kind === "step");
      set(curve, { d });
      if (dots) set(dots, { d: steps.map((step, at) => linePath([step], [columns[i][at]], this.#x, this.#y)).join("") });
    });
  }

  #drawExtras() {
    const { marks = [], bands = [], preview = [], limit } = this.#data;
    const bottom = this.#height - EDGE.bottom;
    const shade = bands.map(([from, to]) => `M${this.#inside(from)} ${EDGE.top}H${this.#inside(to)}V${bottom}H${this.#inside(from)}Z`);
    set(this.parts.bands, { d: shade.join("") });
    set(this.parts.preview, { d: linePath(preview.map((p) => p[0]), preview.map((p) => p[1]), this.#x, this.#y) });
    const height = limit ? this.#y(limit.value) : -1;
    this.parts.limit.replaceChildren();
    if (limit && height >= EDGE.top && height <= bottom) {
      this.parts.limit.append(
        svg("path", { d: `M${EDGE.left} ${line(height)}H${this.#width - EDGE.right}` }),
        svg("text", { x: this.#width - EDGE.right - 2, y: height - 3 }, limit.label),
      );
    }
    const inView = marks.filter(({ step }) => step >= this.#data.domain[0] && step <= this.#data.domain[1]);
    const rules = inView.map(({ step }) => `M${line(this.#x(step))} ${EDGE.top - 3}V${bottom}`);
    let free = Infinity;
    const labels = [];
    for (const { step, label } of inView.toSorted((a, b) => b.step - a.step)) {
      const x = this.#x(step);
      if (x > free) continue;
      free = x - LABEL_ROOM;
      labels.push(svg("text", { x: Math.min(x, this.#width - EDGE.right - 8), y: EDGE.top - 5 }, label));
    }
    this.parts.marks.replaceChildren(svg("path", { d: rules.join("") }), ...labels);
  }

  #drawCursor() {
    const { steps, values, newest } = this.#data;
    const index = this.cursor.step === null ? -1 : nearest(steps, this.cursor.step);
    const format = this.look.format ?? short;
    [...this.legend.children].forEach((item, i) => {
      const { key } = this.#lines[i];
      const column = values[key] ?? [];
      const value = index >= 0 ? column[index] : newest && key in newest ? newest[key] : column.at(-1);
      say(/** @type {Element} */ (item.lastElementChild), format(value));
    });
    say(this.at, index >= 0 ? `step ${count(steps[index])}` : "");
    this.parts.cursor.replaceChildren();
    if (index < 0 || this.#width === 0) return;
    const x = this.#x(steps[index]);
    this.parts.cursor.append(svg("path", { d: `M${line(x)} ${EDGE.top}V${this.#height - EDGE.bottom}` }));
    if (this.look.stacked) return;
    this.#lines.forEach(({ key, tone }) => {
      const value = values[key]?.[index];
      if (value !== null && value !== undefined) {
        this.parts.cursor.append(svg("circle", { cx: x, cy: this.#y(value), r: 3.5, class: tone }));
      }
    });
  }

  /** @param {number} step */
  #inside(step) {
    return Math.round(Math.min(this.#width - EDGE.right, Math.max(EDGE.left, this.#x(step))));
  }

  /** @param {number} x */
  #stepAt(x) {
    const [first, last] = this.#data.domain;
    return scale(EDGE.left, this.#width - EDGE.right, first, last)(x);
  }

  /** @param {number} index */
  #words(index) {
    const format = this.look.format ?? short;
    const parts = this.#lines.map(({ key, label }) => `${label} ${format(this.#data.values[key]?.[index])}`);
    return `step ${this.#data.steps[index]}: ${parts.join(", ")}`;
  }

  #summary() {
    const { steps } = this.#data;
    const head = `${this.look.title}${this.look.unit ? `, ${this.look.unit}` : ""}`;
    if (steps.length === 0) return `${head}: no data yet`;
    const format = this.look.format ?? short;
    const parts = this.#lines.flatMap(({ key, label }) => {
      const column = this.#data.values[key] ?? [];
      const range = extent([column]);
      return range ? [`${label} ${format(column.at(-1))}, between ${format(range[0])} and ${format(range[1])}`] : [];
    });
    return `${head}, steps ${steps[0]} to ${steps.at(-1)}: ${parts.join("; ")}`;
  }
}

/**
 * @param {Line} line
 * @param {boolean} [area]
 */
function swatch(line, area) {
  const mark = area ? svg("path", { class: "area", d: "M0 1H14V11H0Z" }) : svg("path", { class: line.kind ?? "line", d: "M0 6h14" });
  return svg("svg", { viewBox: "0 0 14 12", "aria-hidden": "true" }, mark);
}

/**
 * @param {number} tick
 * @param {number} digits
 */
function tickText(tick, digits) {
  if (Math.abs(tick) >= 10000) return `${Number((tick / 1000).toFixed(1))}k`;
  return digits > 4 ? tick.toExponential(0) : tick.toFixed(digits);
}

/**
 * The middle of a device pixel, where a thin line is sharp.
 * @param {number} position
 */
function line(position) {
  return Math.floor(position) + 0.5;
}
