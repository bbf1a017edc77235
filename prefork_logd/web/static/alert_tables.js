/**
 * Draws the tables of alerts: rules, and incidents.
 *
 * Does not know how they are asked for.
 */

import { incidentAddress, isSilenced, noticeList, ruleAddress, ruleSentence, stateBadge, thresholdOf, valueOf } from "./alert_texts.js";
import { h, shown } from "./dom.js";
import { ago, moment } from "./group_texts.js";
import { number } from "./numbers.js";
import { table } from "./panel.js";
import { duration, shortTime } from "./time.js";

/** Return the table of rules. */
export function ruleTable(rules, zone, now_s) {
  const columns = [["state", "sign"], ["rule", "what"], ["value", "number"], ["evaluated", "nowrap"], ["tells", "told"]];
  const rows = rules.map((rule) => [
    [h("div", {}, stateBadge(rule), Number(rule.firing) > 1 ? h("small", {}, ` ${number(rule.firing)}`) : null, silence(rule, zone, now_s)), ""],
    h("div", {}, h("a", { class: "title", href: ruleAddress(rule.name), data: { rule: rule.name } }, h("b", {}, shown(rule.name, false))), h("p", {}, ruleSentence(rule)), rule.problem ? h("p", { class: "error-text" }, shown(rule.problem, false)) : null),
    [h("div", {}, valueOf(rule), h("small", {}, thresholdOf(rule))), rule.state === "firing" ? "bad" : ""],
    Number(rule.evaluated_at) ? ago(rule.evaluated_at, zone, now_s) : "-",
    shown(rule.send.join(", "), false),
  ]);
  return table("Rules", columns, rows);
}

function silence(rule, zone, now_s) {
  if (!isSilenced(rule, now_s)) return null;
  return h("span", { class: "badge", title: rule.silenced_by ? `by ${rule.silenced_by}` : null }, `Silenced until ${shortTime(rule.silenced_until, zone, now_s).replace(/^(\d\d:\d\d):\d\d$/, "$1")}`);
}

/** Return the table of incidents; with the rule of each, unless they are those of one. */
export function incidentTable(incidents, zone, now_s, hasRules) {
  const columns = [["state", "sign"], ["incident", "what"], ...(hasRules ? [["rule", ""]] : []), ["began", "nowrap date"], ["lasted", "nowrap"], ["notices", "told"]];
  const rows = incidents.map((one) => [
    stateBadge(one),
    h("a", { href: incidentAddress(one), title: one.key ? "The group of errors" : "Its records, in Search" }, shown(one.title, false)),
    ...(hasRules ? [h("a", { href: ruleAddress(one.rule), data: { rule: one.rule } }, shown(one.rule, false))] : []),
    moment(one.started, zone),
    duration((Number(one.ended) || now_s) - Number(one.started)),
    noticeList(one),
  ]);
  return table("Incidents", columns, rows);
}
