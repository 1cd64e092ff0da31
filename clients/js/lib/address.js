// Where a server is, and what may stand in an address.

// What a server serves is below the path it is mounted at. In a bundle this file is elsewhere. (Vite and
// others take a `new URL` of `import.meta.url` itself for a file to bring along.)
const HERE = import.meta.url;
export const OWN = /\/client\.js(\?|$)/.test(HERE) ? new URL('.', HERE).href : '/';

/** What is meant by `url`: `base`, below which all of the server is. `isHomeless`: nothing yet. `page`: the one we are
 *  on, if any. */
export function addressOf(url) {
  const page = globalThis.location;
  // Where pages are made for a browser, `/` has no meaning yet. Modules are loaded there all the same.
  const isHomeless = !page && /^\.?\//.test(url);
  const base = isHomeless
    ? new URL('http://nowhere')
    : URL.canParse(url, page?.href) && new URL(url, page?.href);
  if (!/^(http|ws)s?:/.test(base.protocol))
    throw new TypeError(`not the address of a server: "${url}"; write http://HOST:PORT`);
  base.pathname = base.pathname.replace(/(\/ws)?\/?$/, '/'); // also of a WebSocket
  return { base, isHomeless, page };
}

export const base64url = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=/g, '');
