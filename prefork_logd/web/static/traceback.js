/**
 * Shows a traceback with the frames of libraries folded.
 *
 * Knows the form of Python's tracebacks. Does not know the rest of a record.
 */

import { h, shown } from "./dom.js";
import { formatCount } from "./numbers.js";

const FRAME = /^(\s*[|+\s-]*)File "(.*)", line (\d+)(?:, in (.*))?$/;
const LIBRARY = /(?:^|[\\/])(?:site-packages|dist-packages|lib[\\/]python\d[\d.]*|Lib)[\\/]|^<frozen |^<string>$/;
const MOST_LINES = 2000;

/** Return the element of a traceback. */
export function traceback(text) {
  const lines = text.trimEnd().split(/\r?\n/);
  const parts = group(lines.slice(0, MOST_LINES));
  const left = lines.length - MOST_LINES;
  return h("div", { class: "traceback" }, parts.map(element), left > 0 ? h("p", { class: "place" }, `${formatCount(left, "more line")}; copy the record to see them`) : null);
}

/** Return lines as {frames}, {folded} (frames of libraries, one behind the other) and {line}. */
function group(lines) {
  const parts = [];
  for (let at = 0; at < lines.length; at += 1) {
    const match = FRAME.exec(lines[at]);
    if (!match) {
      parts.push({ line: lines[at], isEnding: isEnding(lines[at]) });
      continue;
    }
    const frame = { path: match[2], line: match[3], name: match[4] ?? "", indent: match[1], code: [] };
    while (at + 1 < lines.length && isCode(lines[at + 1], match[1].length)) frame.code.push(lines[(at += 1)]);
    const kind = LIBRARY.test(frame.path) ? "folded" : "frames";
    if (parts.at(-1)?.[kind]) parts.at(-1)[kind].push(frame);
    else parts.push({ [kind]: [frame] });
  }
  return parts;
}

function isCode(line, indent) {
  const depth = line.length - line.trimStart().length;
  return depth > indent && !FRAME.test(line);
}

function isEnding(line) {
  return /^[\s|]*[A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit|Group|Iteration)?(?::|$)/.test(line) && !/^\s*(?:Traceback|During|The above)\b/.test(line);
}

function element(part) {
  if (part.frames) return part.frames.map(frameElement);
  if (!part.folded) return h("p", { class: part.isEnding ? "ending" : null }, shown(part.line));
  const count = part.folded.length;
  return h("details", {}, h("summary", {}, formatCount(count, "library frame")), part.folded.map(frameElement));
}

function frameElement(frame) {
  return h(
    "div",
    { class: "frame" },
    h("span", { class: "place" }, shown(`${frame.indent}File "${frame.path}", line ${frame.line}${frame.name ? ", in " : ""}`)),
    h("span", { class: "function" }, shown(frame.name)),
    frame.code.map((line) => ["\n", shown(line)]),
  );
}
