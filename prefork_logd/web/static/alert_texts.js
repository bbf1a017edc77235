/**
 * Writes the parts of alerts that several places show: the sentence of a rule, states, notices, links.
 *
 * Does not know how rules are asked for.
 */

import { h, shown } from "./dom.js";
import { formatCount, number } from "./numbers.js";
import { iso } from "./time.js";

const STATES = { unknown: "Not yet evaluated", ok: "OK", pending: "Pending", firing: "Firing", resolved: "Over" };
const NOTICES = { waiting: "waiting", sent: "sent", failed: "failed" };

/** Return whether nobody is told of a rule now. */
export function isSilenced(rule, now_s) {
  return Number(rule.silenced_until) > now_s;
}

/** Return the sign of the state of a rule or an incident. */
export function stateBadge(one) {
  return h("span", { class: `badge ${one.state}` }, STATES[one.state] ?? one.state);
}

/** Return a sentence about what a rule looks for, as nodes. */
export function ruleSentence(rule) {
  if (rule.on === "count") return [Number(rule.above) ? `More than ${formatCount(rule.above, "record")}` : "Any record", of(rule), ` within ${rule.window}`, by(rule)];
  if (rule.on === "absence") return ["No record", of(rule), ` within ${rule.window}`, by(rule)];
  const what = rule.on === "new-group" ? "A new group of errors" : "A group of errors that comes back";
  return [what, rule.service ? [" of ", h("code", {}, shown(rule.service, false))] : null, rule.text ? [" with ", h("code", {}, shown(rule.text, false))] : null];
}

function by(rule) {
  return rule.by ? [", by ", h("code", {}, shown(rule.by, false))] : null;
}

function of(rule) {
  return [rule.query ? [" with ", h("code", {}, shown(rule.query, false))] : null, rule.store ? [" in ", h("code", {}, shown(rule.store, false))] : null];
}

/** Return the value of a rule at its last evaluation. */
export function valueOf(rule) {
  return rule.value === null || rule.value === undefined ? "-" : number(rule.value);
}

/** Return what the value of a rule has to be so that it fires. */
export function thresholdOf(rule) {
  if (rule.on === "count") return `fires above ${number(rule.above)}`;
  if (rule.on === "absence") return rule.by ? "values came" : "fires at 0";
  return "open incidents";
}

/** Return the address of the records or the group that an incident is about. */
export function incidentAddress(incident) {
  if (incident.key) return `/errors/${incident.key}`;
  return `/?${new URLSearchParams({ q: incident.query, since: iso(Number(incident.since)), until: iso(Number(incident.until)) })}`;
}

/** Return the address of a rule. */
export function ruleAddress(name) {
  return `/alerts?${new URLSearchParams({ rule: name })}`;
}

/** Return what became of the notices of an incident: a line for each receiver's latest one. */
export function noticeList(incident) {
  if (incident.notices.length === 0) return h("span", { class: "quiet" }, incident.silenced ? "silenced" : "none");
  const item = (one) =>
    h("li", { title: one.answer || null }, h("span", { class: `notice ${one.state}` }, shown(one.receiver, false), ` ${one.kind === "firing" ? "" : `${one.kind} `}${NOTICES[one.state]}`), one.state === "failed" || Number(one.attempts) > 1 ? h("small", {}, attempts(one), one.answer ? [": ", shown(one.answer.slice(0, 200), false)] : null) : null);
  return h("ul", { class: "notices" }, incident.notices.map(item));
}

function attempts(notice) {
  return formatCount(notice.attempts, "attempt");
}
