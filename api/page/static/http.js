/**
 * Requests to the API that serves this page.
 *
 * Exports: getJSON, postJSON, putJSON, deleteJSON, Problem, isAbort, KEY_NEEDED
 *
 * Every refusal is a `Problem` (made of `application/problem+json`, or of the status alone), and so is an API that does
 * not answer: its `status` is then 0. An aborted request throws what `fetch` throws: ask `isAbort`.
 */

import * as key from './key.js';

/** The window's event when the API does not know who asks. */
export const KEY_NEEDED = 'tidemark-key-needed';

/** What the API, or the way to it, has to say against a request. */
export class Problem extends Error {
  /** @param {{ status: number, title: string, detail?: string, type?: string, errors?: any[] }} parts */
  constructor({ status, title, detail = '', type = '', errors = [] }) {
    super(detail ? `${title}: ${detail}` : title);
    this.name = 'Problem';
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.type = type;
    this.errors = errors;
  }
}

/**
 * @typedef {Record<string, string | number | boolean | null | undefined | (string | number)[]>} Query
 * @typedef {{ params?: Query, signal?: AbortSignal, headers?: Record<string, string> }} Options
 */

/**
 * The answer to a GET. In `params`, null, undefined and "" are left out, an array repeats its parameter.
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export function getJSON(path, options) {
  return request('GET', path, undefined, options);
}

/** The answer to a POST of JSON. @param {string} path @param {any} body @param {Options} [options] @returns {Promise<any>} */
export function postJSON(path, body, options) {
  return request('POST', path, body, options);
}

/** The answer to a PUT of JSON. @param {string} path @param {any} body @param {Options} [options] @returns {Promise<any>} */
export function putJSON(path, body, options) {
  return request('PUT', path, body, options);
}

/** The answer to a DELETE, null where it has none. @param {string} path @param {Options} [options] @returns {Promise<any>} */
export function deleteJSON(path, options) {
  return request('DELETE', path, undefined, options);
}

/** Whether a request ended because nobody waits for it any more. @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** @param {string} method @param {string} path @param {any} body @param {Options} [options] @returns {Promise<any>} */
async function request(method, path, body, { params, signal, headers } = {}) {
  const answer = await answerOf(address(path, params), {
    method,
    signal,
    headers: {
      Accept: 'application/json',
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...key.headers(),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 401) dispatchEvent(new Event(KEY_NEEDED));
  if (!answer.ok) throw await problemOf(answer);
  if (answer.status === 204) return null;
  try {
    return await answer.json();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem({ status: 0, title: 'The answer of the API cannot be read', detail: path });
  }
}

/** @param {string} url @param {RequestInit} init */
async function answerOf(url, init) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem({ status: 0, title: 'The API does not answer', detail: 'It may be restarting, or the network is down.' });
  }
}

/** @param {Response} answer */
async function problemOf(answer) {
  const fallback = { status: answer.status, title: `The API answered ${answer.status} ${answer.statusText}`.trim() };
  if (!(answer.headers.get('Content-Type') ?? '').includes('json')) return new Problem(fallback);
  try {
    return new Problem({ ...fallback, ...(await answer.json()), status: answer.status });
  } catch (error) {
    if (isAbort(error)) throw error;
    return new Problem(fallback);
  }
}

/** @param {string} path @param {Query} [params] */
function address(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== '') query.append(name, String(one));
    }
  }
  const text = query.toString();
  return text ? `${path}${path.includes('?') ? '&' : '?'}${text}` : path;
}
