import { emitter } from './emitter.js';

/** A room of the connection `t`; `changed` is told when it is entered or left. See `room` in triode.js. */
export function roomOf(name, t, changed) {
  const settlers = [];
  const change = (joined) => {
    room.joined = joined;
    if (!joined) room.position = null;
    return new Promise((...settler) => {
      settlers.push(settler);
      changed(room);
    });
  };
  const room = {
    __proto__: emitter(),
    name,
    joined: false, // over reconnects too
    position: null, // up to there we have heard it, as far as that is known
    /** Resolves with the ids of those in it; over an event stream with nothing. */
    join: () => change(true),
    leave: () => change(false),
    publish: (event, data, more) => t.publish({ room: name, event, data, ...more }),
    settle(members, error) {
      settlers.splice(0).forEach(([resolve, reject]) => (error ? reject(error) : resolve(members)));
    },
    fail(error) {
      room.joined = false;
      room.emit('error', error);
      room.settle(null, error);
    },
  };
  return room;
}
