/**
 * The rules that are in force: what each watches, and what can be done about it.
 */

import { badge, busy, emptyState, h, replace } from './dom.js';
import { severityKind, timeElement, hour } from './format.js';
import { personName, whileBusy } from './forms.js';
import { rehearseDialog } from './rehearsal.js';
import {
  boundaryText,
  deleteRule,
  editRule,
  muteText,
  pointsText,
  put,
  ruleDetails,
  selectorText,
} from './rule_dialogs.js';

/** @param {HTMLElement} root @param {{ query: URLSearchParams }} params @param {any} context */
export async function show(root, params, context) {
  const view = new RulesView(root, context);
  await view.load();
  const named = view.rules.find((one) => one.rule.id === params.query.get('rule'));
  if (named) void ruleDetails(context, named, view.actions(named));
  return view;
}

class RulesView {
  /** @param {HTMLElement} root @param {any} context */
  constructor(root, context) {
    this.root = root;
    this.context = context;
    this.rules = /** @type {any[]} */ ([]);
    this.revision = /** @type {?number} */ (null);
    this.search = h('input', {
      type: 'search',
      placeholder: 'Search rules',
      'aria-label': 'Search rules',
      'data-search': true,
      oninput: () => this.draw(),
    });
    this.count = h('p', { class: 'muted', role: 'status' });
    this.list = h('div', null, busy());
  }

  async load() {
    replace(
      this.root,
      h(
        'header',
        { class: 'view-header' },
        h('h1', { tabindex: '-1' }, 'Rules'),
        h('button', { type: 'button', class: 'button-primary', onclick: () => this.create() }, 'New rule'),
      ),
      h(
        'p',
        { class: 'lead' },
        'A rule says what is reason to tell somebody: which series it watches, which values are beyond its boundary, and how many of them it takes.',
      ),
      h('div', { class: 'toolbar' }, this.search, this.count),
      this.list,
    );
    await this.refresh();
  }

  async refresh() {
    const { http, signal } = this.context;
    const { revision, rules } = await http.getJSON('/rules', { signal });
    if (revision === this.revision) return;
    this.revision = revision;
    this.rules = rules;
    this.draw();
  }

  destroy() {}

  /** Everything anew, after a change. */
  changed() {
    this.revision = null;
    void this.refresh().catch((error) => {
      if (!this.context.http.isAbort(error)) this.context.notify(error.message, 'error');
    });
  }

  draw() {
    const wanted = this.search.value.trim().toLowerCase();
    const shown = this.rules.filter((one) => JSON.stringify(one.rule).toLowerCase().includes(wanted));
    this.count.textContent =
      shown.length === this.rules.length ? `${shown.length} in force` : `${shown.length} of ${this.rules.length}`;
    const label = this.list.contains(document.activeElement)
      ? document.activeElement?.getAttribute('aria-label')
      : null;
    if (shown.length === 0)
      return replace(this.list, emptyState(this.rules.length ? 'No rule has this in it' : 'There are no rules'));
    const names = ['Rule', 'Watches', 'Boundary', 'Points', 'Severity', 'Tells', 'Muted', 'Written', 'Actions'];
    replace(
      this.list,
      h(
        'div',
        { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Rules' },
        h(
          'table',
          { class: 'rules' },
          h(
            'thead',
            null,
            h(
              'tr',
              null,
              names.map((name) => h('th', { scope: 'col' }, name)),
            ),
          ),
          h(
            'tbody',
            null,
            shown.map((one) => this.row(one)),
          ),
        ),
      ),
    );
    if (label)
      /** @type {HTMLElement | null} */ (this.list.querySelector(`[aria-label="${CSS.escape(label)}"]`))?.focus();
  }

  /** @param {any} known */
  row(known) {
    const { rule } = known;
    const actions = this.actions(known);
    const open = h(
      'button',
      {
        type: 'button',
        class: 'button-link',
        'aria-label': `Details of ${rule.id}`,
        onclick: () => ruleDetails(this.context, known, actions),
      },
      rule.id,
    );
    return h(
      'tr',
      { class: rule.is_enabled ? '' : 'is-off' },
      h('th', { scope: 'row' }, open, !rule.is_enabled && badge('off', 'muted', 'It does nothing until it is enabled')),
      h('td', null, selectorText(rule)),
      h('td', null, boundaryText(rule)),
      h('td', null, pointsText(rule)),
      h('td', null, badge(rule.severity, severityKind(rule.severity))),
      h(
        'td',
        null,
        rule.notify.length ? rule.notify.join(', ') : h('span', { class: 'muted' }, 'default targets'),
        rule.owner && h('div', { class: 'muted small' }, rule.owner),
      ),
      h(
        'td',
        null,
        rule.mute.length
          ? rule.mute.map((/** @type {any} */ one) => h('div', null, muteText(one)))
          : h('span', { class: 'muted' }, 'never'),
      ),
      h(
        'td',
        null,
        known.source,
        known.changed &&
          h('div', { class: 'muted small' }, timeElement(known.changed, hour), known.by && ` by ${known.by}`),
      ),
      h(
        'td',
        { class: 'row-actions' },
        h(
          'button',
          { type: 'button', class: 'button-small', 'aria-label': `Dry run of ${rule.id}`, onclick: actions.rehearse },
          'Dry run',
        ),
        h(
          'button',
          { type: 'button', class: 'button-small', 'aria-label': `Edit ${rule.id}`, onclick: actions.edit },
          'Edit',
        ),
        this.switchButton(known),
      ),
    );
  }

  /** @param {any} known */
  switchButton(known) {
    const { rule } = known;
    const text = rule.is_enabled ? 'Disable' : 'Enable';
    const button = h('button', { type: 'button', class: 'button-small', 'aria-label': `${text} ${rule.id}` }, text);
    button.addEventListener('click', async () => {
      try {
        if (await whileBusy(button, () => this.toggle(known))) this.changed();
      } catch (error) {
        this.context.notify(error instanceof Error ? error.message : String(error), 'error');
      }
    });
    return button;
  }

  /** @param {any} known */
  async toggle(known) {
    const by = await personName();
    if (!by) return false;
    const rule = { ...known.rule, is_enabled: !known.rule.is_enabled };
    await put(this.context, rule, { by, revision: known.revision });
    this.context.notify(
      `${rule.id} is ${rule.is_enabled ? 'enabled' : 'disabled'}; workers follow within seconds.`,
      'ok',
    );
    return true;
  }

  /** @param {any} known */
  actions(known) {
    const done = (/** @type {any} */ answer) => void (answer && this.changed());
    return {
      edit: () => void editRule(this.context, known).then(done),
      rehearse: () => void rehearseDialog(this.context, known.rule),
      remove: () => void deleteRule(this.context, known).then(done),
    };
  }

  async create() {
    const started = {
      id: '',
      metric: 'error-rate',
      condition: 'higher than',
      boundary: 10,
      kind: 'biller',
      subject: '*',
      window: { n: 2, m: 3 },
      severity: 'warning',
    };
    if (await editRule(this.context, { rule: started, revision: null, source: 'api' })) this.changed();
  }
}
