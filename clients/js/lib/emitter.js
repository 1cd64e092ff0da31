// Listeners by the name of an event.

export const ANY = ''; // an event after every other

export function emitter() {
  const lists = new Map();
  return {
    on(name, listener, once) {
      lists.set(name, (lists.get(name) ?? new Map()).set(listener, once));
      return this;
    },
    once(name, listener) {
      return this.on(name, listener, true);
    },
    off(name, listener) {
      lists.get(name)?.delete(listener);
      return this;
    },
    /** Whether anybody listened. What a listener throws is reported and stops nobody else. */
    emit(name, ...values) {
      const list = [...(lists.get(name) ?? [])];
      for (const [listener, once] of list) {
        if (once) this.off(name, listener);
        try {
          listener(...values);
        } catch (error) {
          Promise.reject(error);
        }
      }
      if (name !== ANY) this.emit(ANY);
      return list.length > 0;
    },
  };
}
