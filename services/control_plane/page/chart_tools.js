// @ts-check
// The controls above the charts: range, axis, smoothing, zoom, download.

import { SPANS } from "./chart_options.js";
import { el, say, set } from "./dom.js";
import { count } from "./format.js";
import { hint } from "./hint.js";
import { KIND_NAMES, KINDS } from "./horizontal.js";

/** @type {[string, number][]} */
const RECENT = [["All steps", 0], ["Last 1,000", 1000], ["Last 200", 200]];

const ABOUT =
  "Drag over a chart to zoom in, double-click to show all; or focus a chart and press + or −, 0 shows all, and the arrow keys read out values. " +
  "Smoothing: an exponential mean over about that many steps; the measured curve stays visible behind it. " +
  "Ranges: the lowest and the highest of the steps that one point stands for. CSV: every step shown, unsmoothed. The address keeps all of this.";

/**
 * @param {import("./chart_options.js").ChartOptions} options
 * @param {import("./chart_zoom.js").Zoom} zoom
 * @param {HTMLElement} csv downloads all charts
 * @param {boolean} [recent] offer the newest steps as ranges
 */
export function chartTools(options, zoom, csv, recent = true) {
  const radios = RECENT.map(([, steps]) => el("input", { type: "radio", name: "range", value: steps, change: () => options.change({ recent: steps, zoom: null }) }));
  const choices = RECENT.map(([label], i) => el("label", {}, radios[i], el("span", {}, label)));
  const ranges = el("fieldset", { class: "ranges", hidden: !recent }, el("legend", { class: "unseen" }, "Steps to show"), ...choices);
  const axis = el("select", { id: "axis", change: () => options.change({ axis: /** @type {any} */ (axis.value) }) }, ...KINDS.map((kind) => el("option", { value: kind }, KIND_NAMES[kind])));
  const span = el("input", { id: "smoothing", type: "range", min: 0, max: SPANS.length - 1, step: 1, "aria-describedby": "smoothing-text", input: () => options.change({ span: SPANS[Number(span.value)] }) });
  const spanText = el("output", { id: "smoothing-text", for: "smoothing" });
  const shade = el("input", { id: "shade", type: "checkbox", change: () => options.change({ range: shade.checked }) });
  const all = el("button", { type: "button", click: () => zoom.reset() }, "Show all");
  const zooms = el(
    "div",
    { class: "zooms", role: "group", "aria-label": "Zoom" },
    el("button", { type: "button", "aria-label": "Zoom in", title: "Zoom in; or drag over a chart", click: () => zoom.by(0.5, null) }, "+"),
    el("button", { type: "button", "aria-label": "Zoom out", title: "Zoom out", click: () => zoom.by(2, null) }, "−"),
    all,
  );
  const show = () => {
    const { choice } = options;
    for (const radio of radios) radio.checked = choice.zoom === null && Number(radio.value) === choice.recent;
    axis.value = choice.axis;
    span.value = String(SPANS.indexOf(choice.span));
    const text = choice.span ? `over ${count(choice.span)} steps` : "off";
    say(spanText, text);
    set(span, { "aria-valuetext": text });
    shade.checked = choice.range;
    all.disabled = choice.zoom === null && choice.recent === 0;
  };
  show();
  options.follow(show);
  return el(
    "div",
    { class: "chart-tools" },
    ranges,
    el("div", { class: "tool" }, el("label", { for: "axis" }, "Axis"), axis),
    el("div", { class: "tool" }, el("label", { for: "smoothing" }, "Smoothing"), span, spanText),
    el("div", { class: "tool" }, shade, el("label", { for: "shade", title: "Lowest and highest value of the steps that a point stands for" }, "Ranges")),
    zooms,
    hint("About the controls of the curves", ABOUT),
    csv,
  );
}
