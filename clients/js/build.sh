# Makes what a server serves: `npm run build`. The client is one file, which the element imports.
set -e
# Names of ours that nobody outside sees, no event or command has, and no object of JavaScript's own that is
# used here: some are names of the browser's elsewhere (`order`, `pause`), which only `builtins` shortens.
private='inDoubt|isAborted|sentAt|begin|pause|arrived|refresh|tick|settle|over|order|live|tell|take|fail|holder|resolve|result|text|make|views|isHomeless|base|page'
small() {
  echo '/*! Triode for JavaScript, MIT licence */'
  terser --module -c passes=3,ecma=2020,unsafe_arrows=true,keep_fargs=false,hoist_funs=true -m --mangle-props "regex=/^($private)$/,builtins=true" --ecma 2020 --comments false
}
join() { esbuild "$1" --bundle --minify-syntax --format=esm --log-level=warning '--external:*/triode.js'; }
join triode.js | small >"$1/client.js"
join element.js | sed 's#"\.\.*/triode.js"#"./client.js"#' | small >"$1/triode-value.js"
