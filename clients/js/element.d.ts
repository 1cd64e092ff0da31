import type { Triode } from './triode.js';

/** `<triode-value filter=".price">`: shows what a filter selects. */
export class TriodeValue extends HTMLElement {
  /** The client of elements without `src`: for tokens and other options. */
  static client: Triode<any> | undefined;
  /** The value of the view. */
  readonly value: any;
}

declare global {
  interface HTMLElementTagNameMap {
    'triode-value': TriodeValue;
  }
  interface HTMLElementEventMap {
    'triode-change': CustomEvent<any>;
  }
}
