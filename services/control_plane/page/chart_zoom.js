// @ts-check
// Zoom on a chart: drag over a range, double click for all of the axis, and the keys +, - and 0.

/**
 * Changes what part of the horizontal axis all charts show.
 * @typedef {object} Zoom
 * @property {(from: number, to: number) => void} to show a range of places
 * @property {(factor: number, around: number | null) => void} by show that many times as much, around a place or the middle
 * @property {() => void} reset show all of the axis
 */

/**
 * @typedef {object} Surface
 * @property {(x: number) => number} placeAt the place at a distance from the left edge, CSS pixels
 * @property {() => number | null} cursor the place of the cursor
 * @property {(from: number | null, to: number) => void} show draw the selection; null: none
 */

const LEAST_PIXELS = 6;

/**
 * @param {HTMLElement} track
 * @param {Zoom} zoom
 * @param {Surface} surface
 */
export function rangeSelection(track, zoom, surface) {
  /** @type {number | null} */
  let start = null;
  const end = () => {
    start = null;
    surface.show(null, 0);
  };
  track.addEventListener("pointerdown", (event) => {
    // A finger moves the cursor instead; the buttons above the charts zoom.
    if (event.button !== 0 || event.pointerType === "touch") return;
    start = event.offsetX;
    track.setPointerCapture(event.pointerId);
  });
  track.addEventListener("pointermove", (event) => {
    if (start !== null) surface.show(surface.placeAt(start), surface.placeAt(event.offsetX));
  });
  track.addEventListener("pointerup", (event) => {
    const from = start;
    end();
    if (from === null || Math.abs(event.offsetX - from) < LEAST_PIXELS) return;
    const [low, high] = [from, event.offsetX].sort((a, b) => a - b).map(surface.placeAt);
    zoom.to(low, high);
  });
  track.addEventListener("pointercancel", end);
  track.addEventListener("dblclick", () => zoom.reset());
  track.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && start !== null) end();
    else if (event.key === "+" || event.key === "=") zoom.by(0.5, surface.cursor());
    else if (event.key === "-") zoom.by(2, surface.cursor());
    else if (event.key === "0") zoom.reset();
    else return;
    event.preventDefault();
  });
}
