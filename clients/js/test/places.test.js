// What a view makes of events: docs/wire.md, Events, the same cases for every way in which an event can lie
// to what is selected.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { triode } from '../triode.js';
import { fakeWebSocket, settle } from './kit/fake.js';

async function watching(context, filter, items) {
  const { sockets, WebSocket } = fakeWebSocket();
  const t = triode('http://triode.test', { WebSocket });
  context.after(() => t.close());
  const view = t.watch(filter);
  await settle();
  const [socket] = sockets;
  socket.welcome(items);
  const update = (path, value) => socket.say({ type: 'update', filter, path, value, time: 1 });
  const remove = (path) => socket.say({ type: 'delete', filter, path, time: 1 });
  return { t, view, socket, update, remove };
}

const at = (path, value) => ({ path, value });

test('a path filter gives the bare value', async (context) => {
  const { view, update, remove } = await watching(context, '.a', [at('.a', { b: 1 })]);
  assert.deepEqual(view.value, { b: 1 });
  update('.a', [1, 2]);
  assert.deepEqual(view.value, [1, 2]);
  remove('.a');
  assert.equal(view.value, undefined);
  assert.equal(view.items.size, 0);
  update('.a', null);
  assert.equal(view.value, null);
});

test('an update inside sets that place, at the end of an array it appends', async (context) => {
  const { view, update } = await watching(context, '.', [at('.', { a: { list: [1] } })]);
  update('.a.b', { c: true });
  update('.a.b.c', false);
  update('.a.list[1]', 2);
  update('.a.list[0]', 'first');
  update('.["any key \\"]["]', 'x');
  assert.deepEqual(view.value, { a: { list: ['first', 2], b: { c: false } }, 'any key "][': 'x' });
});

test('a delete inside removes that place', async (context) => {
  const { view, remove } = await watching(context, '.', [
    at('.', { a: { b: 1, c: 2 }, list: [1, 2] }),
  ]);
  remove('.a.b');
  remove('.list[1]');
  assert.deepEqual(view.value, { a: { c: 2 }, list: [1] });
});

test('a filter of many places gives a map in which places come and go', async (context) => {
  const { view, update, remove } = await watching(context, '.*.n', [
    at('.a.n', 1),
    at('.b.n', { x: 1 }),
  ]);
  update('.b.n.x', 2);
  update('.c.n', 3);
  remove('.a.n');
  assert.deepEqual(
    view.value,
    new Map([
      ['.b.n', { x: 2 }],
      ['.c.n', 3],
    ]),
  );
});

test('an update above selected places replaces them by what it holds', async (context) => {
  const { view, update } = await watching(context, '..n', [
    at('.a.n', { n: 1 }),
    at('.a.n.n', 1),
    at('.b.n', 2),
  ]);
  update('.a.n', { n: 5, m: 6 });
  assert.deepEqual(
    view.value,
    new Map([
      ['.a.n', { n: 5, m: 6 }],
      ['.a.n.n', 5],
      ['.b.n', 2],
    ]),
  );
  update('.a.n', 7);
  assert.deepEqual(
    view.value,
    new Map([
      ['.a.n', 7],
      ['.b.n', 2],
    ]),
  );
});

test('a delete above selected places removes them; names that only begin alike stay', async (context) => {
  const { view, remove } = await watching(context, '..n', [
    at('.a.n', 1),
    at('.a.b.n', 2),
    at('.ab.n', 3),
    at('[0].n', 4),
  ]);
  remove('.a');
  assert.deepEqual(
    view.value,
    new Map([
      ['.ab.n', 3],
      ['[0].n', 4],
    ]),
  );
  remove('.');
  assert.equal(view.value.size, 0);
});

test('names that objects have from elsewhere are names like any other', async (context) => {
  const { view, update, remove } = await watching(context, '.', [
    at('.', JSON.parse('{"__proto__":{"x":1}}')),
  ]);
  update('.__proto__.x', 2);
  update('.constructor', { y: 1 });
  update('.constructor.__proto__', 'own');
  update('.constructor.__proto__', 'again');
  remove('.toString');
  assert.equal(
    JSON.stringify(view.value),
    '{"__proto__":{"x":2},"constructor":{"y":1,"__proto__":"again"}}',
  );
  assert.equal({}.x, undefined);
});

test('what was handed out never changes, and shares what stayed the same', async (context) => {
  const { view, update, remove } = await watching(context, '.', [
    at('.', { a: { n: 1 }, list: [{ n: 1 }, 2], same: {} }),
  ]);
  const before = view.value;
  assert.equal(view.value, before);
  const copy = structuredClone(before);
  update('.a.n', 2);
  update('.list[0].n', 2);
  remove('.list[1]');
  const after = view.value;
  assert.deepEqual(before, copy);
  assert.deepEqual(after, { a: { n: 2 }, list: [{ n: 2 }], same: {} });
  assert.notEqual(after, before);
  assert.equal(after.same, before.same);
});

test('what cannot be applied has been done already, and changes nothing', async (context) => {
  const { view, update, remove } = await watching(context, '.', [at('.', { a: 1, list: [1] })]);
  update('.a.b', 2);
  update('.list[5]', 2);
  update('.list.x', 2);
  update('[0]', 2);
  remove('.gone.x');
  assert.deepEqual(view.value, { a: 1, list: [1] });
});

test('a snapshot of several frames is shown when it is whole', async (context) => {
  const { view, socket } = await watching(context, '.*', [at('.a', 1)]);
  const changes = [];
  view.on('change', ({ type }) => changes.push(type));
  socket.say({ type: 'snapshot', filter: '.*', items: [at('.b', 2)], more: true });
  assert.deepEqual([...view.items], [['.a', 1]]);
  socket.say({ type: 'snapshot', filter: '.*', items: [at('.c', 3)], more: false, id: 'e1:9' });
  assert.deepEqual(
    [...view.items],
    [
      ['.b', 2],
      ['.c', 3],
    ],
  );
  assert.deepEqual(changes, ['snapshot']);
  assert.equal(view.position, 'e1:9');
});

test('canonical paths are read as they are written', async (context) => {
  for (const keys of [
    ['users', 0, 'name'],
    [0, 'a.b', 12],
    ['"][', '\\', 'x'],
    ['0', '', 'äöü\n'],
    [7],
    ['_1'],
    ['1'],
  ]) {
    const path = keys.map((key) =>
      typeof key === 'number'
        ? `[${key}]`
        : /^[A-Za-z_]\w*$/.test(key)
          ? `.${key}`
          : `[${JSON.stringify(key)}]`,
    );
    const { view, update } = await watching(context, '.', []);
    let whole = 1;
    for (const key of [...keys].reverse())
      whole = typeof key === 'number' ? [...Array(key).fill(0), whole] : { [key]: whole };
    update('.', structuredClone(whole));
    update(path.join(''), 2);
    assert.equal(
      keys.reduce((value, key) => value[key], view.value),
      2,
      path.join(''),
    );
  }
});

test('filters of one place are told from filters of many', (context) => {
  const t = triode('http://triode.test', { autoConnect: false });
  context.after(() => t.close());
  for (const one of [
    '',
    '.',
    '.a',
    '.a.b-c.*x',
    '.a[0]',
    '[0]',
    '.[0]',
    '.a[-1]',
    '["x.*"].y',
    '.["x"]',
    '/a/0',
    '.ä',
    '.a*',
  ])
    assert.equal(t.watch(one).value, undefined, one);
  for (const many of [
    '.*',
    '.a.*',
    '.a.*.b',
    '.a[*]',
    '..a',
    '.a[1:3]',
    '.a[x=1]',
    '.a[x="]"].b',
    '$.a',
    '$',
    '.a[?@.x]',
    '.*[x=1]',
  ])
    assert.deepEqual(t.watch(many).value, new Map(), many);
});
