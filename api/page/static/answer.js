/**
 * What is published of one series now: the threshold of the next hour, what it rests on, and why it is what it is.
 *
 * Exports: answerPanel
 */

import { badge, h, icon } from './dom.js';
import {
  compareText,
  duration,
  hour,
  metricName,
  number,
  percent,
  span,
  statusKind,
  statusText,
  timeElement,
  value,
  whole,
} from './format.js';
import { HOUR_MS } from './watched.js';

const MOMENTS = /\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?Z/;

const EXPERTS = {
  last: 'the last hour',
  day: 'the same hour of the usual day',
  week: 'the same hour of the usual week',
  yesterday: 'the same hour yesterday',
  average: 'the running average',
  week_half: 'half way between the week and the average',
  regression_season: 'a regression on the season',
  regression_short: 'a regression on the last hours',
  regression_raw: 'a regression on the values as they are',
};

const PARTS = {
  week_mean: 'Usual at this hour of the week',
  day_mean: 'Usual at this hour of the day',
  spread: 'Usual error',
  disagreement: 'Disagreement of the forecasts',
  expected_rate: 'Expected rate',
  shift_from: 'Level before the shift',
  shift_to: 'Level after the shift',
  creep_rise: 'Rise of the creep',
};

/**
 * @param {any} answer of `POST /metrics/predict/…`
 * @param {?{ value: number, count: number, start: string }} live the hour that is still open
 */
export function answerPanel(answer, live) {
  const { unit, operator } = answer;
  const side = operator === '>' ? 'up to' : 'down to';
  const facts = [
    ['Expected', value(answer.estimate, unit)],
    ['95 % band', `${number(answer.lower)} – ${value(answer.upper, unit)}`],
    ['Alert', `${compareText(operator)} ${value(answer.threshold, unit)}`],
    ['Holds until', timeElement(answer.valid_until, hour)],
    ['Calls expected', number(answer.expected_calls)],
    ['Calls needed to judge', whole(answer.min_calls)],
    ['Hours learned', whole(answer.n_learned)],
    live && ['Hour so far', [value(live.value, unit), h('span', { class: 'muted' }, ` of ${whole(live.count)} calls`)]],
  ].filter(Boolean);
  return h(
    'div',
    { class: 'answer' },
    h(
      'p',
      { class: 'answer-threshold' },
      h('span', { class: 'muted' }, `Normal ${side}`),
      h('strong', null, value(answer.threshold, unit)),
      h(
        'span',
        { class: 'muted' },
        timeElement(answer.window_start, (start) => span(start, Date.parse(answer.window_start) + HOUR_MS)),
      ),
    ),
    h(
      'p',
      { class: 'answer-badges' },
      badge(answer.status, statusKind(answer.status), statusText(answer.status)),
      evidence(answer),
    ),
    h(
      'dl',
      { class: 'fact-grid' },
      facts.map((/** @type {any} */ [name, text]) => h('div', null, h('dt', null, name), h('dd', null, text))),
    ),
    h('p', { class: 'answer-sentence' }, withMoments(answer.explanation.sentence)),
    parts(answer),
  );
}

/** @param {any} answer */
function evidence(answer) {
  const { is_alert: isAlert, evidence: seen } = answer.alert;
  if (!seen) return null;
  const of = seen.source === 'minutes' ? 'the last minutes' : 'the last closed hour';
  const length = duration(Date.parse(seen.window_end) - Date.parse(seen.window_start));
  const text = `${of}, ${length}: ${value(seen.value, answer.unit)} of ${whole(seen.calls)} calls against ${value(seen.threshold, answer.unit)}`;
  if (isAlert)
    return h(
      'span',
      { class: 'evidence is-alert' },
      icon('alert'),
      h('strong', null, 'beyond its threshold now: '),
      text,
    );
  return h('span', { class: 'evidence muted' }, text);
}

/** @param {any} answer */
function parts(answer) {
  const given = answer.explanation.parts;
  const weights = Object.entries(given)
    .filter(([name]) => name.startsWith('weight_'))
    .map(([name, weight]) => ({ name: name.slice('weight_'.length), weight: Number(weight) }))
    .sort((one, other) => other.weight - one.weight);
  const others = Object.entries(PARTS).filter(([name]) => typeof given[name] === 'number');
  return h(
    'details',
    { class: 'parts' },
    h('summary', null, 'What it is made of'),
    given.sentence && h('p', null, `${given.sentence} (UTC).`),
    weights.length > 0 && [
      h('p', { class: 'muted' }, 'Shares of the forecasts in what is expected:'),
      h('ul', { class: 'shares' }, weights.map(share)),
    ],
    h('dl', { class: 'fact-grid' }, [
      ...others.map(([name, text]) => fact(text, value(given[name], answer.unit))),
      typeof given.correction === 'number' &&
        fact('Distance of the threshold', `× ${number(given.correction)} by what was measured`),
      given.drift && fact('Drift', given.drift),
      given.reasons && fact('Reasons', given.reasons),
      given.limits && fact('Highest rate that is no evidence, by calls', given.limits),
      answer.cohort &&
        fact('Cohort', `${answer.cohort}, of which ${percent(answer.cohort_measured_exceedance)} went beyond`),
      answer.judged > 0 &&
        fact(
          'Went beyond since it is judged',
          `${percent(answer.measured_exceedance)} of ${whole(answer.judged)} hours, ${percent(answer.claimed_exceedance)} claimed`,
        ),
      fact('Version of the answer', h('code', null, answer.version)),
    ]),
  );
}

/** @param {string} name @param {any} text */
function fact(name, text) {
  return h('div', null, h('dt', null, name), h('dd', null, text));
}

/** @param {{ name: string, weight: number }} one */
function share({ name, weight }) {
  const text = /** @type {Record<string, string>} */ (EXPERTS)[name] ?? metricName(name);
  return h(
    'li',
    null,
    h('span', { class: 'share-bar', style: { '--share': String(weight) }, 'aria-hidden': 'true' }),
    h('span', { class: 'share-number' }, percent(weight)),
    h('span', null, text),
  );
}

/** The API writes moments in UTC: here they are the reader's. @param {string} text */
function withMoments(text) {
  const found = MOMENTS.exec(text);
  if (!found) return text;
  return [
    text.slice(0, found.index),
    timeElement(found[0], hour),
    withMoments(text.slice(found.index + found[0].length)),
  ];
}
