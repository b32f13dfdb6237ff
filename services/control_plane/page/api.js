// @ts-check
// Calls of the control plane. The token lives in this tab's session storage and in the Authorization header only.

const KEY = "scope-rl.token";
const ROOT = new URL(".", document.baseURI);

/** A refusal or failure that the control plane explains (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {string} kind
   * @param {number | null} retryAfter seconds
   */
  constructor(status, detail, kind, retryAfter) {
    super(detail);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call may succeed later. */
  get passing() {
    return this.status === 429 || this.status >= 500 || this.kind === "request-running";
  }
}

/** No answer came: the network or the server is away. */
export class Unreachable extends Error {}

/** @type {(reason: string) => void} */
let refused = () => {};

/**
 * Set what happens when the token is not valid any more.
 * @param {(reason: string) => void} handler
 */
export function onRefusedToken(handler) {
  refused = handler;
}

/** The token of this tab. */
export const session = {
  get token() {
    return sessionStorage.getItem(KEY);
  },
  /** @param {string} token */
  keep(token) {
    sessionStorage.setItem(KEY, token);
  },
  end() {
    sessionStorage.removeItem(KEY);
  },
};

/**
 * @typedef {object} Call
 * @property {string} [method]
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {string} [token] instead of the session's
 */

/**
 * Call a route and read its JSON.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<{body: any, etag: string | null, status: number, at: number}>} at: the server's clock, milliseconds
 */
export async function call(path, call = {}) {
  const answer = await open(path, call);
  const body = answer.status === 204 ? null : await read(() => answer.json());
  const at = Date.parse(answer.headers.get("Date") ?? "") || Date.now();
  return { body, etag: answer.headers.get("ETag"), status: answer.status, at };
}

/**
 * Call a route and leave its body unread.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<Response>}
 */
export async function open(path, { method = "GET", body, headers = {}, signal, token } = {}) {
  const bearer = token ?? session.token ?? "";
  /** @type {Record<string, string>} */
  const sent = { ...headers, Authorization: `Bearer ${bearer}` };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const answer = await read(() =>
    fetch(new URL(path.replace(/^\//, ""), ROOT), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    }),
  );
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (problem.status === 401 && token === undefined && bearer === session.token) refused(problem.message);
  throw problem;
}

/**
 * The path of a run, or of something that belongs to it.
 * @param {string} id
 * @param {string} [rest]
 */
export function runPath(id, rest = "") {
  return `/v1/runs/${encodeURIComponent(id)}${rest}`;
}

/** A new Idempotency-Key; `crypto.randomUUID` is missing where the page did not come over HTTPS. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @template Result
 * @param {() => Promise<Result>} attempt
 */
async function read(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("The control plane does not answer.", { cause: error });
  }
}

/** @param {Response} answer */
async function problemOf(answer) {
  const document = await answer.json().catch(() => ({}));
  const detail = typeof document.detail === "string" ? document.detail : `The server answered ${answer.status}.`;
  const kind = String(document.type ?? "").split(":").at(-1) ?? "";
  const after = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, detail, kind, Number.isFinite(after) && after > 0 ? after : null);
}
