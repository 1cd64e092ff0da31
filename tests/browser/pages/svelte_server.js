import { render } from 'svelte/server';

import Price from './Price.svelte';

console.log(render(Price, { props: { filter: '.price' } }).body);
