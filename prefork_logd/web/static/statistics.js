/**
 * Shows aggregates by groups, and the form that asks for them.
 *
 * Does not know how an aggregate is computed.
 */

import { get } from "./api.js";
import { button, h, icon, shown } from "./dom.js";
import { plain, typeOf } from "./json.js";
import { levelNames } from "./levels.js";
import { condition, isComparable } from "./query_text.js";

/** The field of a query that is written with names. */
const LEVEL = "level";
const BY = /^(.*?)\s+by\s+(.*)$/s;
const EXAMPLES = ["count by service", "count, distinct(name) by levelname"];
const MOST_EXAMPLES = 3;
/** Characters of a value that is shown whole. */
const MOST_VALUE = 1000;
const NOT_MEASURED = /(?:^|[._])(?:id|pid|status|code|port|line|number)$/i;

/** The form. `ask` gets the text of a question, such as `count, p95(duration_ms) by service`. */
export class StatisticsForm {
  constructor(ask) {
    this.ask = ask;
    this.aggregates = field("aggregates", "count, p95(duration_ms)");
    this.by = field("by", "service, name");
    this.names = h("datalist", { id: "field-names" });
    this.by.setAttribute("list", "field-names");
    this.problem = h("p", { class: "error-text", role: "alert", id: "stats-problem" });
    this.examples = h("div", { class: "examples", role: "group", "aria-label": "Examples" });
    this.element = h(
      "form",
      {
        class: "stats-form",
        on: {
          submit: (event) => {
            event.preventDefault();
            this.ask(this.text);
          },
        },
      },
      h("label", { class: "labelled" }, "Aggregates", this.aggregates),
      h("label", { class: "labelled" }, "By", this.by),
      button({ text: "Compute", kind: "primary", type: "submit" }),
      this.names,
      this.problem,
      this.examples,
    );
    this.offer([]);
  }

  get text() {
    const [aggregates, by] = [this.aggregates.value.trim(), this.by.value.trim()];
    return by ? `${aggregates} by ${by}` : aggregates;
  }

  set text(question) {
    const match = BY.exec(question);
    this.aggregates.value = match ? match[1] : question;
    this.by.value = match ? match[2] : "";
    this.complain("");
  }

  /** Show what is wrong with the question; "" for nothing. */
  complain(sentence) {
    this.problem.textContent = sentence;
    for (const one of [this.aggregates, this.by]) one.setAttribute("aria-invalid", String(sentence !== ""));
  }

  /** Offer fields that the records have: {field, types}. */
  offer(fields) {
    this.names.replaceChildren(...fields.map(({ field }) => h("option", { value: field })));
    const measured = fields.filter(({ field, types }) => Number(types.number) > 0 && field.startsWith("extra.") && !NOT_MEASURED.test(field)).slice(0, MOST_EXAMPLES);
    const texts = [...EXAMPLES, ...measured.map(({ field }) => `count, p95(${field}) by service`)];
    this.examples.replaceChildren(...texts.map((text) => button({ text, kind: "small", title: text, onclick: () => this.ask(text) })));
  }
}

function field(name, placeholder) {
  return h("input", { class: "field", name, placeholder, autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 2000, "aria-describedby": "stats-problem" });
}

/** Ask for statistics; the answer of /stats gets `names`, which has a name for each number of a level that has one. */
export async function askStatistics(parameters, signal) {
  const answer = await get("/stats", parameters, signal);
  const groups = answer.columns.slice(0, Number(answer.groups));
  const names = groups.includes(LEVEL) ? levelNames((await get("/levels", { store: parameters.store }, signal)).levels) : new Map();
  return { ...answer, names };
}

/** Return the table of an answer of askStatistics; `link` returns the address of the records that meet conditions. */
export function statisticsTable(answer, link) {
  const groups = Number(answer.groups);
  const rows = [...answer.rows];
  const most = groups > 0 ? Math.max(0, ...rows.map((row) => Number(row[groups] ?? 0))) : 0;
  const body = h("tbody", {});
  const cell = (row) => (value, at) => (at < groups ? group(answer, row, at, link) : number(value, at === groups ? most : 0));
  const draw = () => body.replaceChildren(...rows.map((row) => h("tr", {}, row.map(cell(row)))));
  const heads = answer.columns.map((name, at) => {
    const sorter = h("button", { type: "button", class: "sort", on: { click: () => sort(at) } }, shown(name, false), icon("down"));
    return h("th", { scope: "col", class: at < groups ? null : "number", "aria-sort": at === groups ? "descending" : null }, sorter);
  });
  const sort = (at) => {
    const before = heads[at].getAttribute("aria-sort");
    const isDown = before === null ? at >= groups : before === "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[at].setAttribute("aria-sort", isDown ? "descending" : "ascending");
    rows.sort((one, other) => compare(one[at], other[at], isDown ? -1 : 1));
    draw();
  };
  draw();
  const caption = answer.columns.join(", ");
  const table = h("table", { class: "patterns statistics" }, h("caption", { class: "hidden-text" }, caption), h("thead", {}, h("tr", {}, heads)), body);
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption }, table);
}

function group(answer, row, at, link) {
  const value = row[at];
  const name = value !== null && answer.columns[at] === LEVEL ? answer.names.get(Number(value)) : "";
  const text = value === null ? "(none)" : name || plain(value) || '""';
  // The server shortens longer values, so no condition finds them.
  const canBeMet = (one) => isComparable(one) && plain(one).length <= MOST_VALUE;
  const conditions = row.slice(0, Number(answer.groups)).map((one, place) => (one === null ? `-${answer.columns[place]}:*` : canBeMet(one) ? condition(answer.columns[place], one) : ""));
  const isLinked = at === 0 && conditions.every((one) => one !== "");
  const content = shown(text.slice(0, 600), false);
  return h("td", { class: value === null ? "text none" : "text", title: text.slice(0, 600) }, isLinked ? h("a", { href: link(conditions), title: `Records with ${conditions.join(" ")}` }, content) : content);
}

function number(value, most) {
  const text = value === null ? "-" : Number(value).toLocaleString("en", { maximumFractionDigits: 3 });
  return h("td", { class: "number", title: value === null ? "no value" : String(value) }, text, most > 0 ? h("meter", { min: 0, max: most, value: Math.max(0, Number(value ?? 0)), "aria-hidden": "true" }) : null);
}

/** Compare values of a column; `direction` is 1 or -1. Those without a value are always last. */
function compare(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeOf(one) === "number" && typeOf(other) === "number") return direction * (Number(one) - Number(other));
  return direction * plain(one).localeCompare(plain(other));
}
