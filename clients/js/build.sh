# Makes what a server serves: `npm run build`. The client is one file, which the element imports.
set -e
small() {
  echo '/*! Triode for JavaScript, MIT licence */'
  terser --module -c passes=3,ecma=2020,unsafe_arrows=true,keep_fargs=false -m --ecma 2020 --comments false
}
join() { esbuild "$1" --bundle --format=esm --log-level=warning '--external:*/triode.js'; }
join triode.js | small >"$1/client.js"
join element.js | sed 's#"\.\.*/triode.js"#"./client.js"#' | small >"$1/triode-value.js"
