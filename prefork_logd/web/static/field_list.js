/**
 * Lists the fields of the records, and the most frequent values of a field.
 *
 * Does not know the query: the view puts conditions into it.
 */

import { get } from "./api.js";
import { button, h, shown } from "./dom.js";
import { plain } from "./json.js";
import { condition, isComparable } from "./query_text.js";

const SIGNS = { text: "t", number: "#", boolean: "?", object: "{}", list: "[]" };
const GROUPS = [
  ["Sender", ["levelname", "service", "name", "host", "environment", "version", "peer_name", "peer"]],
  ["Extra", null],
  ["Code", ["module", "funcName", "filename", "lineno", "pathname", "process", "processName", "thread", "threadName", "taskName", "msg"]],
];
const NOT_LISTED = new Set(["created", "time", "received", "message", "exc_text", "stack_info", "levelno", "extra", "exception", "truncated"]);
const MOST_FIELDS = 200;
const TOP = 8;

/** The list. `actions`: include, exclude, column (of field and value). `parameters` returns those of the search. */
export class FieldList {
  constructor(place, actions, parameters) {
    this.place = place;
    this.actions = actions;
    this.parameters = parameters;
    this.open = new Set();
    this.fields = [];
    this.running = new Map();
    this.filter = h("input", {
      class: "field fields-filter",
      type: "search",
      placeholder: "Find a field",
      "aria-label": "Find a field",
      on: { input: () => this.draw() },
    });
    this.list = h("div", {});
    this.coverage = h("small", {});
    place.append(h("div", { class: "fields-head" }, h("h2", {}, "Fields"), this.coverage), this.filter, this.list);
  }

  /** Show a sentence in place of the fields. */
  say(sentence) {
    this.fields = [];
    this.coverage.textContent = "";
    this.list.replaceChildren(h("p", { class: "field-note" }, sentence));
  }

  /** Show fields: {fields: [{field, records, types}], coverage}. */
  show(answer) {
    this.cancel();
    this.fields = answer.fields.filter(({ field }) => !NOT_LISTED.has(field));
    this.total = Number(answer.coverage.records);
    this.coverage.textContent = answer.coverage.is_complete ? "" : `of the newest ${this.total.toLocaleString("en")}`;
    if (this.fields.length === 0) this.say("No fields");
    else this.draw();
  }

  cancel() {
    for (const running of this.running.values()) running.abort();
    this.running.clear();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.fields.filter(({ field }) => field.toLowerCase().includes(wanted)).slice(0, MOST_FIELDS);
    const named = GROUPS.flatMap(([, names]) => names ?? []);
    const members = (names) => (names ? names.flatMap((name) => found.filter((one) => one.field === name)) : found.filter((one) => !named.includes(one.field)));
    const parts = GROUPS.map(([title, names]) => [title, members(names)]).filter(([, fields]) => fields.length > 0);
    this.list.replaceChildren(...parts.flatMap(([title, fields]) => [h("h3", {}, title), h("ul", {}, fields.map((one) => this.item(one)))]));
    if (found.length === 0) this.list.append(h("p", { class: "field-note" }, "No field has this name"));
  }

  item(one) {
    const types = Object.entries(one.types).sort((a, b) => b[1] - a[1]).map(([name]) => name);
    const share = this.total ? Number(one.records) / this.total : 0;
    const values = h("div", { class: "field-values", hidden: true });
    const name = h(
      "button",
      { type: "button", class: "field-name", "aria-expanded": "false", title: `${one.field}: ${types.join(", ")}, in ${percent(share)} of the records` },
      h("span", { class: "type", "aria-hidden": "true" }, SIGNS[types[0]] ?? ""),
      h("span", { class: "text" }, shown(one.field.replace(/^extra\./, ""), false)),
      h("span", { class: "hidden-text" }, `, ${types.join(", ")},`),
      h("span", { class: "share" }, share > 0.995 ? "" : percent(share)),
    );
    const setOpen = (isOpen) => {
      name.setAttribute("aria-expanded", String(isOpen));
      values.hidden = !isOpen;
      if (isOpen) this.open.add(one.field);
      else this.open.delete(one.field);
      if (isOpen) this.load(one.field, values);
      else this.running.get(one.field)?.abort();
    };
    name.addEventListener("click", () => setOpen(values.hidden));
    if (this.open.has(one.field)) setOpen(true);
    return h("li", {}, name, values);
  }

  async load(field, place) {
    this.running.get(field)?.abort();
    const running = new AbortController();
    this.running.set(field, running);
    if (place.childElementCount === 0) place.replaceChildren(h("p", { class: "field-note" }, "Counting values"));
    try {
      const answer = await get("/facets", { ...this.parameters(), field, top: TOP }, running.signal);
      place.replaceChildren(...this.values(field, answer.facets[0], answer.coverage));
    } catch (error) {
      if (error.name !== "AbortError") place.replaceChildren(h("p", { class: "field-note error-text" }, error.message));
    }
  }

  values(field, facet, coverage) {
    const most = Math.max(1, ...facet.values.map((one) => Number(one.count)));
    const rows = facet.values.map((one) => this.value(field, one, most));
    const rest = [
      Number(facet.others) ? `${Number(facet.others).toLocaleString("en")} with another value` : "",
      Number(facet.missing) ? `${Number(facet.missing).toLocaleString("en")} without` : "",
      coverage.is_complete ? "" : `of the newest ${Number(coverage.records).toLocaleString("en")}`,
    ].filter((text) => text !== "");
    return [
      h("ul", {}, rows),
      rest.length ? h("p", { class: "field-note" }, rest.join(", ")) : null,
      h("div", { class: "field-actions" }, button({ text: "Column", name: "column", kind: "small", onclick: () => this.actions.column(field) }), button({ text: "Has it", kind: "small", title: `Only records with ${field}`, onclick: () => this.actions.search(`${field}:*`) })),
    ].filter((part) => part !== null);
  }

  value(field, { value, count }, most) {
    const text = plain(value);
    const meter = h("meter", { min: 0, max: most, value: Number(count), "aria-hidden": "true" });
    const label = text === "" ? '""' : text.slice(0, 200);
    const isOffered = isComparable(value) && text.length <= 1000;
    return h(
      "li",
      { class: "field-value" },
      meter,
      h("span", { class: "text", title: label }, shown(label, false)),
      h("span", { class: "count" }, short(Number(count))),
      isOffered ? button({ name: "plus", label: `Only ${condition(field, value)}`, kind: "quiet small", onclick: () => this.actions.include(field, value) }) : null,
      isOffered ? button({ name: "minus", label: `Without ${condition(field, value)}`, kind: "quiet small", onclick: () => this.actions.exclude(field, value) }) : null,
    );
  }
}

function percent(share) {
  return share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`;
}

function short(count) {
  return Intl.NumberFormat("en", { notation: count < 10000 ? "standard" : "compact", maximumFractionDigits: 1 }).format(count);
}
