// @ts-check
// Sampled rollouts of a run: a search, and a list of prompts and responses, right and wrong ones told apart. Tokens are
// shaded by surprisal, -log p of the sampled token; its mean over base rollouts estimates the entropy.

import { call, runPath } from "./api.js";
import { el, say } from "./dom.js";
import { count, fixed, short } from "./format.js";
import { visible } from "./visible.js";

const PAGE = 10;
/** Largest surprisal of each shade, nats. */
const SHADES = [0.1, 0.7, 1.6, 3];
/** By the reward: 1, between, or 0; none without a score. */
const OUTCOMES = { right: "✓ right", part: "◐ partly right", wrong: "✗ wrong", none: "– no score" };

/** The panel. It loads the newest rollouts when it comes into view, others on a search. */
export class Rollouts {
  /** @type {string | null} */
  #next = null;
  /** Ends the request that a newer search replaces. */
  #asking = new AbortController();
  /** The search that the list shows. */
  #query = new URLSearchParams();

  /**
   * @param {string} run
   * @param {AbortSignal} signal
   */
  constructor(run, signal) {
    this.run = run;
    this.signal = signal;
    this.step = el("input", { id: "rollout-step", type: "number", min: 0, step: 1, inputmode: "numeric", autocomplete: "off" });
    this.role = choice("rollout-role", [["", "any"], ["base", "base"], ["adaptive", "adaptive"]]);
    this.correct = choice("rollout-correct", [["", "any"], ["true", "right"], ["false", "not right"]]);
    this.text = el("input", { id: "rollout-text", type: "search", maxlength: 200, autocomplete: "off" });
    this.list = el("ol", { class: "rollouts" });
    this.message = el("p", { class: "note", role: "status" });
    this.more = el("button", { type: "button", hidden: true, click: () => this.#load(false) }, "Older rollouts");
    this.submit = el("button", { type: "submit" }, "Search");
    this.element = el(
      "section",
      { "aria-labelledby": "rollouts-title" },
      el("h2", { id: "rollouts-title" }, "Rollouts"),
      el(
        "form",
        { class: "rollout-search", role: "search", "aria-labelledby": "rollouts-title", submit: (event) => this.#search(event) },
        ...field("Text", this.text),
        ...field("Step", this.step),
        ...field("Role", this.role),
        ...field("Answer", this.correct),
        this.submit,
      ),
      this.#legend(),
      this.message,
      this.list,
      this.more,
    );
    this.#loadWhenSeen();
  }

  #loadWhenSeen() {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((one) => one.isIntersecting)) return;
      observer.disconnect();
      if (this.#query.toString() === "") this.#ask();
    });
    observer.observe(this.element);
    this.signal.addEventListener("abort", () => observer.disconnect());
  }

  /** @param {Event} event */
  #search(event) {
    event.preventDefault();
    return this.#ask();
  }

  #ask() {
    const asked = { contains: this.text.value, step: this.step.value, role: this.role.value, correct: this.correct.value };
    this.#query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));
    this.#query.set("limit", String(PAGE));
    return this.#load(true);
  }

  /** @param {boolean} anew from the newest; otherwise append older ones */
  async #load(anew) {
    const query = new URLSearchParams(this.#query);
    if (!anew && this.#next !== null) query.set("cursor", this.#next);
    this.#asking.abort();
    const { signal } = (this.#asking = new AbortController());
    this.more.disabled = true;
    try {
      const { body } = await call(runPath(this.run, `/rollouts?${query}`), { signal: AbortSignal.any([signal, this.signal]) });
      const made = body.rollouts.map(entry);
      if (anew) this.list.replaceChildren(...made);
      else this.list.append(...made);
      this.#next = body.next;
      this.more.hidden = body.next === null;
      const shown = this.list.children.length;
      const right = this.list.querySelectorAll('[data-outcome="right"]').length;
      const tally = `${count(shown)} shown, ${count(right)} of them right${body.next === null ? ", no more" : ""}`;
      say(this.message, shown ? tally : none(body.next));
      if (!anew) made[0]?.focus();
    } catch (error) {
      if (!signal.aborted && !this.signal.aborted) say(this.message, /** @type {Error} */ (error).message);
    } finally {
      this.more.disabled = false;
    }
  }

  #legend() {
    const limits = [...SHADES, Infinity];
    const shades = limits.map((limit, i) =>
      el("span", { class: `token shade-${i}` }, limit === Infinity ? `above ${SHADES.at(-1)}` : `to ${limit}`),
    );
    const mean = "Its mean over base rollouts estimates the entropy.";
    return el("p", { class: "legend note" }, "Surprisal −log p of each sampled token, nats: ", ...shades, mean);
  }
}

/** @param {string | null} next */
function none(next) {
  return next === null
    ? "No rollout matches. A run samples rollouts if rollout_samples.per_step is above 0."
    : "No match among the newest; search older ones.";
}

/** @param {any} rollout */
function entry(rollout) {
  const outcome = rollout.scored === false ? "none" : rollout.correct ? "right" : rollout.reward > 0 ? "part" : "wrong";
  const facts = [
    `step ${count(rollout.step)}`,
    `${rollout.role}, temperature ${fixed(rollout.temperature, 2)}`,
    `${count(rollout.length)} tokens${rollout.finish === "length" ? ", truncated" : ""}`,
    ...surprisal(rollout.logprobs),
  ];
  const left = rollout.length - rollout.tokens.length;
  return el(
    "li",
    { tabindex: -1, "data-rollout": rollout.id, "data-outcome": outcome },
    el(
      "p",
      { class: "verdict" },
      el("strong", {}, OUTCOMES[outcome]),
      rollout.scored === false ? null : el("span", {}, `reward ${short(rollout.reward)}`),
      el("span", { class: "note" }, ...visible(rollout.verdict)),
    ),
    el("p", { class: "facts" }, facts.join(" · ")),
    el("pre", { class: "prompt", tabindex: 0, "aria-label": "Prompt" }, ...visible(rollout.prompt)),
    el(
      "pre",
      { class: "response", tabindex: 0, "aria-label": "Response" },
      ...rollout.tokens.map((/** @type {string} */ text, /** @type {number} */ i) => token(text, rollout.logprobs[i])),
      left > 0 ? ` … ${count(left)} more tokens` : null,
    ),
  );
}

/**
 * The mean surprisal as text, if there is one.
 * @param {(number | null)[]} logprobs nats; null for tokens of the environment
 */
function surprisal(logprobs) {
  const sampled = logprobs.filter((logprob) => logprob !== null);
  const sum = sampled.reduce((total, logprob) => total - logprob, 0);
  return sampled.length ? [`mean surprisal ${fixed(sum / sampled.length, 2)}`] : [];
}

/**
 * @param {string} text
 * @param {number | null} logprob nats; null for a token of an environment
 */
function token(text, logprob) {
  if (logprob === null) return el("span", { class: "environment", title: "token of the environment" }, ...visible(text));
  const found = SHADES.findIndex((limit) => -logprob <= limit);
  const shade = found < 0 ? SHADES.length : found;
  return el("span", { class: `token shade-${shade}`, title: `${fixed(-logprob, 2)} nats` }, ...visible(text));
}

/**
 * @param {string} label
 * @param {HTMLElement} input
 */
function field(label, input) {
  return [el("label", { for: input.id }, label), input];
}

/**
 * @param {string} id
 * @param {[string, string][]} options
 */
function choice(id, options) {
  return el("select", { id }, ...options.map(([value, text]) => el("option", { value }, text)));
}
