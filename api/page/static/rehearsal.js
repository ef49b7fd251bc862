/**
 * A dry run: which alerts a rule would have opened over the history.
 *
 * Exports: rehearseDialog
 */

import { badge, h, openDialog, replace } from './dom.js';
import {
  duration,
  hour,
  metricName,
  number,
  severityKind,
  span,
  subjectHash,
  subjectParts,
  timeElement,
  value,
  whole,
} from './format.js';
import { fromLocalInput, refusal, whileBusy } from './forms.js';
import { unitOf } from './watched.js';

const SHOWN_ALERTS = 200;
const SHOWN_SERIES = 10;

/** @param {any} context @param {any} rule */
export async function rehearseDialog(context, rule) {
  const from = h('input', { type: 'datetime-local' });
  const to = h('input', { type: 'datetime-local' });
  const button = h('button', { type: 'submit', class: 'button-primary' }, 'Run over the history');
  const found = h('div', { class: 'rehearsal', 'aria-live': 'polite' });
  const leaving = new AbortController();
  const form = h(
    'form',
    { class: 'form', novalidate: true },
    h('p', { class: 'muted' }, 'Nothing is stored and nobody is told. It takes up to twenty seconds.'),
    h(
      'div',
      { class: 'fields' },
      labelled('From', from, 'The first hour that is known when empty.'),
      labelled('To', to, 'The last one when empty.'),
    ),
    h('div', { class: 'form-actions' }, button),
  );
  const run = async () => {
    replace(found, h('p', { class: 'busy' }, 'Trying the rule over the history…'));
    try {
      const params = { from: fromLocalInput(from.value), to: fromLocalInput(to.value) };
      // A rule that is off would do nothing: what it would do were it on is what is asked.
      const answer = await whileBusy(button, () =>
        context.http.postJSON('/rules/dry-run', { ...rule, is_enabled: true }, { params, signal: leaving.signal }),
      );
      replace(found, result(answer, rule));
    } catch (error) {
      if (!context.http.isAbort(error)) replace(found, refusal(error));
    }
  };
  form.addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (button.getAttribute('aria-busy') !== 'true') void run();
  });
  const dialog = openDialog(`Dry run of ${rule.id}`, form, found);
  dialog.element.classList.add('dialog-wide');
  button.focus();
  await dialog.closed;
  leaving.abort();
}

let fields = 0;

/** @param {string} text @param {any} input @param {string} hint */
function labelled(text, input, hint) {
  input.id = `rehearsal-${++fields}`;
  return h('div', { class: 'field' }, h('label', { for: input.id }, text), input, h('p', { class: 'hint' }, hint));
}

/** @param {any} answer of `POST /rules/dry-run` @param {any} rule */
function result(answer, rule) {
  const { series: n, alerts_per_week: perWeek = 0, weeks = {}, by_series: bySeries = {} } = answer.rules[0] ?? {};
  const total = answer.alerts_total;
  return [
    h(
      'div',
      { class: 'tiles' },
      tile('Alerts', whole(total), total === 1 ? 'would have opened' : 'would have opened'),
      tile('A week', number(perWeek), 'on average'),
      tile('Series', whole(n ?? 0), 'are watched by it'),
      tile('Hours', whole(answer.hours), answer.from ? span(answer.from, answer.to) : 'none is known'),
    ),
    !answer.is_complete &&
      h('p', { class: 'is-warning' }, 'Not everything was looked at: ask for a shorter time, or watch fewer series.'),
    total === 0 && h('p', null, `${rule.id} would have told nobody.`),
    total > 0 && [h('h3', null, 'By week'), bars(weeks)],
    total > 0 && [
      h('h3', null, 'By series'),
      bars(Object.fromEntries(Object.entries(bySeries).slice(0, SHOWN_SERIES))),
      Object.keys(bySeries).length > SHOWN_SERIES &&
        h('p', { class: 'muted' }, `and ${Object.keys(bySeries).length - SHOWN_SERIES} more series`),
    ],
    total > 0 && table(answer.alerts, total),
    h(
      'ul',
      { class: 'notes' },
      answer.notes.map((/** @type {string} */ note) => h('li', { class: 'muted small' }, note)),
    ),
  ];
}

/** @param {string} name @param {string} text @param {string} note */
function tile(name, text, note) {
  return h(
    'div',
    { class: 'tile' },
    h('span', { class: 'tile-name' }, name),
    h('span', { class: 'tile-value' }, text),
    h('span', { class: 'tile-note' }, note),
  );
}

/** @param {Record<string, number>} counts */
function bars(counts) {
  const most = Math.max(...Object.values(counts), 1);
  return h(
    'ul',
    { class: 'shares' },
    Object.entries(counts).map(([name, count]) =>
      h(
        'li',
        null,
        h('span', { class: 'share-bar', style: { '--share': String(count / most) }, 'aria-hidden': 'true' }),
        h('span', { class: 'share-number' }, whole(count)),
        h('span', null, name),
      ),
    ),
  );
}

/** @param {any[]} alerts @param {number} total */
function table(alerts, total) {
  const shown = alerts.slice(0, SHOWN_ALERTS);
  const caption =
    shown.length < total ? `The first ${shown.length} of ${whole(total)} alerts` : 'Alerts that would have opened';
  return h(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      null,
      h('caption', null, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          ['Opened', 'Lasted', 'Subject', 'Metric', 'Value', 'Boundary', 'Severity'].map((name) =>
            h('th', { scope: 'col', class: ['Value', 'Boundary'].includes(name) && 'number' }, name),
          ),
        ),
      ),
      h('tbody', null, shown.map(row)),
    ),
  );
}

/** @param {any} one */
function row(one) {
  const unit = unitOf(one.metric);
  return h(
    'tr',
    { title: one.line },
    h('td', null, timeElement(one.opened, hour)),
    h('td', null, one.resolved ? duration(Date.parse(one.resolved) - Date.parse(one.opened)) : 'to the end'),
    h('th', { scope: 'row' }, h('a', { href: subjectHash(one.subject, one.metric) }, subjectParts(one.subject).id)),
    h('td', null, metricName(one.metric)),
    h('td', { class: 'number' }, value(one.value, unit)),
    h('td', { class: 'number' }, value(one.boundary, unit)),
    h('td', null, badge(one.severity, severityKind(one.severity))),
  );
}
