// @ts-check
// Signing in: the token is tried on the control plane before it is kept.

import { call, session } from "./api.js";
import { el, say } from "./dom.js";

/**
 * The form.
 * @param {string} reason why the reader is here again; empty at the first time
 * @param {() => void} onSignedIn
 */
export function signIn(reason, onSignedIn) {
  const token = el("input", {
    id: "token",
    name: "token",
    type: "password",
    autocomplete: "current-password",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-note token-fault",
  });
  const wrong = el("p", { id: "token-fault", class: "message", role: "alert", "data-kind": "error" }, reason);
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = token.value.trim();
    if (!given) {
      say(wrong, "Give a token.");
      token.focus();
      return;
    }
    button.disabled = true;
    try {
      await call("/v1/runs?limit=1", { token: given });
      session.keep(given);
      onSignedIn();
    } catch (error) {
      say(wrong, /** @type {Error} */ (error).message);
      token.focus();
      token.select();
    }
    button.disabled = false;
  };
  const form = el(
    "form",
    { class: "sign-in", novalidate: true, submit },
    el("h1", {}, "Sign in"),
    el("p", {}, "See the runs of this control plane and move their entropy target."),
    // For password managers, which keep a token under the name of what it opens.
    el("input", { type: "text", name: "username", autocomplete: "username", value: "scope-rl", hidden: true }),
    el("label", { for: "token" }, "Token"),
    token,
    el("p", { id: "token-note", class: "note" }, "It stays in this tab and is forgotten when the tab is closed."),
    wrong,
    button,
  );
  return { element: form, title: "Sign in", focus: () => token.focus(), stop: () => {} };
}
