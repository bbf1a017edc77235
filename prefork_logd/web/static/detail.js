/**
 * Shows one record: message, traceback, fields, and what can be done with it.
 *
 * Does not know how a record was found.
 */

import { get, text as fetchText } from "./api.js";
import { announce, button, copy, h, shown } from "./dom.js";
import { levelClass } from "./levels.js";
import { plain } from "./json.js";
import { attachMenu, menuItem } from "./menu.js";
import { formatCount } from "./numbers.js";
import { condition } from "./query_text.js";
import { isShared } from "./rights.js";
import { lasting } from "./sharing.js";
import { traceback } from "./traceback.js";
import { dateTime, duration, exact, microseconds, shortTime } from "./time.js";
import { valueList } from "./value_tree.js";

const OTHER_PLACES = new Set(["message", "exc_text", "stack_info", "extra", "created", "time", "received", "exception", "truncated"]);
const MOST_CHARACTERS = 20000;
const ERROR = 40;
/** Clocks of one machine may differ by so much from each other. */
const EARLY_S = 1;
/** Of a longer delay milliseconds say nothing. */
const LATE_S = 60;
const TRACE_KEYS = ["trace_id", "traceId", "otelTraceID", "dd.trace_id", "traceparent", "request_id"];
const SAMES = [
  ["", "All records"],
  ["process", "Same process"],
  ["thread", "Same thread"],
  ["task", "Same task"],
  ["trace", "Same trace or request"],
  ["logger", "Same logger"],
  ["service", "Same service"],
];

/** Return what contexts a record has: pairs of the API's name and a text. */
export function contextsOf(record) {
  const has = {
    process: record.process !== undefined,
    thread: record.thread !== undefined,
    task: record.taskName !== undefined,
    trace: traceOf(record) !== null,
    logger: record.name !== undefined,
    service: record.service !== undefined,
  };
  return SAMES.filter(([name]) => name === "" || has[name]);
}

/** Return the text of a context's name. */
export function sameText(same) {
  return SAMES.find(([name]) => name === same)?.[1] ?? same;
}

/** Return field and value of the record's trace or request id; null without one. */
function traceOf(record) {
  for (const key of TRACE_KEYS) {
    const value = record.extra?.[key];
    if (typeof value === "string" && value !== "") return { field: key.includes(".") ? `"${key}"` : key, value };
  }
  return null;
}

/** Return whether a record belongs to a group of errors. */
function isError(record) {
  return Number(record.levelno) >= ERROR || Boolean(record.exc_text) || Boolean(record.exception);
}

/**
 * The panel of one record. `actions`: include, exclude, column, search, context, linkTo; `store` returns the name of the
 * record's store, "" for the first one; `openGroup` if it can be opened; close, if it can be closed.
 */
export class Detail {
  constructor(place, actions) {
    this.place = place;
    this.actions = actions;
  }

  get isOpen() {
    return !this.place.hidden;
  }

  close() {
    this.place.hidden = true;
    this.place.replaceChildren();
  }

  /** Show a sentence in place of the record, and a link to it. */
  say(sentence, address = null) {
    this.place.hidden = false;
    this.place.replaceChildren(this.head("", "Record"), h("div", { class: "state" }, h("p", {}, sentence), address ? h("a", { class: "button", href: address }, "Search") : null));
  }

  /** Show a record: {id, created, record}. */
  show(one, zone) {
    const { record } = one;
    const created = Number(one.created);
    const title = `${dateTime(created, zone)}.${microseconds(record, created)}`;
    const body = h("div", { class: "detail-body", tabindex: 0, role: "group", "aria-label": "Fields of the record" }, this.content(record, created, zone));
    this.place.hidden = false;
    this.place.replaceChildren(this.head(String(record.levelname ?? ""), title, levelClass(record.levelno), exact(record, created, zone)), this.tools(one), body);
  }

  head(level, title, kind = "", tip = "") {
    return h(
      "header",
      { class: "detail-head" },
      level ? h("span", { class: `level ${kind}` }, shown(level, false)) : null,
      h("h2", { title: tip || null }, title),
      this.actions.close ? button({ name: "close", label: "Close the record", kind: "quiet", onclick: this.actions.close }) : null,
    );
  }

  tools(one) {
    const { record } = one;
    const context = button({ text: "Context", name: "context", kind: "small" });
    const trace = traceOf(record);
    const tools = h(
      "div",
      { class: "detail-tools" },
      context,
      trace ? button({ text: "Follow trace", name: "search", kind: "small", title: `All records with ${trace.field} ${trace.value}`, onclick: () => this.actions.search(condition(trace.field, trace.value)) }) : null,
      this.actions.openGroup && !isShared && isError(record) ? button({ text: "Error group", name: "list", kind: "small", title: "How often this error has come, since when, and in which versions", onclick: () => this.openGroup(one) }) : null,
      button({ text: "JSON", name: "copy", kind: "small", title: "Copy the stored line", onclick: () => this.copyLine(one) }),
      button({ text: "Link", name: "link", kind: "small", title: "Copy a link to this record", onclick: () => this.copyAddress(one) }),
      isShared ? null : button({ text: "Command", name: "terminal", kind: "small", title: "Copy a command that prints this record with its neighbours", onclick: () => copy(this.command(one), "Command") }),
    );
    attachMenu(context, "Context", (menu, close) => {
      const open = (same) => () => {
        close();
        this.actions.context(one, same);
      };
      menu.append(h("h2", {}, "Records before and after"), ...contextsOf(record).map(([same, text]) => menuItem({ text, note: contextNote(record, same), onclick: open(same) })));
    });
    return tools;
  }

  async copyAddress(one) {
    try {
      await copy(await lasting(this.actions.linkTo(one)), "Link");
    } catch (error) {
      announce(error.message);
    }
  }

  command(one) {
    const store = this.actions.store();
    const quoted = /^[\w.-]+$/.test(store) ? store : `'${store.replaceAll("'", "'\\''")}'`;
    return `prefork-logd query --around ${one.id}${store ? ` --store ${quoted}` : ""}`;
  }

  async openGroup(one) {
    try {
      const { id } = await get(`/records/${one.id}/group`, { store: this.actions.store() });
      this.actions.openGroup(id);
    } catch (error) {
      announce(error.message);
    }
  }

  async copyLine(one) {
    try {
      await copy((await fetchText(`/records/${one.id}/line`, { store: this.actions.store() })).trimEnd(), "Stored line");
    } catch (error) {
      announce(error.message);
    }
  }

  content(record, created, zone) {
    const fields = Object.entries(record).filter(([name]) => !OTHER_PLACES.has(name));
    const extra = record.extra !== null && typeof record.extra === "object" ? Object.entries(record.extra) : [];
    const late_s = Number(record.received) - created;
    return [
      longText(String(record.message ?? "")),
      Array.isArray(record.truncated) ? h("p", { class: "error-text" }, `Too large, cut when it was received: ${record.truncated.map(String).join(", ")}`) : null,
      record.exc_text ? [h("h3", {}, "Traceback"), traceback(String(record.exc_text))] : null,
      record.stack_info ? [h("h3", {}, "Stack"), traceback(String(record.stack_info))] : null,
      extra.length ? [h("h3", {}, "Extra"), valueList(extra, ["extra"], this.actions)] : null,
      h("h3", {}, "Record"),
      valueList(fields, [], this.actions),
      record.received === undefined ? null : h("p", { class: "menu-note" }, receipt(record, late_s, zone)),
    ];
  }
}

/** Return when a record was received. A negative `late_s` is a clock that is wrong: the sender's, or the collector's. */
function receipt(record, late_s, zone) {
  const received = `Received ${shortTime(record.received, zone, Number(record.created))}`;
  const late = late_s < LATE_S ? `${Math.max(0, late_s).toFixed(3)} s` : duration(late_s);
  return late_s < -EARLY_S ? `${received}, ${duration(-late_s)} before its own time: the clock of its sender is ahead of the collector's` : `${received}, ${late} after it was created`;
}

function contextNote(record, same) {
  const notes = { process: record.process, thread: record.threadName ?? record.thread, task: record.taskName, trace: traceOf(record)?.value, logger: record.name, service: record.service };
  const text = plain(notes[same] ?? "");
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}

function longText(text) {
  const block = h("pre", { class: "text-block" }, shown(text.slice(0, MOST_CHARACTERS)));
  if (text.length <= MOST_CHARACTERS) return block;
  const more = button({ text: `Show ${formatCount(text.length - MOST_CHARACTERS, "more character")}`, kind: "small", onclick: () => {
    block.replaceChildren(shown(text));
    more.remove();
  } });
  return [block, more];
}
