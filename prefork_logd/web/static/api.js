/**
 * Calls the API of the collector.
 *
 * Knows how calls fail, are cancelled and tried again. Does not know what is shown.
 */

import { parse } from "./json.js";
import { isShared } from "./rights.js";

const ROOT = "/api/v1";
const TRIES = 3;
let session = null;

/** A call that failed. `message` is a sentence for the reader; `column` and `parameter` are the place, if there is one. */
class ApiError extends Error {
  constructor(status, { message, column = null, parameter = null }) {
    super(message);
    this.status = status;
    this.column = column;
    this.parameter = parameter;
  }
}

/** Return the address of a call. Parameters that are empty are left out; a list is repeated. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== null && item !== undefined && item !== "") query.append(name, item);
    }
  }
  const text = query.toString();
  return ROOT + path + (text ? `?${text}` : "");
}

/** Return the JSON answer of a GET. Raises ApiError, or AbortError after `signal`. */
export async function get(path, parameters = {}, signal = null) {
  return parse(await text(path, parameters, signal));
}

/** Return the answer of a GET as text. A server that is busy is asked again. */
export async function text(path, parameters = {}, signal = null) {
  for (let tried = 1; ; tried += 1) {
    const answer = await call(address(path, parameters), { signal });
    if (answer.ok) return answer.text();
    if (answer.status !== 503 || tried === TRIES) throw await problem(answer);
    await pause(Math.min(5, Number(answer.headers.get("Retry-After")) || 1) * 1000, signal);
  }
}

/** Send a change: POST or DELETE with a JSON body. Return the JSON answer, or null. */
export async function send(method, path, body = null, parameters = {}) {
  const { csrf } = await who();
  const headers = { "X-CSRF-Token": csrf ?? "" };
  if (body !== null) headers["Content-Type"] = "application/json";
  const answer = await call(address(path, parameters), { method, headers, body: body === null ? null : JSON.stringify(body) });
  if (!answer.ok) throw await problem(answer);
  const content = await answer.text();
  return content ? parse(content) : null;
}

/** Return the session: user, role, csrf, server_time, timezone. It is asked for once. */
export function who() {
  session ??= get("/session").catch((error) => {
    session = null;
    throw error;
  });
  return session;
}

async function call(url, options) {
  try {
    return await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The collector does not answer. Is it running? Try again in a moment." });
  }
}

async function problem(answer) {
  if (answer.status === 401) {
    const message = isShared ? "Your link has expired, or was withdrawn. Ask for a new one." : "Your session has ended. Log in again, then reload this page.";
    return new ApiError(401, { message });
  }
  try {
    return new ApiError(answer.status, (await answer.json()).error);
  } catch {
    return new ApiError(answer.status, { message: `The collector answered with status ${answer.status}. Try again in a moment.` });
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    });
  });
}
