// `<triode-value filter=".price">`: shows what a filter selects, in any page.

import { sharedClient, sourceOf } from './lib/source.js';
import { triode } from './triode.js';

const clients = new Map();

const clientOf = (src) => {
  if (!src) return TriodeValue.client ?? sharedClient();
  if (!clients.has(src)) clients.set(src, triode(src));
  return clients.get(src);
};

const textOf = (value) =>
  value === null || value === undefined
    ? ''
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value);

/** Attributes: `filter`, `policy`, `src` (the server, by default that of the page). It has the attribute
 *  `stale` while its value may be out of date, and `error` if the filter is refused.
 *
 *  The value is its text. With a `<template>` inside, that is filled once for each place (or each element
 *  of an array): `data-field="item.name"` is where a member goes, `data-field` where the value itself does.
 *
 *  After each change it has the event `triode-change`, which bubbles; its `detail` is the value. */
// Where pages are made there are no elements; the module can be loaded there all the same.
export class TriodeValue extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ['filter', 'policy', 'src'];
  /** The client of elements without `src`: for tokens and other options. */
  static client;
  #source;
  #stop;
  #shown;

  /** The value of the view. */
  get value() {
    return this.#source?.read().value;
  }

  connectedCallback() {
    const filter = this.getAttribute('filter');
    const policy = this.getAttribute('policy') ?? undefined;
    this.#source = sourceOf(clientOf(this.getAttribute('src')), filter, { policy });
    this.#shown = undefined;
    this.#stop = this.#source.subscribe(() => this.#show());
    this.#show();
  }

  disconnectedCallback() {
    this.#stop?.();
    this.#stop = null;
  }

  attributeChangedCallback() {
    if (!this.#stop) return;
    this.disconnectedCallback();
    this.connectedCallback();
  }

  #show() {
    const { value, stale, error } = this.#source.read();
    this.toggleAttribute('stale', stale);
    if (error) this.setAttribute('error', error.detail);
    else this.removeAttribute('error');
    if (value === this.#shown) return; // what the page has in it stays until there is one
    this.#shown = value;
    const template = this.querySelector(':scope > template');
    if (template) this.replaceChildren(template, ...fill(template, value));
    else this.textContent = textOf(value);
    this.dispatchEvent(new CustomEvent('triode-change', { detail: value, bubbles: true }));
  }
}

function fill(template, value) {
  const isList = value instanceof Map || Array.isArray(value);
  const each = isList ? [...value.values()] : value === undefined ? [] : [value];
  return each.map((one) => {
    const made = template.content.cloneNode(true);
    for (const field of made.querySelectorAll('[data-field]')) {
      const names = field.dataset.field.split('.').filter(Boolean);
      field.textContent = textOf(names.reduce((holder, name) => holder?.[name], one));
    }
    return made;
  });
}

globalThis.customElements?.define('triode-value', TriodeValue);
