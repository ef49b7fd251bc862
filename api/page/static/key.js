/**
 * The key that the API is asked with, where it asks who asks: typed in once, kept until this tab is closed.
 *
 * Exports: headers, askForKey
 */

const KEPT = 'tidemark-key';

let key = read();
let isAsking = false;

/** What every request is sent with. @returns {Record<string, string>} */
export function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/**
 * Ask for a key until the API takes one or the reader gives up; whether one was taken.
 * @param {(headers: Record<string, string>) => Promise<any>} attempt fails where the API does not take what it is sent
 * @returns {Promise<boolean>}
 */
export async function askForKey(attempt) {
  // Every request that is under way is refused at once: one dialog is enough.
  if (isAsking) return false;
  isAsking = true;
  try {
    const [{ formDialog }, { h }] = await Promise.all([import('./forms.js'), import('./dom.js')]);
    const input = h('input', { type: 'password', required: true, autocomplete: 'off', spellcheck: 'false', placeholder: 'tm_…' });
    const taken = await formDialog('Who asks?', {
      intro: 'This API answers those who have a key. It is kept until this tab is closed.',
      inputs: [{ name: 'key', label: 'API key', input, hint: 'tidemark keys create makes one.' }],
      submit: 'Use this key',
      work: async ({ key: given }) => {
        await attempt({ Authorization: `Bearer ${given}` });
        keep(given);
        return true;
      },
    });
    return taken === true;
  } finally {
    isAsking = false;
  }
}

/** @param {string} given */
function keep(given) {
  key = given;
  try {
    sessionStorage.setItem(KEPT, given);
  } catch {
    // Without storage it is asked for again after the next load.
  }
}

function read() {
  try {
    return sessionStorage.getItem(KEPT) ?? '';
  } catch {
    return '';
  }
}
