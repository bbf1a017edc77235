/**
 * Shows the most frequent forms of messages.
 *
 * Does not know how a form is found.
 */

import { h, shown } from "./dom.js";
import { dateTime, shortTime } from "./time.js";

const SLOT = /<[a-z ]+>/g;

/** Return the table of patterns: {patterns: [{text, count, first, last, example}], others}. `link` returns an address. */
export function patternTable(answer, zone, link) {
  const rows = answer.patterns.map((one) =>
    h(
      "tr",
      {},
      h("td", { class: "number" }, Number(one.count).toLocaleString("en")),
      h("td", { class: "text", title: one.example }, h("a", { href: link(one) }, marked(one.text))),
      h("td", { class: "number optional" }, time(Number(one.first), zone)),
      h("td", { class: "number optional" }, time(Number(one.last), zone)),
    ),
  );
  return h(
    "table",
    { class: "patterns" },
    h("caption", { class: "hidden-text" }, "Forms of messages, the most frequent first"),
    h("thead", {}, h("tr", {}, head("records", "number"), head("message", ""), head("first", "number optional"), head("last", "number optional"))),
    h("tbody", {}, rows),
  );
}

/** Return the query for messages of a form: the longest text between two placeholders. */
export function patternCondition(text) {
  const parts = text.split(SLOT).map((part) => part.trim()).filter((part) => /[\p{L}\p{N}]/u.test(part));
  const longest = parts.sort((one, other) => other.length - one.length)[0] ?? "";
  return longest === "" ? "" : `message~"${longest.split(/\r?\n/)[0].slice(0, 200).replace(/(["\\])/g, "\\$1")}"`;
}

function head(text, kind) {
  return h("th", { class: kind || null, scope: "col" }, text);
}

function time(created, zone) {
  return h("time", { title: dateTime(created, zone) }, shortTime(created, zone, Date.now() / 1000));
}

function marked(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(SLOT)) {
    parts.push(shown(text.slice(at, match.index), false), h("span", { class: "slot" }, match[0]));
    at = match.index + match[0].length;
  }
  return [...parts, shown(text.slice(at), false)];
}
