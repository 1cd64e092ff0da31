import { flushSync, mount, unmount } from 'svelte';
import { get } from 'svelte/store';

import { triodeStore } from 'triode-client/svelte';

import Price from './Price.svelte';

let app;
Object.assign(window, {
  show(filter) {
    const host = document.createElement('main');
    document.body.replaceChildren(host);
    app = mount(Price, { target: host, props: { filter } });
    flushSync();
  },
  leave: () => unmount(app),
  now: (filter) => get(triodeStore(filter, { initial: 'none yet' })),
});
