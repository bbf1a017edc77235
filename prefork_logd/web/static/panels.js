/**
 * Draws the tables of the system view.
 *
 * Knows the answers of /status, /configuration, /rejected and /facets. Does not know how they are asked for.
 */

import { button, copy, h, shown } from "./dom.js";
import { bytes } from "./figures.js";
import { plain } from "./json.js";
import { formatCount, number } from "./numbers.js";
import { panel, table } from "./panel.js";
import { dateTime, duration, LOCAL_ZONE } from "./time.js";

const TITLES = {
  connections: "Connections by service",
  missing: "Missing records by client",
  services: "Services",
  rejected: "Rejected records",
  configuration: "Configuration in effect",
};

/** Return the panel of the stores: what they have, what waits, and for how long records are kept. */
export function stores({ collector, retention }) {
  const found = collector.stores ?? [];
  if (found.length === 0) return panel("Stores", "", h("p", {}, "No store is configured, so nothing can be searched. Add a [[store]] table to the configuration."));
  const rows = found.map((store) => {
    const bounds = retention.find((one) => one.store === store.name)?.bounds ?? {};
    const state = store.failing ? [String(store.problem || "failing"), "bad"] : "running";
    return [String(store.name), number(store.records), number(store.lag_records), duration(Number(store.lag_s ?? 0)), kept(bounds), state];
  });
  const columns = [["store", ""], ["records", "number"], ["waiting", "number"], ["lag", "number"], ["kept", "nowrap"], ["state", ""]];
  return panel("Stores", "", table("Stores", columns, rows));
}

function kept(bounds) {
  const parts = [bounds.retain ? `for ${plain(bounds.retain)}` : "", size(bounds.retain_bytes, "up to "), size(bounds.min_free_bytes, "while free: ")];
  return parts.filter((text) => text).join(", ") || "for ever";
}

function size(value, before) {
  return Number(value) > 0 ? before + bytes(value) : "";
}

/** Return the panel of disks and journal. */
export function room({ collector, disks }) {
  const journal = collector.journal ?? {};
  const rows = disks.map((disk) => use(disk.path, Number(disk.total_bytes) - Number(disk.free_bytes), Number(disk.total_bytes), disk.purposes.join(", ")));
  if (Number(journal.limit) > 0) rows.push(use("Journal", Number(journal.bytes), Number(journal.limit), journal.full ? "full: clients wait for the stores" : "records that stores do not have yet"));
  return panel("Room", "", h("dl", { class: "use" }, rows));
}

function use(name, used, total, note) {
  const meter = h("meter", { min: 0, max: total, high: total * 0.85, value: used, "aria-label": `${name} used` });
  return h("div", {}, h("dt", {}, name), h("dd", {}, `${bytes(used)} of ${bytes(total)}`), h("dd", {}, meter), h("dd", { class: "menu-note" }, note));
}

/** Return the panel of the collector's processes. */
export function processes(collector) {
  const rows = (collector.children ?? []).map((child) => {
    const isWell = child.state === undefined || child.state === "running";
    return [
      `${child.kind === "web" ? "page" : child.kind}${child.kind === "worker" ? ` ${child.index}` : ""}${child.store ? ` ${child.store}` : ""}`,
      child.pid ? String(child.pid) : "-",
      [String(child.state ?? ""), isWell ? "" : "bad"],
      child.kind === "worker" ? number(child.connections) : "",
      child.kind === "worker" ? number(child.records) : "",
      [number(child.restarts), Number(child.restarts) ? "bad" : ""],
    ];
  });
  const columns = [["process", "nowrap"], ["pid", "number"], ["state", ""], ["connections", "number"], ["records", "number"], ["restarts", "number"]];
  return panel("Processes", "", table("Processes", columns, rows));
}

/** Return the panel of the output files. */
export function outputs(collector) {
  const found = collector.outputs ?? [];
  if (found.length === 0) return panel("Outputs", "", h("p", {}, "No output file is configured."));
  const rows = found.map((output) => [String(output.name), number(output.records), bytes(output.bytes ?? 0), output.failing ? ["failing", "bad"] : "running", String(output.path)]);
  return panel("Outputs", "", table("Outputs", [["output", ""], ["records", "number"], ["bytes", "number"], ["state", ""], ["path", "mono"]], rows));
}

/** Return the panel of the connections of each service. */
export function connections(collector) {
  const found = collector.services ?? [];
  if (found.length === 0) return panel(TITLES.connections, "", h("p", {}, "No client is connected."));
  const others = Number(collector.connections) - found.reduce((sum, one) => sum + Number(one.connections), 0);
  const rows = found.map((one) => [one.service ? plain(one.service) : ["(no service named)", "none"], number(one.connections)]);
  if (others > 0) rows.push([["(others)", "none"], number(others)]);
  return panel(TITLES.connections, "", table(TITLES.connections, [["service", ""], ["connections", "number"]], rows));
}

/** Return the panel of records that are missing, by client: those that clients report as dropped, and rejected ones. */
export function missing({ collector, dropped_by: droppedBy, rejected_by: rejectedBy }) {
  const rows = [
    ...droppedBy.map((one) => [plain(one.client), "dropped by the client", [number(one.count), "bad"], [plain(one.detail), ""], seconds(one.latest)]),
    ...rejectedBy.map((one) => [plain(one.client), "rejected", [number(one.count), "bad"], plain(one.reason), ""]),
  ];
  const cut = Number(collector.dropped ?? 0) - Number(collector.gaps ?? 0);
  const note = cut > 0 ? h("p", {}, `${formatCount(cut, "more record")}, cut off by the end of their connection, or late.`) : null;
  if (rows.length === 0) return panel(TITLES.missing, "", note ?? h("p", {}, "No client has dropped records, and none was rejected."));
  const columns = [["client", "mono"], ["what", "nowrap"], ["records", "number"], ["reason", ""], ["latest", "nowrap"]];
  return panel(TITLES.missing, "", note, table(TITLES.missing, columns, rows));
}

function seconds(created) {
  return h("time", { title: new Date(Number(created) * 1000).toISOString() }, dateTime(Number(created), LOCAL_ZONE));
}

/** Return the panel of services: their records of a quarter of an hour, and how many of these are errors. */
export function services([all, errors]) {
  const [facet] = all.facets;
  const failed = new Map(errors.facets[0].values.map((one) => [plain(one.value), Number(one.count)]));
  const rows = facet.values.map((one) => row(plain(one.value), Number(one.count), failed.get(plain(one.value)) ?? 0));
  if (Number(facet.missing)) rows.push(row("", Number(facet.missing), Number(errors.facets[0].missing)));
  if (rows.length === 0) return panel("Services, last 15 minutes", "wide", h("p", {}, "No service has sent a record."));
  const columns = [["service", ""], ["records", "number"], ["a second", "number"], ["errors", "number"]];
  return panel("Services, last 15 minutes", "wide", table("Services", columns, rows));
}

function row(service, count, failed) {
  const query = service ? `service="${service.replace(/(["\\])/g, "\\$1")}"` : "-service:*";
  const link = h("a", { href: `/?${new URLSearchParams({ q: query, since: "15m" })}` }, service ? shown(service, false) : "(no service)");
  return [link, number(count), (count / 900).toLocaleString("en", { maximumFractionDigits: 1 }), [number(failed), failed ? "bad" : ""]];
}

/** Return the panel of rejected records, the newest first. */
export function rejected({ entries }) {
  if (entries.length === 0) return panel(TITLES.rejected, "wide", h("p", {}, "Every record that arrived could be stored."));
  const rows = entries.map((entry) => [time(entry.time), plain(entry.peer ?? ""), plain(entry.reason ?? ""), plain(entry.detail ?? "")]);
  return panel(TITLES.rejected, "wide", table(TITLES.rejected, [["time", "nowrap"], ["client", "mono"], ["reason", ""], ["detail", "mono"]], rows));
}

function time(text) {
  const created = Date.parse(text ?? "") / 1000;
  return Number.isNaN(created) ? String(text ?? "") : h("time", { title: String(text) }, dateTime(created, LOCAL_ZONE));
}

/** Return the panel of the configuration. */
export function configuration({ path, toml }) {
  return panel(
    TITLES.configuration,
    "wide",
    h("p", { class: "panel-actions" }, path ?? "No file: every setting has its default.", button({ text: "Copy", name: "copy", kind: "small", onclick: () => copy(toml, "Configuration") })),
    h("pre", { class: "configuration", tabindex: 0, role: "group", "aria-label": TITLES.configuration }, shown(toml)),
  );
}

/** Return the panel of something that could not be asked for. */
export function unknown(name, error) {
  return panel(TITLES[name], "wide", h("p", { class: "error-text" }, error.message));
}
