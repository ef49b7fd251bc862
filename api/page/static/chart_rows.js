/**
 * The hours of a chart as rows: what was observed, what is missing, and the hour that is the next to close.
 *
 * Exports: HALF_HOUR, HOUR, HOUR_MS, spaced, future, isGap, verdict, merged
 */

/** @typedef {import('./chart.js').Point} Point */
/** @typedef {import('./chart.js').Next} Next */
/** @typedef {import('./chart.js').Span} Span */

/** In seconds, as uPlot counts. */
export const HALF_HOUR = 1800;
export const HOUR = 3600;
export const HOUR_MS = 3_600_000;

/** The hours with a gap wherever one or more are missing, so that no line is drawn over what nobody observed. @param {Point[]} points */
export function spaced(points) {
  /** @type {any[]} */
  const rows = [];
  for (const point of points) {
    const start = Date.parse(point.window_start);
    const before = rows.at(-1);
    if (before !== undefined && start - before.start > HOUR_MS)
      rows.push({ start: before.start + HOUR_MS, isGap: true });
    rows.push({ ...point, start });
  }
  return rows;
}

/**
 * The hour that is not closed yet: what is published for it, and what was seen of it so far.
 * @param {Next} next
 */
export function future({ window_start: start, estimate, lower, upper, threshold, live }) {
  const nothing = { value: null, count: null, exceeded: false, credible: null, excluded: false, score: null };
  return /** @type {any} */ ({
    ...nothing,
    start: Date.parse(start),
    estimate,
    lower,
    upper,
    threshold,
    live: live ?? null,
  });
}

/** @param {any} row */
export function isGap(row) {
  return row?.isGap === true;
}

/** @param {any} row */
export function verdict(row) {
  const excluded = row.excluded ? ', excluded' : '';
  if (row.value === null) return 'next to close';
  if (row.isSettling) return row.exceeded ? 'beyond its threshold, just closed' : 'just closed';
  if (row.estimate === null) return `not judged${excluded}`;
  if (!row.exceeded) return `normal${excluded}`;
  return `${row.credible === false ? 'beyond, too few calls' : 'beyond its threshold'}${excluded}`;
}

/** Spans that touch each other as one, in order. @param {Span[]} spans */
export function merged(spans) {
  /** @type {Span[]} */
  const found = [];
  for (const span of [...spans].sort((one, other) => one.from - other.from)) {
    const last = found.at(-1);
    if (last === undefined || (last.to !== null && span.from > last.to)) found.push({ ...span });
    else if (last.to !== null && (span.to === null || span.to > last.to)) last.to = span.to;
  }
  return found;
}
