// @ts-check
// Redrawing of the charts: on an animation frame, at most a few times per second.

const LEAST_MILLISECONDS = 250;

/** Combines requests to redraw. */
export class Painter {
  /** @param {() => void} draw */
  constructor(draw) {
    this.draw = draw;
    this.painted = -Infinity;
    this.waiting = false;
    /** Duration of the last redraw, milliseconds. */
    this.took = 0;
  }

  /** Request a redraw. */
  ask() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => requestAnimationFrame(() => this.#paint()), this.painted + LEAST_MILLISECONDS - performance.now());
  }

  #paint() {
    this.waiting = false;
    this.painted = performance.now();
    this.draw();
    this.took = performance.now() - this.painted;
  }
}
