// @ts-check
// Sign-in: the token is tested on the control plane before it is stored.

import { call, session } from "./api.js";
import { el, say } from "./dom.js";

/**
 * The form.
 * @param {string} reason why the user has to sign in again; empty the first time
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
      say(wrong, "Enter a token.");
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
    el("p", {}, "Watch runs and change their entropy target."),
    // For password managers, which store a token under a user name.
    el("input", { type: "text", name: "username", autocomplete: "username", value: "scope-rl", hidden: true }),
    el("label", { for: "token" }, "Token"),
    token,
    el("p", { id: "token-note", class: "note" }, "The token is kept in this tab only, until the tab is closed."),
    wrong,
    button,
  );
  return { element: form, title: "Sign in", focus: () => token.focus(), stop: () => {} };
}
