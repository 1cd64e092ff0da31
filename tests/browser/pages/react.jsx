import { Component, StrictMode } from 'react';
import { createRoot, hydrateRoot } from 'react-dom/client';

import { triode } from 'triode-client';
import { TriodeProvider, useClient, useTriode, useTriodeState } from 'triode-client/react';

const t = triode('/', { delayMs: 50, autoConnect: false });
const views = [];
const { watch } = t;
t.watch = (...all) => {
  views.push(watch(...all));
  return views.at(-1);
};

export function Price({ filter }) {
  const price = useTriode(filter, { initial: '…' });
  globalThis.renders = (globalThis.renders ?? 0) + 1;
  return <b id="shown">{String(price)}</b>;
}

function State({ filter }) {
  const { value, stale, error } = useTriodeState(filter);
  return <b id="shown">{JSON.stringify([value ?? null, stale, error?.status ?? null])}</b>;
}

function Prices() {
  const prices = useTriode('.prices.*');
  const client = useClient();
  const add = () => client.set('.prices.c', 3);
  return (
    <b id="shown" onClick={add}>
      {prices && [...prices].join(' ')}
    </b>
  );
}

class Boundary extends Component {
  state = {};
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    const { error } = this.state;
    return error ? <b id="shown">{`${error.status} at ${error.column}`}</b> : this.props.children;
  }
}

const host = document.createElement('main');
document.body.replaceChildren(host);
let root;

Object.assign(window, {
  t,
  views,
  async show(kind, filter, isStrict) {
    root ??= createRoot(host, { onCaughtError: () => {} });
    const Shown = { Price, State, Prices }[kind];
    const inner = (
      <TriodeProvider client={t}>
        <Boundary key={filter}>
          <Shown filter={filter} />
        </Boundary>
      </TriodeProvider>
    );
    root.render(isStrict ? <StrictMode>{inner}</StrictMode> : inner);
  },
  takeOver(html, filter) {
    host.innerHTML = html;
    root = hydrateRoot(
      host,
      <TriodeProvider client={t}>
        <Price filter={filter} />
      </TriodeProvider>,
    );
  },
  leave() {
    root.unmount();
    root = null;
  },
});
