/**
 * Makes panels: sections with a heading, and tables in them.
 *
 * Does not know what is in a table.
 */

import { h, shown } from "./dom.js";

/** Return a section with a heading; `kind` is a further class. */
export function panel(title, kind, ...content) {
  return h("section", { class: `panel ${kind}`.trim(), "aria-label": title }, h("h2", {}, title), content);
}

/**
 * Return a table: `columns` are pairs of title and kind (number, mono), `rows` lists of texts, nodes or [text, kind]. Each
 * cell has the title as `data-label`, for a layout without columns.
 */
export function table(caption, columns, rows) {
  const cell = (value, at) => {
    const [content, kind] = Array.isArray(value) ? value : [value, ""];
    const label = typeof columns[at][0] === "string" ? { label: columns[at][0] } : {};
    return h("td", { class: `${columns[at][1]} ${kind}`.trim() || null, data: label }, typeof content === "string" ? shown(content) : content);
  };
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    h(
      "table",
      { class: "table" },
      h("caption", { class: "hidden-text" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([text, kind]) => h("th", { scope: "col", class: kind || null }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))),
    ),
  );
}
