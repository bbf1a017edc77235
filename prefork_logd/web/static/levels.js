/**
 * Names the classes of levels that colours stand for.
 *
 * Does not know the colours: they are in tokens.css.
 */

const CLASSES = [
  { name: "critical", from: 50, label: "CRITICAL" },
  { name: "error", from: 40, label: "ERROR" },
  { name: "warning", from: 30, label: "WARNING" },
  { name: "info", from: 20, label: "INFO" },
  { name: "debug", from: -Infinity, label: "DEBUG" },
];

/** The classes from the gravest to the lightest. */
export const LEVELS = CLASSES.map(({ name, label }) => ({ name, label }));

/** Of several names of a number these are shown: records of logging carry them. */
const USUAL = new Set(["WARNING", "CRITICAL"]);

/** Return a name for each number of an answer of /levels; a number with several names, none of them usual, has none. */
export function levelNames(levels) {
  const names = new Map();
  for (const { name, levelno } of levels) {
    const number = Number(levelno);
    if (USUAL.has(name) || !names.has(number)) names.set(number, name);
    else if (!USUAL.has(names.get(number))) names.set(number, "");
  }
  return names;
}

/** Return the class of a level's number: critical, error, warning, info or debug. */
export function levelClass(levelno) {
  const number = Number(levelno ?? 0);
  return CLASSES.find(({ from }) => number >= from).name;
}
