// @ts-check
// Confirmation dialogs and notices.

import { el, say } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * Ask for confirmation; false on Escape and Cancel. The focus returns to where it was.
 * @param {{title: string, body: Child[], yes: string, tone?: "primary" | "grave" | "moving"}} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, body, yes, tone = "primary" }) {
  return new Promise((resolve) => {
    let answer = false;
    const agree = () => {
      answer = true;
      dialog.close();
    };
    const dialog = el(
      "dialog",
      {
        "aria-labelledby": "dialog-title",
        "aria-describedby": "dialog-body",
        close: () => {
          dialog.remove();
          resolve(answer);
        },
      },
      el("h2", { id: "dialog-title" }, title),
      el("div", { id: "dialog-body" }, ...body),
      el(
        "div",
        { class: "choices" },
        el("button", { type: "button", click: () => dialog.close() }, "Cancel"),
        el("button", { type: "button", class: tone, click: agree }, yes),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Show a notice at the bottom of the page, also announced by screen readers. An error stays until it is dismissed.
 * @param {string} text empty: remove the notice
 * @param {"done" | "error"} [kind]
 */
export function notify(text, kind = "done") {
  const notice = /** @type {HTMLElement} */ (document.getElementById("notice"));
  clearTimeout(fading);
  notice.dataset.kind = text ? kind : "";
  notice.replaceChildren();
  if (!text) return;
  const words = el("p");
  const close = el("button", { class: "quiet", type: "button", "aria-label": "Dismiss", click: () => notify("") }, "✕");
  notice.append(words, close);
  say(words, text);
  if (kind === "done") fading = setTimeout(() => notify(""), DONE_MILLISECONDS);
}

const DONE_MILLISECONDS = 8000;
/** @type {number | undefined} */
let fading;
