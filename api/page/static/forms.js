/**
 * What people fill in: dialogs with a form, buttons that are busy, and refusals shown where they belong.
 *
 * Exports: formDialog, whileBusy, refusal, personName, knownName, localInput, fromLocalInput
 */

import { field, h, icon, openDialog, replace } from './dom.js';

const NAME_KEY = 'tidemark-name';

/**
 * One input of a form; `name` is also the name by which a refusal calls its field.
 * @typedef {{ name: string, label: string, input: any, hint?: string }} Input
 */

/**
 * A dialog with a form. It stays open while the work is refused, and says why; the answer is what the work gave, or
 * null when the dialog was closed.
 * @param {string} title
 * @param {{ intro?: any, inputs: Input[], submit: string, work: (values: Record<string, string>) => Promise<any>,
 *   isDangerous?: boolean, isWide?: boolean }} form
 * @returns {Promise<any>}
 */
export async function formDialog(title, { intro, inputs, submit, work, isDangerous, isWide }) {
  /** @type {any} */
  let given = null;
  const said = h('div', { class: 'form-refusal', 'aria-live': 'assertive' });
  const button = h('button', { type: 'submit', class: isDangerous ? 'button-danger' : 'button-primary' }, submit);
  const form = h(
    'form',
    { class: 'form', novalidate: true },
    intro && h('div', { class: 'form-intro' }, intro),
    inputs.map(({ label, input, hint }) => field(label, input, hint)),
    said,
    h(
      'div',
      { class: 'form-actions' },
      h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
      button,
    ),
  );
  form.addEventListener('submit', async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    clear(inputs, said);
    const missing = inputs.find(({ input }) => input.required && !input.value.trim());
    if (missing)
      return refuse(inputs, said, {
        title: `${missing.label} is missing`,
        errors: [{ field: missing.name, reason: '' }],
      });
    try {
      const values = Object.fromEntries(inputs.map(({ name, input }) => [name, input.value.trim()]));
      given = (await whileBusy(button, () => work(values))) ?? true;
      dialog.close();
    } catch (error) {
      refuse(inputs, said, error);
    }
  });
  const dialog = openDialog(title, form);
  dialog.element.classList.toggle('dialog-wide', isWide === true);
  (inputs.find(({ input }) => !input.value && input.required) ?? inputs[0])?.input.focus();
  await dialog.closed;
  return given;
}

/** @param {Input[]} inputs @param {HTMLElement} said */
function clear(inputs, said) {
  replace(said);
  for (const { input } of inputs) input.removeAttribute('aria-invalid');
}

/** @param {Input[]} inputs @param {HTMLElement} said @param {any} error */
function refuse(inputs, said, error) {
  replace(said, refusal(error));
  const wrong = inputs.filter(({ name }) => (error.errors ?? []).some((/** @type {any} */ one) => one.field === name));
  for (const { input } of wrong) input.setAttribute('aria-invalid', 'true');
  if (wrong.length === 0 && error.errors?.length) inputs[0]?.input.setAttribute('aria-invalid', 'true');
  wrong[0]?.input.focus();
}

/**
 * Runs the work while its button says that it is busy and takes no second press.
 * @template T
 * @param {HTMLButtonElement} button
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function whileBusy(button, work) {
  if (button.getAttribute('aria-busy') === 'true') throw new Error('It is being done already.');
  button.setAttribute('aria-busy', 'true');
  button.setAttribute('aria-disabled', 'true');
  try {
    return await work();
  } finally {
    button.removeAttribute('aria-busy');
    button.removeAttribute('aria-disabled');
  }
}

/** What was refused, with each fault and its place. @param {any} error */
export function refusal(error) {
  const faults = /** @type {any[]} */ (error.errors ?? []).filter((one) => one.reason);
  const isSaidByFaults = faults.length === 1 && error.detail === `${faults[0].field}: ${faults[0].reason}`;
  return h(
    'div',
    { class: 'failure', role: 'alert' },
    icon('alert'),
    h(
      'div',
      null,
      h('strong', null, error.title ?? error.message ?? String(error)),
      error.detail && !isSaidByFaults && faults.length === 0 && h('p', null, error.detail),
      faults.length > 0 &&
        h(
          'ul',
          { class: 'faults' },
          faults.map((one) => h('li', null, h('code', null, place(one)), ' ', one.reason)),
        ),
    ),
  );
}

/** @param {any} fault */
function place(fault) {
  const row = fault.row ?? fault.index;
  return row === undefined || row === null ? fault.field : `${fault.field} (${row})`;
}

/** The name that was given before, or "". */
export function knownName() {
  try {
    return localStorage.getItem(NAME_KEY) ?? '';
  } catch {
    return '';
  }
}

/** Who does it: asked once and then remembered on this machine; null where it was not told. @returns {Promise<?string>} */
export async function personName() {
  const known = knownName();
  if (known) return known;
  const input = h('input', { type: 'text', required: true, maxlength: '128', autocomplete: 'name' });
  const given = await formDialog('Who are you?', {
    intro: h(
      'p',
      null,
      'Your name stands beside what you do, so that others know whom to ask. This browser remembers it.',
    ),
    inputs: [{ name: 'by', label: 'Your name', input }],
    submit: 'Go on',
    work: async ({ by }) => by,
  });
  if (given) rememberName(given);
  return given;
}

/** @param {string} name */
export function rememberName(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // Without storage it is asked again.
  }
}

/** A moment as `<input type="datetime-local">` has it, in the zone of the reader. @param {number} ms */
export function localInput(ms) {
  const moment = new Date(ms);
  return new Date(ms - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Back to RFC 3339 in UTC; "" where it cannot be read. @param {string} text */
export function fromLocalInput(text) {
  const ms = Date.parse(text);
  return Number.isFinite(ms) ? new Date(ms).toISOString().replace('.000', '') : '';
}
