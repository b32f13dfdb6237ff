// @ts-check
// The step whose values all charts of a run show, and the control on each chart that moves it.

import { el, set } from "./dom.js";

/** One step for every chart; null: the newest values are shown. */
export class Cursor {
  /** @type {number | null} */
  step = null;
  /** @type {Set<() => void>} */
  #followers = new Set();
  #asked = false;

  /** @param {() => void} draw */
  follow(draw) {
    this.#followers.add(draw);
  }

  /** @param {number | null} step */
  move(step) {
    if (step === this.step) return;
    this.step = step;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      for (const draw of this.#followers) draw();
    });
  }
}

/**
 * @typedef {object} Track
 * @property {string} label
 * @property {() => number[]} steps the steps of the points
 * @property {(x: number) => number} stepAt the step at a distance from the left edge, CSS pixels
 * @property {(step: number) => string} text the values at a step, as text
 */

/**
 * The control on a chart: pointer and arrow keys move the cursor.
 * @param {Cursor} cursor
 * @param {Track} track
 */
export function slider(cursor, track) {
  const made = el("div", {
    class: "track",
    role: "slider",
    tabindex: 0,
    "aria-label": `Read out ${track.label} by step`,
    "aria-valuemin": 0,
    "aria-valuemax": 0,
    "aria-valuenow": 0,
    "aria-valuetext": "newest step",
    pointermove: (event) => cursor.move(Math.round(track.stepAt(event.offsetX))),
    pointerleave: () => document.activeElement === made || cursor.move(null),
    blur: () => cursor.move(null),
    keydown: (event) => {
      const to = target(event, cursor.step, track.steps());
      if (to === undefined) return;
      event.preventDefault();
      cursor.move(to);
      const steps = track.steps();
      set(made, {
        "aria-valuemin": steps[0] ?? 0,
        "aria-valuemax": steps.at(-1) ?? 0,
        "aria-valuenow": to ?? steps.at(-1) ?? 0,
        "aria-valuetext": to === null ? "newest step" : track.text(to),
      });
    },
  });
  return made;
}

/**
 * The step that a key moves to; null: no cursor; undefined: a key that does nothing here.
 * @param {KeyboardEvent} event
 * @param {number | null} step
 * @param {number[]} steps
 */
function target(event, step, steps) {
  if (event.ctrlKey || event.metaKey || event.altKey || steps.length === 0) return undefined;
  if (event.key === "Escape") return step === null ? undefined : null;
  const here = step === null ? steps.length - 1 : steps.findLastIndex((at) => at <= step);
  const stride = event.shiftKey ? 10 : 1;
  /** @type {Record<string, number>} */
  const places = {
    ArrowLeft: here - stride,
    ArrowDown: here - stride,
    ArrowRight: here + stride,
    ArrowUp: here + stride,
    PageDown: here - 25,
    PageUp: here + 25,
    Home: 0,
    End: steps.length - 1,
  };
  const place = places[event.key];
  return place === undefined ? undefined : steps[Math.min(steps.length - 1, Math.max(0, place))];
}
