/**
 * Alerts as cards and as rows, with what people can do about them.
 *
 * Exports: alertCards, alertTable, renewTimes
 */

import { badge, h, icon } from './dom.js';
import {
  ago,
  duration,
  hour,
  metricName,
  severityKind,
  subjectHash,
  subjectParts,
  timeElement,
  value,
} from './format.js';
import { askExclusion } from './exclusion.js';
import { personName, whileBusy } from './forms.js';
import { HOUR_MS, unitOf } from './watched.js';

const OPINIONS = /** @type {const} */ ([
  ['true', 'Worth telling', 'It was right to tell this: such alerts come as easily as before'],
  ['false', 'False alarm', 'It was not worth telling: a learned boundary of this series moves further out'],
]);

/**
 * Open alerts, one card each.
 * @param {any} context
 * @param {any[]} alerts
 * @param {{ changed: () => void, isOwnSubject?: boolean }} options `changed` is called after each action that was taken
 */
export function alertCards(context, alerts, { changed, isOwnSubject = false }) {
  return h(
    'ul',
    { class: 'alert-cards' },
    alerts.map((alert) => h('li', null, card(context, alert, changed, isOwnSubject))),
  );
}

/** @param {any} context @param {any} alert @param {() => void} changed @param {boolean} isOwnSubject */
function card(context, alert, changed, isOwnSubject) {
  const { id, kind } = subjectParts(alert.subject);
  const unit = unitOf(alert.metric);
  const name = `${id}, ${metricName(alert.metric)}`;
  return h(
    'article',
    {
      class: `alert-card severity-${alert.severity}`,
      'aria-label': `${alert.severity}: ${name}`,
      tabindex: '-1',
      'data-row': true,
      'data-key': alert.id,
    },
    h(
      'header',
      { class: 'alert-head' },
      badge(alert.severity, severityKind(alert.severity)),
      h(
        'h3',
        null,
        !isOwnSubject && [
          h('a', { href: subjectHash(alert.subject, alert.metric) }, id),
          h('span', { class: 'muted' }, ` ${kind} `),
        ],
        metricName(alert.metric),
      ),
      h(
        'p',
        { class: 'alert-since' },
        'since ',
        timeElement(alert.since, hour),
        h(
          'span',
          { class: 'muted', dataset: { since: alert.since, last: alert.last } },
          lasted(alert.since, alert.last),
        ),
      ),
    ),
    h(
      'p',
      { class: 'alert-value' },
      h('strong', null, value(alert.value, unit)),
      ` against ${value(alert.boundary, unit)}`,
      h(
        'span',
        { class: 'muted' },
        ` · ${alert.condition ?? ''} · rule `,
        h('a', { href: `#/rules?rule=${encodeURIComponent(alert.rule)}` }, alert.rule),
      ),
    ),
    alert.detail?.sentence && h('p', null, alert.detail.sentence),
    h('details', { class: 'alert-line' }, h('summary', null, 'The line that was sent'), h('code', null, alert.line)),
    h(
      'footer',
      { class: 'alert-actions' },
      alert.acknowledged_by
        ? h(
            'span',
            { class: 'taken' },
            icon('check'),
            'taken by ',
            h('strong', null, alert.acknowledged_by),
            alert.acknowledged && [' ', timeElement(alert.acknowledged, hour)],
          )
        : action(context, 'Acknowledge', name, changed, () => acknowledge(context, alert)),
      h(
        'span',
        { class: 'segments', role: 'group', 'aria-label': 'Was it worth telling?' },
        OPINIONS.map(([opinion, text, title]) => opinionButton(context, alert, opinion, text, title, name, changed)),
      ),
      action(context, 'Exclude this window', name, changed, () => exclude(context, alert)),
    ),
  );
}

/** @param {any} context @param {string} text @param {string} name @param {() => void} changed @param {() => Promise<boolean>} work */
function action(context, text, name, changed, work) {
  const button = h('button', { type: 'button', 'aria-label': `${text}: ${name}` }, text);
  button.addEventListener('click', () => acted(context, button, changed, work));
  return button;
}

/** @param {any} context @param {any} alert @param {string} opinion @param {string} text @param {string} title @param {string} name @param {() => void} changed */
function opinionButton(context, alert, opinion, text, title, name, changed) {
  const button = h(
    'button',
    { type: 'button', title, 'aria-label': `${text}: ${name}`, 'aria-pressed': String(alert.opinion === opinion) },
    text,
  );
  button.addEventListener('click', () => acted(context, button, changed, () => judge(context, alert, opinion)));
  return button;
}

/** @param {any} context @param {HTMLButtonElement} button @param {() => void} changed @param {() => Promise<boolean>} work */
async function acted(context, button, changed, work) {
  if (button.getAttribute('aria-busy') === 'true') return;
  try {
    if (await whileBusy(button, work)) changed();
  } catch (error) {
    context.notify(error instanceof Error ? error.message : String(error), 'error');
  }
}

/** @param {any} context @param {any} alert */
async function acknowledge(context, alert) {
  const by = await personName();
  if (!by) return false;
  await context.http.postJSON('/alerts/acknowledge', { id: alert.id, by });
  context.notify(`You have taken on the alert of ${subjectParts(alert.subject).id}.`, 'ok');
  return true;
}

/** @param {any} context @param {any} alert @param {string} opinion */
async function judge(context, alert, opinion) {
  const { bar } = await context.http.postJSON('/alerts/feedback', { id: alert.id, opinion });
  const moved =
    alert.condition === 'outside threshold' && typeof bar === 'number' && bar > 1
      ? ` Its boundary now lies ${bar} times as far out as was learned.`
      : '';
  context.notify(`Noted: ${opinion === 'true' ? 'worth telling' : 'a false alarm'}.${moved}`, 'ok');
  return true;
}

/** @param {any} context @param {any} alert */
async function exclude(context, alert) {
  const from = Date.parse(alert.since ?? alert.opened);
  const to = alert.resolved
    ? Date.parse(alert.resolved)
    : Math.max(Date.parse(alert.last ?? alert.opened), from + HOUR_MS);
  const metric = alert.metric === 'calls' ? '' : alert.metric;
  return (
    (await askExclusion(context, alert.subject, { from, to, metric, reason: `Alert of rule ${alert.rule}` })) !== null
  );
}

/**
 * Past alerts, one row each; those that are still open among them.
 * @param {any[]} alerts
 * @param {{ isOwnSubject?: boolean, caption: string }} options
 */
export function alertTable(alerts, { isOwnSubject = false, caption }) {
  const names = [
    'Opened',
    'Lasted',
    ...(isOwnSubject ? [] : ['Subject']),
    'Metric',
    'Rule',
    'Severity',
    'Value',
    'Boundary',
    'State',
    'People',
  ];
  return h(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      null,
      h('caption', { class: 'visually-hidden' }, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          names.map((name) => h('th', { scope: 'col', class: ['Value', 'Boundary'].includes(name) && 'number' }, name)),
        ),
      ),
      h(
        'tbody',
        null,
        alerts.map((alert) => row(alert, isOwnSubject)),
      ),
    ),
  );
}

/** @param {any} alert @param {boolean} isOwnSubject */
function row(alert, isOwnSubject) {
  const unit = unitOf(alert.metric);
  return h(
    'tr',
    { title: alert.line },
    h('td', null, timeElement(alert.opened, hour)),
    h('td', null, alert.resolved ? duration(Date.parse(alert.resolved) - Date.parse(alert.opened)) : 'still open'),
    !isOwnSubject &&
      h(
        'th',
        { scope: 'row' },
        h('a', { href: subjectHash(alert.subject, alert.metric) }, subjectParts(alert.subject).id),
      ),
    h('td', null, metricName(alert.metric)),
    h('td', null, alert.rule),
    h('td', null, badge(alert.severity, severityKind(alert.severity))),
    h('td', { class: 'number' }, value(alert.value, unit)),
    h('td', { class: 'number' }, value(alert.boundary, unit)),
    h(
      'td',
      null,
      alert.state === 'open' ? badge('open', 'warning') : badge('resolved', 'muted', alert.reason ?? undefined),
    ),
    h('td', null, people(alert)),
  );
}

/** @param {any} alert */
function people(alert) {
  const said = [];
  if (alert.acknowledged_by) said.push(`taken by ${alert.acknowledged_by}`);
  if (alert.feedback) said.push(alert.feedback === 'true' ? 'worth telling' : 'false alarm');
  return said.join(', ') || '–';
}

/** How long each alert is open by now. @param {HTMLElement} root */
export function renewTimes(root) {
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-since]'))) {
    const text = lasted(one.dataset.since ?? '', one.dataset.last ?? '');
    if (one.textContent !== text) one.textContent = text;
  }
}

/** Since when, by the clock of this machine; of recorded events, by the last that was heard. @param {string} since @param {string} last */
function lasted(since, last) {
  const [from, to] = [Date.parse(since), Date.parse(last)];
  // Minutes are enough for what is renewed every few seconds.
  const now = Math.max(Math.floor(Date.now() / 60_000) * 60_000, from);
  return now - to < 24 * HOUR_MS ? ` · ${ago(from, now)}` : ` · for ${duration(Math.max(to - from, 60_000))}`;
}
