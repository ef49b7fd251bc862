/**
 * Windows that are not to be learned from: asked for in a dialog, listed, and taken back.
 *
 * Exports: askExclusion, exclusionList
 */

import { h } from './dom.js';
import { hour, metricName, span, subjectParts, timeElement, whole } from './format.js';
import { formDialog, fromLocalInput, knownName, localInput, rememberName } from './forms.js';
import { HOUR_MS, subjectPath } from './watched.js';

/** @typedef {{ id: string, from: string, to: string, hours: number, metric: ?string, reason: string, by: string }} Exclusion */

/**
 * Asks which window is to be excluded, and has it done; the answer is what the API says, null where nothing was done.
 * @param {any} context
 * @param {string} subject
 * @param {{ from: number, to: number, metric?: string, reason?: string, metrics?: string[] }} proposed in ms
 */
export async function askExclusion(context, subject, { from, to, metric = '', reason = '', metrics = [] }) {
  const moment = (/** @type {number} */ ms) =>
    h('input', { type: 'datetime-local', required: true, step: '60', value: localInput(ms) });
  // Hours are learned as wholes.
  const [start, end] = [Math.floor(from / HOUR_MS) * HOUR_MS, Math.ceil(to / HOUR_MS) * HOUR_MS];
  const choices = [...new Set([...metrics, metric].filter(Boolean))];
  const answer = await formDialog(`Exclude a window of ${subjectParts(subject).id}`, {
    intro: h(
      'p',
      null,
      'What happened in it is forgotten: the model becomes what it would be had it never seen these hours. They stay in the ',
      'history, and this can be taken back.',
    ),
    inputs: [
      { name: 'from', label: 'From', input: moment(start), hint: `Your time, ${zone()}` },
      { name: 'to', label: 'To', input: moment(Math.max(end, start + HOUR_MS)) },
      {
        name: 'metric',
        label: 'Metric',
        input: h(
          'select',
          null,
          h('option', { value: '' }, 'All metrics'),
          choices.map((one) => h('option', { value: one, selected: one === metric }, metricName(one))),
        ),
      },
      {
        name: 'reason',
        label: 'Reason',
        input: h('input', { type: 'text', required: true, maxlength: '500', value: reason }),
        hint: 'Such as an incident, or maintenance.',
      },
      {
        name: 'by',
        label: 'Your name',
        input: h('input', { type: 'text', required: true, maxlength: '128', value: knownName(), autocomplete: 'name' }),
      },
    ],
    submit: 'Exclude',
    work: async (values) => {
      rememberName(values.by);
      const body = {
        from: fromLocalInput(values.from),
        to: fromLocalInput(values.to),
        reason: values.reason,
        by: values.by,
      };
      return context.http.postJSON(
        `${subjectPath(subject)}/exclusions`,
        values.metric ? { ...body, metric: values.metric } : body,
      );
    },
  });
  if (answer) context.notify(`Excluded ${span(answer.from, answer.to)}.${relearned(answer)}`, 'ok');
  return answer;
}

/**
 * The excluded windows of a subject, the newest first.
 * @param {any} context
 * @param {string} subject
 * @param {Exclusion[]} exclusions
 * @param {() => void} changed
 */
export function exclusionList(context, subject, exclusions, changed) {
  if (exclusions.length === 0) return h('p', { class: 'muted' }, 'Nothing is excluded: every hour was learned.');
  const newest = [...exclusions].sort((one, other) => Date.parse(other.from) - Date.parse(one.from));
  return h(
    'ul',
    { class: 'exclusions' },
    newest.map((one) =>
      h(
        'li',
        null,
        h(
          'div',
          null,
          h('strong', null, timeElement(one.from, hour), ' – ', timeElement(one.to, hour)),
          h('span', { class: 'muted' }, ` ${one.metric ? metricName(one.metric) : 'all metrics'}, ${hoursOf(one)}`),
          h('p', null, one.reason, one.by && h('span', { class: 'muted' }, ` · ${one.by}`)),
        ),
        h('button', { type: 'button', onclick: () => takeBack(context, subject, one, changed) }, 'Take back'),
      ),
    ),
  );
}

/** @param {any} context @param {string} subject @param {Exclusion} one @param {() => void} changed */
async function takeBack(context, subject, one, changed) {
  const done = await formDialog('Take the exclusion back?', {
    intro: h(
      'p',
      null,
      'The hours ',
      h('strong', null, span(one.from, one.to)),
      ' are learned again from the history.',
    ),
    inputs: [],
    submit: 'Take back',
    work: () => context.http.deleteJSON(`${subjectPath(subject)}/exclusions/${encodeURIComponent(one.id)}`),
  });
  if (!done) return;
  context.notify(`${span(one.from, one.to)} counts again.${relearned(done)}`, 'ok');
  changed();
}

/** @param {Exclusion} one */
function hoursOf(one) {
  return one.hours === 1 ? '1 hour' : `${whole(one.hours)} hours`;
}

/** @param {{ relearned: Record<string, any> }} answer */
function relearned(answer) {
  const names = Object.keys(answer.relearned).map(metricName);
  return names.length ? ` Learned again: ${names.join(', ')}.` : '';
}

function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}
