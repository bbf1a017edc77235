/**
 * Parses JSON without rounding numbers.
 *
 * Does not know what the numbers mean.
 */

const KEY = "exact " + crypto.getRandomValues(new Uint32Array(4)).join("-");
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** A number whose text differs from JavaScript's own. It computes like the nearest number and is shown as it was sent. */
export class Exact {
  constructor(text) {
    this.text = text;
  }

  valueOf() {
    return Number(this.text);
  }

  toString() {
    return this.text;
  }
}

/** Return the value of a JSON text. Numbers that JavaScript would write in another way are of the class Exact. */
export function parse(text) {
  let isExact = true;
  const marked = text.replace(TOKEN, (token) => {
    if (token[0] === '"' || String(Number(token)) === token) return token;
    isExact = false;
    return `{"${KEY}":"${token}"}`;
  });
  if (isExact) return JSON.parse(text);
  return JSON.parse(marked, (_, value) => (value !== null && typeof value === "object" && typeof value[KEY] === "string" ? new Exact(value[KEY]) : value));
}

/** Return the type of a JSON value, as the field list names it. */
export function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "list";
  if (value instanceof Exact) return "number";
  return { string: "text", number: "number", boolean: "boolean", object: "object" }[typeof value];
}

/** Return a value as one line: a text as it is, an object or list as JSON. */
export function plain(value) {
  if (typeof value === "string") return value;
  if (value === undefined) return "";
  if (value === null || typeof value !== "object" || value instanceof Exact) return String(value);
  if (Array.isArray(value)) return `[${value.map(quoted).join(", ")}]`;
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${quoted(item)}`).join(", ")}}`;
}

function quoted(value) {
  return typeof value === "string" ? JSON.stringify(value) : plain(value);
}
