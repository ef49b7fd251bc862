/**
 * One rule in words, and the dialogs that show, edit and delete it.
 *
 * Exports: selectorText, boundaryText, pointsText, muteText, ruleDetails, editRule, deleteRule, put
 */

import { badge, busy, failure, h, openDialog, replace } from './dom.js';
import { hour, number, severityKind, span, timeElement } from './format.js';
import { formDialog, knownName, rememberName } from './forms.js';

/** Which series it watches. @param {any} rule */
export function selectorText(rule) {
  const whose =
    rule.subject === '*'
      ? ({ biller: 'all billers', model: 'all models' }[/** @type {string} */ (rule.kind)] ?? 'everything')
      : rule.subject;
  const labels = Object.entries(rule.labels ?? {}).map(([name, glob]) => `${name} ${glob}`);
  return [
    h('strong', null, rule.metric === '*' ? 'every metric' : rule.metric),
    ' of ',
    rule.subject === '*' ? whose : h('code', null, whose),
    rule.subject !== '*' && rule.kind && h('span', { class: 'muted' }, ` (${rule.kind}s)`),
    labels.length > 0 && h('div', { class: 'muted small' }, `with ${labels.join(', ')}`),
  ];
}

/** Which values are beyond it. @param {any} rule */
export function boundaryText(rule) {
  if (typeof rule.boundary === 'number') return `${rule.condition} ${number(rule.boundary)}`;
  const { absolute = 0, relative = 0 } = rule.floor ?? {};
  const least = [
    absolute && `by ${number(absolute)}`,
    relative && `by ${number(100 * relative)} % of what is expected`,
  ].filter(Boolean);
  return [
    'outside the learned threshold',
    least.length > 0 && h('div', { class: 'muted small' }, `at least ${least.join(' and ')}`),
  ];
}

/** How many points it takes. @param {any} rule */
export function pointsText(rule) {
  const { n = 1, m = null } = rule.window ?? {};
  return m === null || m === n ? (n === 1 ? 'the first' : `${n} in a row`) : `${n} of ${m}`;
}

/** @param {any} mute */
export function muteText(mute) {
  if (mute.since.includes('T')) return span(mute.since, mute.until);
  return `${mute.since} – ${mute.until} ${(mute.days ?? []).join(', ') || 'every day'}${mute.zone ? `, ${mute.zone}` : ''}`;
}

/** @param {any} rule */
function recoveryText(rule) {
  const { value = null, n = 1 } = rule.recovery ?? {};
  const points = n === 1 ? 'one point' : `${n} points in a row`;
  return value === null ? `${points} not beyond` : `${points} that reach ${number(value)}`;
}

/**
 * Everything about a rule, and who changed it.
 * @param {any} context
 * @param {any} known of `GET /rules`
 * @param {{ edit(): void, rehearse(): void, remove(): void }} actions
 */
export async function ruleDetails(context, known, actions) {
  const { rule } = known;
  const audit = h('div', null, busy());
  const then = (/** @type {() => void} */ work) => () => {
    dialog.close();
    work();
  };
  const dialog = openDialog(
    `Rule ${rule.id}`,
    h(
      'div',
      { class: 'stack' },
      rule.description && h('p', null, rule.description),
      h(
        'dl',
        { class: 'facts' },
        [
          ['Watches', selectorText(rule)],
          ['Beyond', boundaryText(rule)],
          ['Opens after', pointsText(rule)],
          ['Ends after', recoveryText(rule)],
          [
            'Needs',
            `${number(rule.min_count)} ${rule.min_count === 1 ? 'call or event' : 'calls or events'} behind a point`,
          ],
          ['Severity', badge(rule.severity, severityKind(rule.severity))],
          ['Owner', rule.owner || '–'],
          ['Tells', rule.notify.length ? rule.notify.join(', ') : 'the targets that are told by default'],
          [
            'Muted',
            rule.mute.length
              ? rule.mute.map((/** @type {any} */ one) =>
                  h('div', null, muteText(one), one.reason && ` · ${one.reason}`),
                )
              : 'never',
          ],
          ['State', rule.is_enabled ? badge('on', 'ok') : badge('off', 'muted')],
          [
            'Source',
            { default: 'a default: holds where nobody wrote a rule with its id', file: 'a file', api: 'the API' }[
              /** @type {string} */ (known.source)
            ],
          ],
          ['Revision', known.revision],
        ].map(([name, text]) => [h('dt', null, name), h('dd', null, text)]),
      ),
      h(
        'details',
        null,
        h('summary', null, 'As JSON'),
        h('pre', { tabindex: '0', 'aria-label': 'The rule as JSON' }, h('code', null, JSON.stringify(rule, null, 2))),
      ),
      h('section', null, h('h3', null, 'Who changed it'), audit),
      h(
        'div',
        { class: 'form-actions' },
        known.source !== 'default' &&
          h('button', { type: 'button', class: 'button-danger', onclick: then(actions.remove) }, 'Delete'),
        h('button', { type: 'button', onclick: then(actions.rehearse) }, 'Dry run'),
        h('button', { type: 'button', class: 'button-primary', onclick: then(actions.edit) }, 'Edit'),
      ),
    ),
  );
  dialog.element.classList.add('dialog-wide');
  try {
    const { changes } = await context.http.getJSON('/rules/audit', {
      params: { rule: rule.id, limit: 20 },
      signal: context.signal,
    });
    replace(
      audit,
      changes.length ? h('ul', { class: 'audit' }, changes.map(change)) : h('p', { class: 'muted' }, 'Nobody has.'),
    );
  } catch (error) {
    if (!context.http.isAbort(error)) replace(audit, failure(error));
  }
}

/** @param {any} one of `GET /rules/audit` */
function change(one) {
  const fields = Object.keys({ ...one.before, ...one.after }).filter(
    (name) => JSON.stringify(one.before?.[name]) !== JSON.stringify(one.after?.[name]),
  );
  const what = one.action === 'changed' ? `changed ${fields.join(', ')}` : one.action;
  return h('li', null, timeElement(one.at, hour), ` ${what}`, one.by && ` by ${one.by}`);
}

/**
 * A rule as JSON, to be written in place of the one that was read, or anew where it has no revision.
 * @param {any} context
 * @param {any} known
 */
export async function editRule(context, known) {
  const isNew = known.revision === null;
  const text = h('textarea', {
    class: 'code',
    rows: '20',
    spellcheck: false,
    required: true,
    value: JSON.stringify(written(known.rule), null, 2),
  });
  const answer = await formDialog(isNew ? 'New rule' : `Edit ${known.rule.id}`, {
    isWide: true,
    intro: [
      h(
        'p',
        null,
        'What is left out has its default. ',
        known.source === 'default' && 'This takes the place of the default with the same id. ',
      ),
      known.source === 'file' &&
        h('p', null, 'A file wrote this rule: the next version of the file that names it wins again.'),
    ],
    inputs: [
      { name: 'rule', label: 'Rule, as JSON', input: text },
      {
        name: 'by',
        label: 'Your name',
        input: h('input', { type: 'text', required: true, maxlength: '128', value: knownName(), autocomplete: 'name' }),
        hint: 'For the audit.',
      },
    ],
    submit: 'Save',
    work: async ({ rule, by }) => {
      rememberName(by);
      return put(context, parsed(rule), { by, revision: known.revision });
    },
  });
  if (answer) context.notify(`${answer.rule.id} is saved; workers follow within seconds.`, 'ok');
  return answer;
}

/**
 * Writes a rule in place of the one with this revision only; null is for one that must not be there yet.
 * @param {any} context
 * @param {any} rule
 * @param {{ by: string, revision: ?number }} expected
 */
export async function put(context, rule, { by, revision }) {
  const headers = revision === null ? { 'If-None-Match': '*' } : { 'If-Match': `"${revision}"` };
  try {
    return await context.http.putJSON(`/rules/${encodeURIComponent(rule.id)}`, rule, { params: { by }, headers });
  } catch (error) {
    throw /** @type {any} */ (error).status === 412 ? outdated(revision === null) : error;
  }
}

/** @param {boolean} isNew */
function outdated(isNew) {
  const title = isNew ? 'There is a rule with this id already' : 'Somebody has changed this rule meanwhile';
  const detail = isNew
    ? 'Choose another id, or edit the one that is there.'
    : 'Close this, look at what it is now, and make your change again.';
  return Object.assign(new Error(`${title}: ${detail}`), { title, detail });
}

/** @param {any} context @param {any} known */
export async function deleteRule(context, known) {
  const { id } = known.rule;
  return formDialog(`Delete ${id}?`, {
    intro: h('p', null, 'Its open alerts are resolved. Where it took the place of a default, that one holds again.'),
    inputs: [
      {
        name: 'by',
        label: 'Your name',
        input: h('input', { type: 'text', required: true, maxlength: '128', value: knownName() }),
      },
    ],
    submit: 'Delete',
    isDangerous: true,
    work: async ({ by }) => {
      rememberName(by);
      await context.http.deleteJSON(`/rules/${encodeURIComponent(id)}`, {
        params: { by },
        headers: { 'If-Match': `"${known.revision}"` },
      });
      context.notify(`${id} is deleted.`, 'ok');
      return true;
    },
  });
}

/** Raises what a form can show. @param {string} text */
function parsed(text) {
  try {
    const rule = JSON.parse(text);
    if (typeof rule?.id === 'string' && rule.id) return rule;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw Object.assign(new Error(reason), { title: 'This is no JSON', errors: [{ field: 'rule', reason }] });
  }
  throw Object.assign(new Error('id'), {
    title: 'The rule has no id',
    errors: [{ field: 'rule', reason: '`id` must be a text, such as "slow-checkout"' }],
  });
}

/** Without what only says that it is not there. @param {any} rule */
function written(rule) {
  const isEmpty = (/** @type {any} */ one) =>
    one === null || one === '' || (typeof one === 'object' && Object.values(one).every((inner) => inner === null));
  const pruned = (/** @type {any} */ one) =>
    one && typeof one === 'object' && !Array.isArray(one)
      ? Object.fromEntries(
          Object.entries(one)
            .filter(([, inner]) => !isEmpty(inner))
            .map(([name, inner]) => [name, pruned(inner)]),
        )
      : one;
  return { id: rule.id, ...pruned(rule) };
}
