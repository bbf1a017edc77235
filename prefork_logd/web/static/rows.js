/**
 * Shows records as lines of a table.
 *
 * Knows columns and days. Does not know where the records come from.
 */

import { h, shown } from "./dom.js";
import { plain } from "./json.js";
import { levelClass } from "./levels.js";
import { clock, day, exact, microseconds } from "./time.js";

const MOST_CHARACTERS = 600;
const TITLES = { service: "service", name: "logger" };

/** Return the value of a field as it is written in a query; undefined if the record lacks it. */
function valueOf(record, field) {
  if (Object.hasOwn(record, field) && field !== "extra") return record[field];
  const keys = [...field.matchAll(/"([^"]+)"|([^".]+)/g)].map((match) => match[1] ?? match[2]);
  const isWritten = keys[0] === "extra" || Object.hasOwn(record, keys[0]);
  const inner = keys[0] === "extra" ? keys.slice(1) : keys;
  return (isWritten ? step(record, keys) : undefined) ?? record.extra?.[inner.join(".")] ?? step(record.extra, inner);
}

function step(value, keys) {
  let at = value;
  for (const key of keys) {
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined;
    at = at[key];
  }
  return at;
}

/** Return a table without records. */
export function emptyTable(columns, caption) {
  return h(
    "table",
    { class: "rows" },
    h("caption", { class: "hidden-text" }, caption),
    h("thead", {}, h("tr", {}, heading("time", "time"), heading("level", "level"), columns.map((name) => heading(columnClass(name), TITLES[name] ?? name)), heading("message", "message"))),
    h("tbody", {}),
  );
}

function heading(kind, text) {
  return h("th", { class: kind, scope: "col", title: text }, text);
}

function columnClass(name) {
  return name === "service" || name === "name" ? name : "extra-column";
}

/** Return rows that hold the place of records that are being loaded. */
export function placeholders(count, columns) {
  const cell = (kind) => h("td", { class: kind }, h("span", {}));
  return Array.from({ length: count }, () =>
    h("tr", { class: "record placeholder", "aria-hidden": "true" }, cell("time"), cell("level"), columns.map((name) => cell(columnClass(name))), cell("message")),
  );
}

/** Makes rows of records, with a heading where a day begins. */
export class RowMaker {
  /**
   * @param {Array<string>} columns
   * @param {string} zone
   * @param {function(Object): string} link returns the address of a record
   */
  constructor(columns, zone, link) {
    this.columns = columns;
    this.zone = zone;
    this.link = link;
    this.day = null;
  }

  /** Return the rows of records, in their order. */
  rows(found) {
    return found.flatMap((one) => {
      const name = day(Number(one.created), this.zone);
      const row = this.row(one);
      if (name === this.day) return [row];
      this.day = name;
      return [h("tr", { class: "day" }, h("th", { colspan: this.columns.length + 3, scope: "rowgroup" }, name)), row];
    });
  }

  row(one) {
    const { record } = one;
    const created = Number(one.created);
    const kind = levelClass(record.levelno);
    const time = clock(created, this.zone);
    return h(
      "tr",
      { class: `record ${kind}`, data: { id: one.id } },
      h("td", { class: "time" }, h("time", { datetime: record.time ?? null, title: exact(record, created, this.zone) }, `${time}.${microseconds(record, created).slice(0, 3)}`)),
      h("td", { class: "level" }, shown(String(record.levelname ?? record.levelno ?? ""), false)),
      this.columns.map((name) => this.cell(record, name)),
      h("td", { class: "message" }, h("a", { href: this.link(one) }, firstLine(record)), exceptionOf(record)),
    );
  }

  cell(record, name) {
    const value = valueOf(record, name);
    const text = value === undefined ? "" : plain(value).slice(0, MOST_CHARACTERS);
    return h("td", { class: columnClass(name), title: text || null }, text ? shown(text, false) : null);
  }
}

function firstLine(record) {
  const message = String(record.message ?? record.exc_text ?? "");
  const text = message.slice(0, MOST_CHARACTERS);
  const parts = text.split(/\r?\n/).flatMap((line, number) => [number ? h("span", { class: "newline" }, " ↵ ") : null, shown(line, false)]);
  if (message === "") return h("span", { class: "newline" }, "(no message)");
  return message.length > MOST_CHARACTERS ? [...parts, h("span", { class: "newline" }, " …")] : parts;
}

function exceptionOf(record) {
  if (typeof record.exc_text !== "string" || record.message === undefined) return null;
  const last = record.exc_text.trimEnd().split("\n").at(-1).slice(0, 200);
  return h("span", { class: "exception" }, shown(last, false));
}
