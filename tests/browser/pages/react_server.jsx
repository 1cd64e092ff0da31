import { renderToString } from 'react-dom/server';

import { triode } from 'triode-client';
import { TriodeProvider, useTriode } from 'triode-client/react';

const t = triode();

function Price({ filter }) {
  return <b id="shown">{String(useTriode(filter, { initial: '…' }))}</b>;
}

console.log(
  renderToString(
    <TriodeProvider client={t}>
      <Price filter=".price" />
    </TriodeProvider>,
  ),
);
