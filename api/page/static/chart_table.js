/**
 * The same as a chart, as a table; and what the marks of a chart mean.
 *
 * Exports: hoursTable, legend
 */

import { h } from './dom.js';
import { number, span, timeElement } from './format.js';
import { HOUR_MS, verdict } from './chart_rows.js';

// A table of more rows would only be scrolled past; all of them are at GET /history.
const MOST_ROWS = 500;
const COLUMNS = ['Hour', 'Observed', 'Calls', 'Expected', 'Lower', 'Upper', 'Threshold', 'Verdict'];
const NUMBERS = new Set(['Observed', 'Calls', 'Expected', 'Lower', 'Upper', 'Threshold']);

/**
 * @param {any[]} rows the newest first
 * @param {{ title: string, unit: string }} options
 */
export function hoursTable(rows, { title, unit }) {
  const some = rows.length > MOST_ROWS ? `; the newest ${MOST_ROWS} of ${rows.length} hours, zoom in for others` : '';
  const cell = (/** @type {?number} */ value) => h('td', { class: 'number' }, number(value));
  const row = (/** @type {any} */ one) =>
    h(
      'tr',
      null,
      h(
        'th',
        { scope: 'row' },
        timeElement(one.start, () => span(one.start, one.start + HOUR_MS)),
      ),
      [one.value, one.count, one.estimate, one.lower, one.upper, one.threshold].map(cell),
      h('td', null, verdict(one)),
    );
  return h(
    'table',
    null,
    h('caption', null, `${title}, ${unit ? `in ${unit}, ` : ''}the newest first${some}`),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        COLUMNS.map((name) => h('th', { scope: 'col', class: NUMBERS.has(name) && 'number' }, name)),
      ),
    ),
    h('tbody', null, rows.slice(0, MOST_ROWS).map(row)),
  );
}

/** What each mark means, with the mark itself: shape and hatch, not only colour. @param {string} operator */
export function legend(operator) {
  const items = [
    ['observed', 'Observed'],
    ['estimate', 'Expected'],
    ['band', '95 % band'],
    ['threshold', 'Threshold as published'],
    ['exceeded', `${operator === '<' ? 'Below' : 'Above'} its threshold (hollow: too few calls)`],
    ['alert', 'Alert'],
    ['excluded', 'Excluded'],
  ];
  return h(
    'ul',
    { class: 'chart-legend', 'aria-label': 'Legend' },
    ...items.map(([key, text]) =>
      h(
        'li',
        {},
        h('span', { class: `swatch swatch-${key}${operator === '<' ? ' is-below' : ''}`, 'aria-hidden': 'true' }),
        text,
      ),
    ),
  );
}
