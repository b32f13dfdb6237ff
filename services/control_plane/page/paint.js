// @ts-check
// When the charts are redrawn: on an animation frame, a few times a second at the most.

const LEAST_MILLISECONDS = 250;

/** Collects wishes to redraw and grants them together. */
export class Painter {
  /** @param {() => void} draw */
  constructor(draw) {
    this.draw = draw;
    this.painted = -Infinity;
    this.waiting = false;
    /** How long the last redraw took, milliseconds. */
    this.took = 0;
  }

  /** The data has changed. */
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
