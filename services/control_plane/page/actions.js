// @ts-check
// The buttons of a run: pause, resume, checkpoint, stop.

import { call, runPath } from "./api.js";
import { confirmed, notify } from "./dialog.js";
import { el, say } from "./dom.js";
import { hasEnded } from "./phases.js";

/**
 * @typedef {object} Action
 * @property {string} name
 * @property {string} label
 * @property {string} yes label of the confirming button
 * @property {string} what effect of the action, shown in the dialog
 * @property {string} done
 * @property {boolean} [grave]
 * @property {(phase: string, control: string) => boolean} possible
 */

/** @type {Action[]} */
const ACTIONS = [
  {
    name: "pause",
    label: "Pause",
    yes: "Pause the run",
    what: "The learner pauses at the next step boundary. Generators finish their groups and wait with their engines loaded.",
    done: "Pause requested. It takes effect at the next step boundary.",
    possible: (phase, control) => !hasEnded(phase) && control === "run",
  },
  {
    name: "resume",
    label: "Resume",
    yes: "Resume the run",
    what: "The learner and the generators continue.",
    done: "The run resumes.",
    possible: (phase, control) => !hasEnded(phase) && control === "pause",
  },
  {
    name: "checkpoint",
    label: "Checkpoint",
    yes: "Write a checkpoint",
    what: "A checkpoint is written at the next step boundary, in addition to the configured ones.",
    done: "Checkpoint requested. It is written at the next step boundary.",
    possible: (phase, control) => !hasEnded(phase) && control !== "stop",
  },
  {
    name: "stop",
    label: "Stop",
    yes: "Stop the run",
    what: "The run ends after the current step, with a checkpoint and its report. To continue it, use scope train --resume.",
    done: "Stop requested. The run ends after the current step.",
    grave: true,
    possible: (phase, control) => !hasEnded(phase) && control !== "stop",
  },
];

/**
 * The buttons of a run.
 * @param {string} run
 * @param {(run: any) => void} onRun called with the run after the action
 */
export function actions(run, onRun) {
  const buttons = ACTIONS.map((action) =>
    el("button", { type: "button", class: action.grave ? "grave" : "", disabled: true, click: () => ask(action) }, `${action.label}…`),
  );

  const note = el("p", { id: "actions-note", class: "note", hidden: true });
  let reason = "";

  async function ask(/** @type {Action} */ action) {
    const title = `${action.label} ${run}?`;
    if (!(await confirmed({ title, body: [el("p", {}, action.what)], yes: action.yes, tone: action.grave ? "grave" : "primary" }))) return;
    try {
      const { body } = await call(runPath(run, `:${action.name}`), { method: "POST" });
      onRun(body);
      notify(action.done);
    } catch (error) {
      notify(/** @type {Error} */ (error).message, "error");
    }
  }

  return {
    element: el("div", { class: "actions", role: "group", "aria-label": "Actions on the run", "aria-describedby": "actions-note" }, ...buttons, note),
    /**
     * Keep every button disabled and show why; an empty reason ends this.
     * @param {string} why
     */
    forbid(why) {
      reason = why;
      note.hidden = !why;
      say(note, why);
    },
    /**
     * Enable what is possible.
     * @param {string} phase
     * @param {string} control
     */
    update(phase, control) {
      buttons.forEach((button, i) => {
        const possible = !reason && ACTIONS[i].possible(phase, control);
        // A disabled button loses the focus, and the keyboard user their place.
        if (!possible && document.activeElement === button) buttons.find((_, j) => ACTIONS[j].possible(phase, control))?.focus();
        button.disabled = !possible;
      });
    },
  };
}
