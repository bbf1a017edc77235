/**
 * Writes conditions of the query language and puts them into a query.
 *
 * Knows how values are quoted. Does not judge a query: the server does.
 */

import { Exact, typeOf } from "./json.js";

const RECORD_FIELDS = new Set(
  ("created time name levelno levelname message msg pathname filename module lineno funcName process processName thread threadName " +
    "taskName exc_text stack_info extra truncated exception host service environment version peer_name peer received").split(" "),
);
const SPECIAL = new Set(["level", "logger", "exc", "stack", "AND", "OR", "NOT"]);
const KEY = /^[^\s"()=!<>~:.,;*]+$/u;
const FIRST_KEY = /^(?:[\p{L}_][^\s"()=!<>~:.,;*]*|@[^\s"()=!<>~:.,;*]+)$/u;
const BARE = /^[\p{L}\p{N}_./@+-]+$/u;

/**
 * Return how a field is written, or "" if the language cannot write it.
 *
 * @param {Array<string|number>} path keys from the record down; the first is a field of the record
 */
export function fieldText(path) {
  const keys = path.map(String);
  if (keys.some((key) => key === "" || key.includes('"'))) return "";
  if (keys[0] !== "extra" || keys.length === 1) return keys.map((key) => (KEY.test(key) ? key : `"${key}"`)).join(".");
  const inner = keys.slice(1).map((key) => (KEY.test(key) ? key : `"${key}"`));
  const needsNoExtra = FIRST_KEY.test(keys[1]) && !RECORD_FIELDS.has(keys[1]) && !SPECIAL.has(keys[1]);
  return (needsNoExtra ? inner : ["extra", ...inner]).join(".");
}

/** Return the value as it is written behind an operator. */
function valueText(value) {
  if (value === null || typeof value === "number" || typeof value === "boolean" || value instanceof Exact) return String(value);
  const isPlain = BARE.test(value) && !["AND", "OR", "NOT", "true", "false", "null"].includes(value);
  return isPlain ? value : `"${value.replace(/(["\\])/g, "\\$1")}"`;
}

/** Return whether a condition with `=` can be written for a value. */
export function isComparable(value) {
  return !["object", "list"].includes(typeOf(value));
}

/** Return the condition that a field has a value; `field` is written as in a query. */
export function condition(field, value) {
  return `${field}=${valueText(value)}`;
}

/** Return the query with a condition added; a condition that says the opposite is taken out, the same one is not doubled. */
export function including(query, added) {
  return joined(without(query, `-${added}`), added);
}

/** Return the query with the negation of a condition added. */
export function excluding(query, refused) {
  return joined(without(query, refused), `-${refused}`);
}

/** Return the query without a condition that stands on its own between spaces. */
function without(query, removed) {
  const trimmed = query.trim();
  let at = -1;
  for (;;) {
    at = trimmed.indexOf(removed, at + 1);
    if (at < 0) return trimmed;
    const end = at + removed.length;
    const isWhole = (at === 0 || /\s/.test(trimmed[at - 1])) && (end === trimmed.length || /\s/.test(trimmed[end]));
    if (isWhole && depthAt(trimmed, at) === 0) return `${trimmed.slice(0, at).trimEnd()} ${trimmed.slice(end).trimStart()}`.trim();
  }
}

function joined(query, added) {
  if (query === "" || query === "*") return added;
  if (without(query, added) !== query) return query;
  return hasOr(query) ? `(${query}) ${added}` : `${query} ${added}`;
}

/** Return how many quotes and parentheses are open at a place: 0 at the top. */
function depthAt(text, end) {
  let depth = 0;
  let isQuoted = false;
  for (let at = 0; at < end; at += 1) {
    if (isQuoted && text[at] === "\\") at += 1;
    else if (text[at] === '"') isQuoted = !isQuoted;
    else if (!isQuoted && text[at] === "(") depth += 1;
    else if (!isQuoted && text[at] === ")") depth -= 1;
  }
  return depth + (isQuoted ? 1 : 0);
}

function hasOr(query) {
  return [...query.matchAll(/(?<![^\s)])OR(?![^\s(])/g)].some((match) => depthAt(query, match.index) === 0);
}
