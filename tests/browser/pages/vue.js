import { createApp, h, onErrorCaptured, ref, shallowRef } from 'vue';

import { triode } from 'triode-client';
import { triodePlugin, useTriode, useTriodeState } from 'triode-client/vue';

const t = triode('/', { delayMs: 50 });
const views = [];
const { watch } = t;
t.watch = (...all) => {
  views.push(watch(...all));
  return views.at(-1);
};
const filter = ref(null);
const fault = shallowRef(null);

const Price = {
  setup() {
    const price = useTriode(filter, { initial: '…' });
    return () => {
      window.renders = (window.renders ?? 0) + 1;
      return h('b', { id: 'shown' }, String(price.value));
    };
  },
};
const State = {
  setup() {
    const { value, stale, error } = useTriodeState(() => filter.value);
    return () =>
      h(
        'b',
        { id: 'shown' },
        JSON.stringify([value.value ?? null, stale.value, error.value?.status ?? null]),
      );
  },
};
let app;

Object.assign(window, {
  t,
  views,
  show(kind, wanted) {
    filter.value = wanted;
    fault.value = null;
    if (app) return;
    const host = document.createElement('main');
    document.body.replaceChildren(host);
    const Root = {
      setup() {
        onErrorCaptured((error) => {
          fault.value = error;
          return false;
        });
        return () => [
          h({ Price, State }[kind]),
          fault.value && h('i', `${fault.value.status} at ${fault.value.column}`),
        ];
      },
    };
    app = createApp(Root).use(triodePlugin(t));
    app.mount(host);
  },
  leave() {
    app.unmount();
    app = null;
  },
});
