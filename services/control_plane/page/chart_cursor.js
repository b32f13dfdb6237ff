// @ts-check
// The place whose values all charts of a view show, and the control on each chart that moves it.

import { nearest } from "./chart_geometry.js";
import { el, set } from "./dom.js";

/** One place on the horizontal axis for every chart; null: the newest values are shown. */
export class Cursor {
  /** @type {number | null} */
  place = null;
  /** @type {Set<() => void>} */
  #followers = new Set();
  #asked = false;

  /** @param {() => void} draw */
  follow(draw) {
    this.#followers.add(draw);
  }

  /** @param {number | null} place */
  move(place) {
    if (place === this.place) return;
    this.place = place;
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
 * @property {() => number[]} places those of the points, ascending
 * @property {(x: number) => number} placeAt the place at a distance from the left edge, CSS pixels
 * @property {(place: number) => string} text the values at a place, as text
 * @property {() => string} newest what is shown without a cursor, as text
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
    "aria-label": `Read out ${track.label}; + and - zoom, 0 shows all`,
    "aria-valuemin": 0,
    "aria-valuemax": 0,
    "aria-valuenow": 0,
    "aria-valuetext": "newest step",
    pointermove: (event) => cursor.move(track.placeAt(event.offsetX)),
    // The layout may move away from below a resting pointer while the keyboard moves the cursor.
    pointerleave: () => document.activeElement?.matches(".track:focus-visible") || cursor.move(null),
    blur: () => cursor.move(null),
    keydown: (event) => {
      const places = track.places();
      const to = target(event, cursor.place, places);
      if (to === undefined) return;
      event.preventDefault();
      cursor.move(to);
      set(made, {
        "aria-valuemin": places[0] ?? 0,
        "aria-valuemax": places.at(-1) ?? 0,
        "aria-valuenow": to ?? places.at(-1) ?? 0,
        "aria-valuetext": to === null ? track.newest() : track.text(to),
      });
    },
  });
  return made;
}

/**
 * The place that a key moves to; null: no cursor; undefined: a key that does nothing here.
 * @param {KeyboardEvent} event
 * @param {number | null} place
 * @param {number[]} places
 */
function target(event, place, places) {
  if (event.ctrlKey || event.metaKey || event.altKey || places.length === 0) return undefined;
  if (event.key === "Escape") return place === null ? undefined : null;
  const here = place === null ? places.length - 1 : nearest(places, place);
  const stride = event.shiftKey ? 10 : 1;
  /** @type {Record<string, number>} */
  const indices = {
    ArrowLeft: here - stride,
    ArrowDown: here - stride,
    ArrowRight: here + stride,
    ArrowUp: here + stride,
    PageDown: here - 25,
    PageUp: here + 25,
    Home: 0,
    End: places.length - 1,
  };
  const index = indices[event.key];
  return index === undefined ? undefined : places[Math.min(places.length - 1, Math.max(0, index))];
}
