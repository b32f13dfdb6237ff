// @ts-check
// One chart in SVG: lines, step lines or a stack over a horizontal axis, with a legend that shows values.

import { rangeSelection } from "./chart_zoom.js";
import { slider } from "./chart_cursor.js";
import { areaPath, extent, linePath, nearest, rangePath, roomy, axis, scale, stack, within } from "./chart_geometry.js";
import { Legend } from "./chart_legend.js";
import { summary, wordsAt } from "./chart_words.js";
import { gridNodes, limitNodes, markNodes, sharp } from "./chart_marks.js";
import { el, say, set, svg } from "./dom.js";
import { short } from "./format.js";
import { hint } from "./hint.js";
import { placeText, ticksOf } from "./horizontal.js";

/** @typedef {import("./chart_geometry.js").Column} Column */

/**
 * @typedef {object} Line
 * @property {string} key
 * @property {string} label
 * @property {string} tone the class that sets its colour
 * @property {"line" | "step" | "dotted" | "points"} [kind]
 * @property {string} [note] explanation
 */

/**
 * @typedef {object} Look
 * @property {string} title
 * @property {string} unit
 * @property {Line[]} lines
 * @property {string} [note] explanation
 * @property {boolean} [stacked]
 * @property {boolean} [zero] the axis starts at zero
 * @property {number} [top] upper end of the axis
 * @property {boolean} [large]
 * @property {boolean} [terse] the legend has no names, only values
 * @property {(value: number | null | undefined) => string} [format]
 */

/**
 * The points of one line. `places` are on the horizontal axis, ascending.
 * @typedef {object} Curve
 * @property {number[]} places
 * @property {Column} values
 * @property {Column | null} [smooth] drawn in place of `values`, which stay visible behind it
 * @property {Column} [low]
 * @property {Column} [high] with `low`: the range around each point
 */

/** @typedef {{value: number, label: string, of: string}} Limit a bound, and the key of the line that it bounds */

/**
 * @typedef {object} Data
 * @property {import("./horizontal.js").Kind} axis
 * @property {[number, number]} domain
 * @property {Record<string, Curve>} curves
 * @property {Record<string, number | null>} [newest] values of the newest step, as a point of the curve is a mean over steps
 * @property {{place: number, label: string}[]} [marks] where a change took effect
 * @property {[number, number][]} [bands] ranges of places to shade
 * @property {[number, number][]} [preview] a line of a change that is not made yet
 * @property {Limit[]} [limits]
 */

const EDGE = { left: 44, right: 12, top: 16, bottom: 20 };
const TICK_WIDTH = 80;
/** @type {Curve} */
const EMPTY = { places: [], values: [] };
let made = 0;

/** A chart. `element` goes on the page; `draw` draws the data passed to `give`. */
export class Chart {
  /** @type {Data} */
  #data = { axis: "step", domain: [0, 1], curves: {} };
  /** @type {Line[]} */
  #lines = [];
  #width = 0;
  #height = 0;
  /** @type {(place: number) => number} */
  #x = (place) => place;
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
   * @param {import("./chart_zoom.js").Zoom} zoom
   */
  constructor(look, cursor, zoom) {
    this.look = look;
    this.cursor = cursor;
    made += 1;
    this.parts = {
      grid: svg("g", { class: "grid" }),
      bands: svg("path", { class: "band" }),
      ranges: svg("g", { class: "shades", "clip-path": `url(#clip-${made})` }),
      curves: svg("g", { "clip-path": `url(#clip-${made})` }),
      limits: svg("g"),
      preview: svg("path", { class: "preview", "clip-path": `url(#clip-${made})` }),
      marks: svg("g", { class: "marks" }),
      selection: svg("rect", { class: "selection", y: EDGE.top }),
      cursor: svg("g", { class: "reading" }),
      clip: svg("rect"),
    };
    const { clip, ...drawn } = this.parts;
    this.svg = svg("svg", { role: "img" }, svg("clipPath", { id: `clip-${made}` }, clip), ...Object.values(drawn));
    this.legend = new Legend(look);
    this.at = el("span", { class: "at" });
    this.tools = el("span", { class: "tools" });
    this.track = slider(cursor, {
      label: look.title,
      places: () => this.#longest().places,
      placeAt: (x) => this.#placeAt(x),
      text: (place) => this.#words(place),
      newest: () => `newest ${this.#data.axis === "step" ? "step" : "point"}`,
    });
    rangeSelection(this.track, zoom, {
      placeAt: (x) => this.#placeAt(x),
      cursor: () => cursor.place,
      show: (from, to) => this.#showSelection(from, to),
    });
    const plot = el("div", { class: "plot" }, this.svg, this.track);
    const heading = el(look.large ? "h3" : "h4", {}, look.title, " ", el("span", { class: "unit" }, look.unit));
    const explained = look.note ? hint(`About ${look.title}`, look.note) : null;
    const caption = el("figcaption", {}, el("div", { class: "chart-title" }, heading, explained), this.at, this.tools, this.legend.element);
    this.element = el("figure", { class: look.large ? "chart large" : "chart" }, caption, plot);
    this.setLines(look.lines);
    cursor.follow(() => this.#drawCursor());
    this.#observer.observe(plot);
  }

  /** @param {Line[]} lines */
  setLines(lines) {
    this.#lines = lines;
    this.parts.ranges.replaceChildren(...lines.map((line) => svg("g", { class: line.tone }, svg("path", { class: "range" }))));
    this.parts.curves.replaceChildren(
      ...lines.map((line) => {
        const curve = svg("path", { class: this.look.stacked ? "area" : `main ${line.kind ?? "line"}` });
        return svg("g", { class: line.tone }, svg("path", { class: "raw" }), curve, line.kind === "points" ? svg("path", { class: "dots" }) : null);
      }),
    );
    this.legend.setLines(lines);
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
    this.#drawMarks();
    this.#drawCursor();
    set(this.svg, { "aria-label": summary(this.look, this.#lines, this.#data, this.#longest().places) });
  }

  /** @param {string} key */
  #curve(key) {
    return this.#data.curves[key] ?? EMPTY;
  }

  #longest() {
    return this.#lines.map(({ key }) => this.#curve(key)).reduce((a, b) => (b.places.length > a.places.length ? b : a), EMPTY);
  }

  /** The columns that the vertical axis must hold, in the part of the axis that is shown. */
  #visible() {
    const curves = this.#lines.map(({ key }) => this.#curve(key));
    if (this.look.stacked) return stack(curves.map((curve) => curve.values.slice(...within(curve.places, this.#data.domain)))).map((edge) => edge.upper);
    return curves.flatMap(({ places, values, low, high }) => {
      const part = within(places, this.#data.domain);
      return [values, low ?? [], high ?? []].map((column) => column.slice(...part));
    });
  }

  #drawAxes() {
    const { axis: kind, domain: [first, last], preview = [], limits = [] } = this.#data;
    const [low, high] = roomy(extent([...this.#visible(), preview.map((point) => point[1])]) ?? [0, 1]);
    const pad = (high - low) * 0.06;
    const from = this.look.zero || (low >= 0 && low < pad) ? Math.min(0, low) : low - pad;
    const vertical = axis(from, Math.min(high + pad / 2, this.look.top ?? Infinity), this.look.large ? 5 : 3, true);
    const bottom = this.#height - EDGE.bottom;
    this.#x = scale(first, last, EDGE.left, this.#width - EDGE.right);
    this.#y = scale(vertical.low, vertical.high, bottom, EDGE.top);
    set(this.parts.clip, { x: EDGE.left, y: 0, width: Math.max(0, this.#width - EDGE.left), height: bottom + 1 });
    this.parts.grid.replaceChildren(...gridNodes(this.#frame(), vertical, ticksOf(kind, first, last, Math.max(2, Math.floor(this.#width / TICK_WIDTH)))));
    const drawn = limits.filter(({ value }) => value >= vertical.low && value <= vertical.high);
    this.parts.limits.replaceChildren(...limitNodes(this.#frame(), drawn, this.#lines));
    this.legend.showLimits(limits.filter((limit) => !drawn.includes(limit)), vertical.high);
  }

  #frame() {
    return { left: EDGE.left, right: this.#width - EDGE.right, top: EDGE.top, bottom: this.#height - EDGE.bottom, x: this.#x, y: this.#y };
  }

  #drawCurves() {
    const edges = this.look.stacked ? stack(this.#lines.map(({ key }) => this.#curve(key).values)) : [];
    this.#lines.forEach(({ key, kind }, i) => {
      const { places, values, smooth, low, high } = this.#curve(key);
      const [range] = this.parts.ranges.children[i].children;
      const [raw, curve, dots] = this.parts.curves.children[i].children;
      if (this.look.stacked) {
        set(curve, { d: areaPath(places, edges[i].lower, edges[i].upper, this.#x, this.#y) });
        return;
      }
      const [from, end] = within(places, this.#data.domain);
      const seen = places.slice(from, end);
      const path = (/** @type {Column} */ column) => linePath(seen, column.slice(from, end), this.#x, this.#y, kind === "step");
      set(range, { d: low && high ? rangePath(seen, low.slice(from, end), high.slice(from, end), this.#x, this.#y) : "" });
      set(raw, { d: smooth ? path(values) : "" });
      set(curve, { d: path(smooth ?? values) });
      if (dots) set(dots, { d: places.map((place, at) => linePath([place], [values[at]], this.#x, this.#y)).join("") });
    });
  }

  #drawMarks() {
    const { marks = [], bands = [], preview = [], domain } = this.#data;
    const { left, right, top, bottom } = this.#frame();
    const inside = (/** @type {number} */ place) => Math.round(Math.min(right, Math.max(left, this.#x(place))));
    const shade = bands.map(([from, to]) => `M${inside(from)} ${top}H${inside(to)}V${bottom}H${inside(from)}Z`);
    set(this.parts.bands, { d: shade.join("") });
    set(this.parts.preview, { d: linePath(preview.map((p) => p[0]), preview.map((p) => p[1]), this.#x, this.#y) });
    const inView = marks.filter(({ place }) => place >= domain[0] && place <= domain[1]);
    this.parts.marks.replaceChildren(...markNodes(this.#frame(), inView));
  }

  #drawCursor() {
    const { axis: kind, newest } = this.#data;
    const { place } = this.cursor;
    const format = this.look.format ?? short;
    const main = this.#longest();
    const index = place === null ? -1 : nearest(main.places, place);
    const here = index >= 0 ? main.places[index] : null;
    say(this.at, here === null ? "" : placeText(kind, here));
    this.parts.cursor.replaceChildren();
    if (here !== null && this.#width > 0) {
      const { top, bottom } = this.#frame();
      this.parts.cursor.append(svg("path", { d: `M${sharp(this.#x(here))} ${top}V${bottom}` }));
    }
    this.#lines.forEach(({ key, tone }, i) => {
      const curve = this.#curve(key);
      const at = here === null ? curve.places.length - 1 : pointAt(curve, main, here);
      const smooth = curve.smooth ? format(curve.smooth[at]) : "";
      const value = here === null && newest && key in newest ? newest[key] : curve.values[at];
      this.legend.show(i, format(value), smooth, curve.places.length > 0);
      const drawn = (curve.smooth ?? curve.values)[at] ?? null;
      if (here === null || drawn === null || this.look.stacked || this.#width === 0) return;
      this.parts.cursor.append(svg("circle", { cx: this.#x(curve.places[at]), cy: this.#y(drawn), r: 3.5, class: tone }));
    });
  }

  /**
   * @param {number | null} from
   * @param {number} to
   */
  #showSelection(from, to) {
    const { left, right, top, bottom } = this.#frame();
    const [a, b] = from === null ? [0, 0] : [this.#x(from), this.#x(to)].map((x) => Math.min(right, Math.max(left, x)));
    set(this.parts.selection, { x: Math.min(a, b), width: Math.abs(b - a), height: Math.max(0, bottom - top) });
  }

  /** @param {number} x */
  #placeAt(x) {
    const [first, last] = this.#data.domain;
    return scale(EDGE.left, this.#width - EDGE.right, first, last)(x);
  }

  /** @param {number} place */
  #words(place) {
    const main = this.#longest();
    return wordsAt(this.look, this.#lines, this.#data, place, (key) => pointAt(this.#curve(key), main, place));
  }
}

/**
 * The index of a curve's point at a place; -1 where the curve has none.
 * @param {Curve} curve
 * @param {Curve} main the curve whose points the cursor goes along
 * @param {number} place
 */
function pointAt(curve, main, place) {
  const { places } = curve;
  if (curve === main || places.length === 0) return nearest(places, place);
  const gap = places.length > 1 ? (places[places.length - 1] - places[0]) / (places.length - 1) : 0;
  return place < places[0] - gap || place > places[places.length - 1] + gap ? -1 : nearest(places, place);
}
