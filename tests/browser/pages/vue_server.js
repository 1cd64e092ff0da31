import { createSSRApp, h } from 'vue';
import { renderToString } from 'vue/server-renderer';

import { useTriode } from 'triode-client/vue';

const app = createSSRApp({
  setup() {
    const price = useTriode('.price', { initial: '…' });
    return () => h('b', { id: 'shown' }, price.value);
  },
});
renderToString(app).then(console.log);
