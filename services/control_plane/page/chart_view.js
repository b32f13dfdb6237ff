// @ts-check
// What the views with charts share: the zoom, the steps to load for it, and groups of charts.

import { el } from "./dom.js";

/** Steps of the past that smoothing looks at, in units of its span. */
const MEMORY = 3;
const ROUNDING = 1e-6;

/**
 * The zoom of a view's charts.
 * @param {import("./chart_options.js").ChartOptions} options
 * @param {object} view
 * @param {() => [number, number]} view.shown the places shown
 * @param {() => [number, number]} view.all the places that can be shown
 * @param {() => import("./horizontal.js").Horizontal} view.axis
 * @returns {import("./chart_zoom.js").Zoom}
 */
export function zoomOf(options, { shown, all, axis }) {
  const to = (/** @type {number} */ from, /** @type {number} */ until) => {
    const horizontal = axis();
    // Less than two steps is no curve.
    const least = Math.abs(horizontal.place(2) - horizontal.place(0)) || 1;
    const middle = (from + until) / 2;
    const half = Math.max(until - from, least) / 2;
    const [first, last] = all();
    const zoom = /** @type {[number, number]} */ ([Math.max(first, middle - half), Math.min(last, middle + half)]);
    if (zoom[0] < zoom[1]) options.change({ zoom, recent: 0 });
  };
  return {
    to,
    by(factor, around) {
      const [from, until] = shown();
      const [first, last] = all();
      const width = (until - from) * factor;
      if (width >= last - first) {
        options.change({ zoom: null, recent: 0 });
        return;
      }
      const middle = around ?? (from + until) / 2;
      const left = Math.min(last - width, Math.max(first, middle - (middle - from) * factor));
      to(left, left + width);
    },
    reset: () => options.change({ zoom: null, recent: 0 }),
  };
}

/**
 * The steps of a run that the choice needs.
 * @param {import("./chart_options.js").Choice} choice
 * @param {import("./horizontal.js").Horizontal} horizontal
 * @param {number} newest the newest step of the run
 * @returns {import("./series.js").Wanted}
 */
export function wantedOf({ zoom, recent, span }, horizontal, newest) {
  const margin = Math.ceil(MEMORY * span);
  if (!zoom) return { recent, from: 0, to: null, margin };
  const from = Math.max(0, Math.floor(horizontal.step(zoom[0])));
  const to = Math.max(from + 1, Math.ceil(horizontal.step(zoom[1])));
  return { recent: 0, from, to: to >= newest ? null : to, margin };
}

/**
 * The steps of a run that are shown, for a download.
 * @param {[number, number]} domain
 * @param {import("./horizontal.js").Horizontal} horizontal
 * @param {number} newest the newest step of the run
 */
export function stepsOf(domain, horizontal, newest) {
  const [first, last] = domain.map((place) => horizontal.step(place));
  return { first: Math.max(0, Math.ceil(first - ROUNDING)), last: Math.min(newest, Math.floor(last + ROUNDING)) };
}

/**
 * A group of charts under the question that they answer.
 * @param {{title: string, question: string}} group
 * @param {HTMLElement[]} charts
 */
export function groupElement({ title, question }, charts) {
  return el("details", { class: "group", open: true }, el("summary", {}, el("h3", {}, title), " ", el("span", { class: "note" }, question)), el("div", { class: "charts" }, ...charts));
}
