// @ts-check
// The entropy target control: the target in force and the desired one, a form with a preview on the chart, the change.

import { call, newKey, runPath } from "./api.js";
import { confirmed } from "./dialog.js";
import { el, say, set } from "./dom.js";
import { authorText, configuredText, fault, limitsOf, limitsText, previewOf, rampText, restOfRamp, stateText } from "./entropy_state.js";
import { count, duration, nats } from "./format.js";
import { backoff, isPassing, sleep } from "./poll.js";

const WAIT_SECONDS = 30;
const ATTEMPTS = 8;

/**
 * @typedef {object} Host what the control needs from the view
 * @property {AbortSignal} signal
 * @property {() => void} onPreview the preview has changed
 * @property {() => number} nextStep
 * @property {() => number} span steps that the chart shows
 * @property {() => number | null} stepSeconds
 */

/** The control of a run's entropy target. */
export class TargetControl {
  /** @type {any} */ #target = null;
  /** @type {any} */ #config = null;
  /** @type {string | null} */ #etag = null;
  /** The generation that this page requested and that no step has applied yet. @type {number | null} */
  #awaited = null;
  /** Why the target cannot be changed; empty if it can. */
  #forbidden = "";

  /**
   * @param {string} run
   * @param {Host} host
   */
  constructor(run, host) {
    this.run = run;
    this.host = host;
    this.now = el("span", { class: "now" }, "–");
    this.state = el("p", { class: "state" });
    this.desired = el("dd");
    this.author = el("dd");
    this.configured = el("dd");
    this.value = el("input", { id: "target", name: "target", type: "number", step: 0.01, inputmode: "decimal", autocomplete: "off", required: true, "aria-describedby": "target-why target-limits target-message" });
    this.over = el("input", { id: "over", name: "over", type: "number", step: 10, min: 0, max: 1000000, value: 0, inputmode: "numeric", autocomplete: "off", "aria-describedby": "over-note" });
    this.why = el("p", { id: "target-why", class: "why", hidden: true });
    this.limits = el("p", { id: "target-limits", class: "note" });
    this.overNote = el("p", { id: "over-note", class: "note" });
    this.message = el("p", { id: "target-message", class: "message", role: "status" });
    this.submit = el("button", { type: "submit", class: "moving", disabled: true }, "Set the target…");
    this.reset = el("button", { type: "button", disabled: true, click: () => this.#askReset() }, "Return to schedule…");
    this.element = this.#panel();
    this.#note();
  }

  /** The line of the change that is in the form, pending, or ramping; empty without one. */
  get preview() {
    if (!this.#target || !this.#config) return [];
    const { spec, status } = this.#target;
    if (this.value.value !== "" && this.#fault() === "") return this.#line(Number(this.value.value), Number(this.over.value));
    if (status.state === "pending" && spec.target !== null) return this.#line(spec.target, spec.over_steps);
    return restOfRamp(this.#target, this.#beyond());
  }

  /** @param {any} config the run's configuration */
  configure(config) {
    this.#config = config.entropy_control;
  }

  /**
   * Keep the form disabled and show why; an empty reason enables it.
   * @param {string} why
   */
  forbid(why) {
    if (why === this.#forbidden) return;
    this.#forbidden = why;
    this.why.hidden = !why;
    say(this.why, why);
    for (const field of [this.value, this.over]) field.disabled = why !== "";
    if (why) [this.value.value, this.over.value] = ["", "0"];
    this.#enable();
    this.host.onPreview();
  }

  #enable() {
    const closed = this.element.getAttribute("aria-busy") === "true" || this.#forbidden !== "";
    this.submit.disabled = closed || !this.#config || !this.#target;
    this.reset.disabled = closed || this.#target?.metadata.source !== "api";
  }

  /** Read the entropy target, with the ETag that the next change is based on. */
  async load() {
    const { body, etag } = await call(runPath(this.run, "/entropy-target"), { signal: this.host.signal });
    this.#take(body, etag);
  }

  #panel() {
    const form = el(
      "form",
      { novalidate: true, submit: (event) => this.#ask(event), input: () => this.#edited() },
      el("div", { class: "field" }, el("label", { for: "target" }, "New target"), el("span", { class: "unit" }, "nats per token"), this.value),
      el("div", { class: "field" }, el("label", { for: "over" }, "Over"), el("span", { class: "unit" }, "learner steps"), this.over),
      this.why,
      this.limits,
      this.overNote,
      el("div", { class: "choices" }, this.submit, this.reset),
    );
    const facts = el("dl", { class: "facts" });
    for (const [name, node] of /** @type {const} */ ([["Desired", this.desired], ["Last changed", this.author], ["Configured", this.configured]])) {
      facts.append(el("dt", {}, name), node);
    }
    return el(
      "section",
      { class: "target-control", "aria-labelledby": "target-title" },
      el("h3", { id: "target-title" }, "Entropy target"),
      el("p", { class: "in-force" }, this.now, " ", el("span", { class: "unit" }, "nats per token")),
      this.state,
      facts,
      form,
      this.message,
    );
  }

  /**
   * @param {any} target
   * @param {string | null} etag
   */
  #take(target, etag) {
    this.#target = target;
    this.#etag = etag;
    say(this.now, nats(target.status.target));
    say(this.state, stateText(target));
    this.state.dataset.state = target.status.state;
    const { spec } = target;
    say(this.desired, spec.target === null ? "as configured" : `${nats(spec.target)}, ${rampText(spec.over_steps)}`);
    say(this.author, authorText(target));
    say(this.configured, configuredText(spec.configured));
    if (this.#config) {
      const limits = limitsOf(this.#config, target);
      set(this.value, { min: limits.low, max: limits.high, placeholder: nats(limits.from) });
      say(this.limits, limitsText(limits));
    }
    this.#enable();
    if (this.#awaited !== null && (target.status.generation ?? 0) >= this.#awaited) this.#acknowledge(target);
    this.host.onPreview();
  }

  #fault() {
    return fault(this.value.value, this.over.value, limitsOf(this.#config, this.#target));
  }

  /**
   * @param {number} target
   * @param {number} over
   */
  #line(target, over) {
    return previewOf(this.host.nextStep(), this.#target.status.target, target, over, this.#beyond());
  }

  #beyond() {
    return Math.max(5, Math.round(0.12 * this.host.span()));
  }

  #edited() {
    if (!this.#target || !this.#config) return;
    const wrong = this.value.value === "" ? "" : this.#fault();
    set(this.value, { "aria-invalid": wrong ? "true" : null });
    this.#tell(wrong, wrong ? "error" : "");
    this.#note();
    this.host.onPreview();
  }

  #note() {
    const over = Number(this.over.value);
    const seconds = this.host.stepSeconds();
    const time = over > 0 && seconds !== null ? `, about ${duration(over * seconds)}` : "";
    say(this.overNote, over > 0 ? `a linear ramp from the target in force${time}` : "0 steps: the whole change at the next step boundary");
  }

  /** @param {SubmitEvent} event */
  async #ask(event) {
    event.preventDefault();
    const wrong = this.#fault();
    if (wrong) {
      set(this.value, { "aria-invalid": "true" });
      this.#tell(wrong, "error");
      this.value.focus();
      return;
    }
    const [target, over, etag] = [Number(this.value.value), Number(this.over.value), this.#etag];
    const body = [fromTo(nats(this.#target.status.target), nats(target)), el("p", {}, `${this.#course(over)} It stays there until the next change.`)];
    if (!(await confirmed({ title: `Change the entropy target of ${this.run}?`, body, yes: "Set the target", tone: "moving" }))) return;
    await this.#change({ method: "PUT", body: { target, over_steps: over } }, etag);
  }

  async #askReset() {
    const etag = this.#etag;
    const configured = configuredText(this.#target.spec.configured);
    const body = [fromTo(nats(this.#target.status.target), "as configured"), el("p", {}, `The configured target takes effect again at the next step boundary: ${configured}.`)];
    if (!(await confirmed({ title: `Return ${this.run} to its configured target?`, body, yes: "Return to the schedule", tone: "moving" }))) return;
    await this.#change({ method: "DELETE" }, etag);
  }

  /** @param {number} over */
  #course(over) {
    const next = this.host.nextStep();
    if (over === 0) return `It takes effect at the next step boundary, about learner step ${count(next)}.`;
    const seconds = this.host.stepSeconds();
    const time = seconds === null ? "" : `, in about ${duration(over * seconds)}`;
    return `It changes linearly over ${count(over)} steps and reaches the new value at about learner step ${count(next + over - 1)}${time}.`;
  }

  /**
   * @param {import("./api.js").Call} change
   * @param {string | null} etag
   */
  async #change(change, etag) {
    this.#busy(true);
    try {
      const { body, etag: after } = await this.#sent({ ...change, headers: { "If-Match": etag ?? "*", "Idempotency-Key": newKey() } });
      this.#awaited = body.metadata.generation;
      this.#tell(`accepted: ${stateText(body)}`, "");
      if (change.method === "PUT") [this.value.value, this.over.value] = ["", "0"];
      this.#note();
      this.#take(body, after);
    } catch (error) {
      if (!this.host.signal.aborted) await this.#refused(/** @type {any} */ (error));
    } finally {
      this.#busy(false);
    }
    this.host.onPreview();
  }

  /**
   * Send the change until it is answered; the idempotency key makes sure that it is made once.
   * @param {import("./api.js").Call} change
   */
  async #sent(change) {
    this.#tell("waiting for the next step boundary…", "");
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await call(runPath(this.run, `/entropy-target?wait=applied&timeout=${WAIT_SECONDS}`), { ...change, signal: this.host.signal });
      } catch (error) {
        if (attempt === ATTEMPTS || !isPassing(error)) throw error;
        this.#tell(`${/** @type {Error} */ (error).message} Retrying; the change is not made twice.`, "");
        await sleep(/** @type {any} */ (error).retryAfter ?? backoff(attempt), this.host.signal);
      }
    }
  }

  /** @param {Error & {status?: number}} error */
  async #refused(error) {
    if (error.status === 401) return;
    const changed = error.status === 412;
    if (changed) await this.load().catch(() => {});
    this.#tell(changed ? `${error.message} The change was not made; the newest state is shown.` : error.message, "error");
  }

  /** @param {any} target */
  #acknowledge(target) {
    const { status } = target;
    const mine = status.generation === this.#awaited;
    this.#tell(
      mine
        ? `in force from learner step ${count(status.applied_from_step)} (generation ${status.generation})`
        : `generation ${this.#awaited} was superseded by ${status.generation} before it was applied`,
      mine ? "done" : "error",
    );
    this.#awaited = null;
  }

  /** @param {boolean} busy */
  #busy(busy) {
    set(this.element, { "aria-busy": busy ? "true" : null });
    this.#enable();
  }

  /**
   * @param {string} text
   * @param {"" | "done" | "error"} kind
   */
  #tell(text, kind) {
    this.message.dataset.kind = kind;
    say(this.message, text);
  }
}

/**
 * @param {string} from
 * @param {string} to
 */
function fromTo(from, to) {
  return el("p", { class: "from-to" }, el("span", {}, from), el("span", { class: "arrow", "aria-label": "to" }, "→"), el("strong", {}, to), el("span", { class: "unit" }, "nats per token"));
}
