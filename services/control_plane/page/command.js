// @ts-check
// A command to type into a terminal, with a button that copies it.

import { el, say } from "./dom.js";

const SHOWN_MILLISECONDS = 2000;
let made = 0;

/**
 * @param {string} text
 * @param {string} [purpose] what it does
 */
export function command(text, purpose = "") {
  made += 1;
  const code = el("code", { id: `command-${made}` }, text);
  const button = el("button", { type: "button", class: "quiet", "aria-describedby": code.id, click: () => copy() }, "Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(button, "Copied");
    } catch {
      // Not allowed, as on plain HTTP beyond loopback: select it for the copy key.
      getSelection()?.selectAllChildren(code);
      say(button, "Selected");
    }
    setTimeout(() => say(button, "Copy"), SHOWN_MILLISECONDS);
  };
  return el("div", { class: "command" }, code, button, purpose ? el("span", { class: "note" }, purpose) : null);
}
