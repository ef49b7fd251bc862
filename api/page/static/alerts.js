/**
 * Alerts: those that are open, with what can be done about them, and all that ever were.
 */

import { busy, emptyState, failure, field, h, replace } from './dom.js';
import { alertCards, alertTable, renewTimes } from './alert_cards.js';
import { fromLocalInput, knownName, localInput, rememberName } from './forms.js';
import { subjectParts } from './format.js';

const PAGE = 50;
const MOST_OPEN = 500;
const FILTERS = ['subject', 'rule', 'state', 'from', 'to'];

/** @param {HTMLElement} root @param {{ tab: string, query: URLSearchParams }} params @param {any} context */
export async function show(root, params, context) {
  const view = params.tab === 'history' ? new History(context, params.query) : new Open(context);
  const tab = (/** @type {string} */ hash, /** @type {string} */ text, /** @type {boolean} */ isHere) =>
    h('a', { href: hash, 'aria-current': isHere ? 'page' : null }, text);
  replace(
    root,
    h(
      'header',
      { class: 'view-header' },
      h('h1', { tabindex: '-1' }, 'Alerts'),
      h(
        'nav',
        { class: 'segments', 'aria-label': 'Which alerts' },
        tab('#/alerts', 'Open', params.tab !== 'history'),
        tab('#/alerts/history', 'History', params.tab === 'history'),
      ),
    ),
    view.element,
  );
  context.setTitle(params.tab === 'history' ? 'Past alerts' : 'Alerts');
  await view.refresh(true);
  return view;
}

class Open {
  /** @param {any} context */
  constructor(context) {
    this.context = context;
    this.alerts = /** @type {any[]} */ ([]);
    this.total = 0;
    this.shown = '';
    this.severity = '';
    this.search = h('input', {
      type: 'search',
      placeholder: 'Search alerts',
      'aria-label': 'Search alerts',
      'data-search': true,
      oninput: () => this.draw(),
    });
    this.choice = h(
      'select',
      { onchange: () => this.draw() },
      [
        ['', 'all'],
        ['critical', 'critical'],
        ['warning', 'warning'],
        ['info', 'info'],
      ].map(([name, text]) => h('option', { value: name }, text)),
    );
    this.count = h('p', { class: 'muted', role: 'status' });
    this.list = h('div', { class: 'alert-list' }, busy());
    this.element = h(
      'div',
      { class: 'stack' },
      h(
        'div',
        { class: 'toolbar' },
        this.search,
        h('label', { class: 'labelled' }, 'Severity', this.choice),
        this.person(),
        this.count,
      ),
      this.list,
    );
  }

  async refresh() {
    const { http, signal } = this.context;
    const { alerts, total } = await http.getJSON('/alerts', { params: { limit: MOST_OPEN }, signal });
    const now = JSON.stringify(alerts);
    if (now === this.shown) return renewTimes(this.list);
    this.shown = now;
    [this.alerts, this.total] = [alerts, total];
    this.draw();
  }

  destroy() {}

  draw() {
    const wanted = this.search.value.trim().toLowerCase();
    const severity = this.choice.value;
    const shown = this.alerts.filter(
      (one) =>
        (!severity || one.severity === severity) &&
        `${one.subject} ${one.metric} ${one.rule} ${one.line}`.toLowerCase().includes(wanted),
    );
    this.count.textContent = shown.length < this.total ? `${shown.length} of ${this.total} open` : `${this.total} open`;
    const active = this.list.contains(document.activeElement) ? document.activeElement : null;
    const held = active && [active.closest('[data-key]')?.getAttribute('data-key'), active.getAttribute('aria-label')];
    if (this.total === 0) {
      replace(
        this.list,
        emptyState(
          'Nothing is wrong',
          h(
            'p',
            null,
            'No alert is open. Those of the past are in the ',
            h('a', { href: '#/alerts/history' }, 'history'),
            '.',
          ),
        ),
      );
    } else if (shown.length === 0) replace(this.list, emptyState('No open alert has this in it'));
    else replace(this.list, alertCards(this.context, shown, { changed: () => this.changed() }));
    if (held) this.focus(held);
  }

  /** The focus stays where it was, on the same alert. @param {(string | null | undefined)[]} held */
  focus([key, label]) {
    const card = /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-key="${CSS.escape(key ?? '')}"]`));
    const same = label && card?.querySelector(`[aria-label="${CSS.escape(label)}"]`);
    /** @type {HTMLElement | null | undefined} */ (same || card)?.focus();
  }

  changed() {
    void this.refresh().catch((error) => {
      if (!this.context.http.isAbort(error)) this.context.notify(error.message, 'error');
    });
  }

  /** Who acts here, and a way to be somebody else. */
  person() {
    const name = h('strong', null, knownName());
    const part = h(
      'p',
      { class: 'muted small', hidden: !knownName() },
      'You are ',
      name,
      ' ',
      h(
        'button',
        { type: 'button', class: 'button-link', onclick: () => (rememberName(''), (part.hidden = true)) },
        'not you?',
      ),
    );
    return part;
  }
}

class History {
  /** @param {any} context @param {URLSearchParams} query */
  constructor(context, query) {
    this.context = context;
    this.alerts = /** @type {any[]} */ ([]);
    this.cursor = /** @type {?string} */ (null);
    const text = (/** @type {string} */ name, /** @type {string} */ placeholder) =>
      h('input', { type: 'text', name, placeholder, value: query.get(name) ?? '' });
    const moment = (/** @type {string} */ name) =>
      h('input', {
        type: 'datetime-local',
        name,
        value: query.get(name) ? localInput(Date.parse(query.get(name) ?? '')) : '',
      });
    /** @type {Record<string, any>} */
    this.inputs = {
      subject: text('subject', 'biller:B1'),
      rule: text('rule', 'biller-failures'),
      state: h(
        'select',
        { name: 'state' },
        [
          ['', 'any'],
          ['open', 'open'],
          ['resolved', 'resolved'],
        ].map(([name, shown]) => h('option', { value: name, selected: query.get('state') === name }, shown)),
      ),
      from: moment('from'),
      to: moment('to'),
    };
    this.inputs.subject.setAttribute('data-search', '');
    this.list = h('div', null, busy());
    this.more = h('button', { type: 'button', hidden: true, onclick: () => this.next() }, 'Older ones');
    this.element = h('div', { class: 'stack' }, this.form(), this.list, h('p', { class: 'paging' }, this.more));
  }

  form() {
    const form = h(
      'form',
      { class: 'card filters', role: 'search', 'aria-label': 'Filter past alerts' },
      field('Subject', this.inputs.subject, 'biller:ID or model:NAME/VERSION'),
      field('Rule', this.inputs.rule),
      field('State', this.inputs.state),
      field('Opened from', this.inputs.from),
      field('Opened before', this.inputs.to),
      h(
        'div',
        { class: 'row filter-actions' },
        h('button', { type: 'submit', class: 'button-primary' }, 'Filter'),
        h('button', { type: 'button', onclick: () => this.clear() }, 'Clear'),
      ),
    );
    form.addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      void this.apply();
    });
    this.inputs.state.addEventListener('change', () => void this.apply());
    return form;
  }

  clear() {
    for (const name of FILTERS) this.inputs[name].value = '';
    void this.apply();
  }

  async apply() {
    const wanted = Object.entries(this.wanted()).filter(([, one]) => one);
    const query = new URLSearchParams(/** @type {[string, string][]} */ (wanted)).toString();
    this.context.replaceHash(`#/alerts/history${query ? `?${query}` : ''}`);
    replace(this.list, busy());
    this.more.hidden = true;
    await this.refresh(true);
  }

  /** @returns {Record<string, string>} */
  wanted() {
    const of = (/** @type {string} */ name) => this.inputs[name].value.trim();
    const subject = of('subject');
    return {
      // Billers are what most people look for: they need not say so.
      subject: subject && !subject.includes(':') ? `${subject.includes('/') ? 'model' : 'biller'}:${subject}` : subject,
      rule: of('rule'),
      state: of('state'),
      from: fromLocalInput(of('from')),
      to: fromLocalInput(of('to')),
    };
  }

  /** The first page anew; what was paged to stays as it is. @param {boolean} [isAsked] */
  async refresh(isAsked = false) {
    if (!isAsked && this.alerts.length > PAGE) return;
    try {
      const { alerts, next_cursor: cursor } = await this.read('');
      const isSame = !isAsked && JSON.stringify(alerts) === JSON.stringify(this.alerts);
      [this.alerts, this.cursor] = [alerts, cursor];
      if (!isSame) this.draw();
    } catch (error) {
      if (!isAsked) throw error;
      if (!this.context.http.isAbort(error))
        replace(
          this.list,
          failure(error, () => void this.refresh(true)),
        );
    }
  }

  destroy() {}

  /** @param {string} cursor */
  read(cursor) {
    return this.context.http.getJSON('/alerts/history', {
      params: { ...this.wanted(), limit: PAGE, cursor },
      signal: this.context.signal,
    });
  }

  async next() {
    try {
      const { alerts, next_cursor: cursor } = await this.read(this.cursor ?? '');
      this.alerts.push(...alerts);
      this.cursor = cursor;
      this.draw();
    } catch (error) {
      if (!this.context.http.isAbort(error))
        this.context.notify(error instanceof Error ? error.message : String(error), 'error');
    }
  }

  draw() {
    const { subject } = this.wanted();
    this.more.hidden = this.cursor === null;
    if (this.alerts.length === 0) {
      const isFiltered = Object.values(this.wanted()).some(Boolean);
      return replace(
        this.list,
        emptyState(
          isFiltered ? 'No alert was like this' : 'No alert was ever opened',
          isFiltered && h('button', { type: 'button', onclick: () => this.clear() }, 'Clear the filter'),
        ),
      );
    }
    replace(
      this.list,
      h(
        'p',
        { class: 'muted', role: 'status' },
        `${this.alerts.length}${this.cursor ? ' newest' : ''} alerts${subject ? ` of ${subjectParts(subject).id}` : ''}`,
      ),
      alertTable(this.alerts, { caption: 'Past alerts, the newest first' }),
    );
  }
}
