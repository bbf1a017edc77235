/**
 * Offers what the reader can do with a search: save, share, export, copy as a command, columns.
 *
 * Does not run the search.
 */

import { address, get, send, who } from "./api.js";
import { announce, button, copy, h } from "./dom.js";
import { attachMenu, menuItem } from "./menu.js";
import { isAdmin, isShared } from "./rights.js";
import { fixed } from "./sharing.js";
import { columnsOf, href } from "./state.js";
import { bound, zoneName } from "./time.js";

const FORMATS = [
  ["jsonl", "JSON lines", "as stored, byte for byte"],
  ["csv", "CSV", "a column for each field"],
  ["parquet", "Parquet", "for pandas, Polars, DuckDB"],
];

/**
 * Fill the line of tools.
 *
 * @param {HTMLElement} place
 * @param {function(): Object} current returns the state
 * @param {function(): Object} parameters returns the parameters of the search for the API
 * @param {Object} actions change (of a part of the state), wrap
 */
export function fillTools(place, current, parameters, actions) {
  const withMenu = (text, name, label, fill) => {
    const opener = button({ text, name, kind: "quiet" });
    place.append(opener);
    attachMenu(opener, label, fill);
  };
  withMenu("View", "list", "View", (menu, close) => fillView(menu, close, current(), actions));
  if (!isShared) {
    withMenu("Saved", "star", "Saved searches", (menu, close) => fillSaved(menu, close, current(), actions));
    withMenu("Share", "link", "Share", (menu, close) => fillShare(menu, close, current()));
  }
  withMenu("Export", "export", "Export", (menu, close) => fillExport(menu, close, parameters(), current()));
  if (isAdmin) place.append(button({ text: "Alert", name: "bell", kind: "quiet", title: "Make a rule that tells people of such records", onclick: () => alertOn(current()) }));
  if (!isShared) place.append(button({ text: "Copy as command", name: "terminal", kind: "quiet wide-only", onclick: () => copyCommand(parameters(), current()) }));
}

function fillView(menu, close, state, actions) {
  const change = (part) => () => {
    close();
    actions.change(part);
  };
  const columns = columnsOf(state);
  const added = h("input", { class: "field", placeholder: "status, extra.tenant", "aria-label": "Add a column" });
  const form = h(
    "form",
    {
      class: "menu-form",
      on: {
        submit: (event) => {
          event.preventDefault();
          if (added.value.trim()) change({ columns: [...columns.filter((name) => name !== added.value.trim()), added.value.trim()].join(",") })();
        },
      },
    },
    h("label", { class: "labelled" }, "Add a column", added),
  );
  menu.append(
    h("h2", {}, "Order"),
    menuItem({ text: "Newest first", isCurrent: state.order === "newest", onclick: change({ order: "newest" }) }),
    menuItem({ text: "Oldest first", isCurrent: state.order === "oldest", onclick: change({ order: "oldest" }) }),
    menuItem({ text: "Break long lines", note: "w", onclick: () => {
      close();
      actions.wrap();
    } }),
    h("hr", { class: "menu-rule" }),
    h("h2", {}, "Columns"),
    ...columns.map((name) => menuItem({ text: name === "name" ? "logger" : name, note: "remove", onclick: change({ columns: columns.filter((one) => one !== name).join(",") }) })),
    form,
  );
}

async function fillSaved(menu, close, state, actions) {
  const list = h("div", {}, h("p", { class: "menu-note" }, "Loading"));
  const name = h("input", { class: "field", maxlength: 100, required: true, autocomplete: "off", placeholder: "Slow checkouts" });
  const save = async (event) => {
    event.preventDefault();
    const { q, since, until, columns } = state;
    try {
      await send("POST", "/searches", { name: name.value.trim(), q, since: bound(since), until, columns: columnsOf({ columns }) });
      close();
      announce(`Saved as ${name.value.trim()}`);
    } catch (error) {
      list.replaceChildren(h("p", { class: "menu-note error-text", role: "alert" }, error.message));
    }
  };
  menu.append(
    h("h2", {}, "Saved searches"),
    list,
    h("hr", { class: "menu-rule" }),
    h("form", { class: "menu-form", on: { submit: save } }, h("label", { class: "labelled" }, "Save this search as", name), button({ text: "Save", kind: "primary", type: "submit" })),
  );
  try {
    const [{ searches }, { user }] = await Promise.all([get("/searches"), who()]);
    list.replaceChildren(...(searches.length ? searches.map((one) => savedRow(one, close, actions, isAdmin || one.user === user)) : [h("p", { class: "menu-note" }, "None yet. They are for everybody who may see this page.")]));
  } catch (error) {
    list.replaceChildren(h("p", { class: "menu-note error-text" }, error.message));
  }
}

function savedRow(one, close, actions, isOwn) {
  const open = () => {
    close();
    actions.change({ q: one.q, since: one.since || "all", until: one.until ?? "", columns: (one.columns ?? []).join(","), view: "records", around: "", record: "" });
  };
  const row = h("div", { class: "saved-row" }, menuItem({ text: one.name, note: one.q.slice(0, 40), onclick: open }));
  if (!isOwn) return row;
  row.append(button({ name: "trash", label: `Remove ${one.name}`, kind: "quiet small", onclick: async () => {
    try {
      await send("DELETE", "/searches", null, { name: one.name });
      row.remove();
    } catch (error) {
      announce(error.message);
    }
  } }));
  return row;
}

function fillShare(menu, close, state) {
  // Asked for now, so that the times are those of the list, and the clipboard is reached right after the click.
  const asked = fixed(state);
  const note = h("p", { class: "menu-note" }, "Times become absolute, so that the link shows the same records later.");
  const complain = (error) => {
    note.textContent = error.message;
    note.classList.add("error-text");
    note.setAttribute("role", "alert");
  };
  asked.catch(complain);
  const share = (what, address) => async () => {
    try {
      const link = new URL(await address(await asked), location.href).href;
      close();
      await copy(link, what);
    } catch (error) {
      complain(error);
    }
  };
  const readOnly = async ({ q, since, until, tz, store }) => (await send("POST", "/shares", { q, since: bound(since), until, tz: zoneName(tz), store })).url;
  menu.append(
    h("h2", {}, "Share"),
    menuItem({ text: "Copy link", note: "needs a login", onclick: share("Link", (kept) => href(kept)) }),
    menuItem({ text: "Copy read-only link", note: "no login, expires", onclick: share("Read-only link", readOnly) }),
    note,
  );
}

function fillExport(menu, close, parameters, state) {
  const items = FORMATS.map(([format, text, note]) => menuItem({ text, note, href: address("/export", { ...parameters, order: state.order, format }), download: true, onclick: close }));
  menu.append(h("h2", {}, "Export every record that matches"), ...items);
}

/** Open the form of a new rule with the query. */
function alertOn({ q, store }) {
  location.assign(`/alerts?${new URLSearchParams({ new: "1", query: q, store })}`);
}

async function copyCommand(parameters, state) {
  try {
    const { command } = await get("/command", { ...parameters, order: state.order });
    await copy(command, "Command");
  } catch (error) {
    announce(error.message);
  }
}

