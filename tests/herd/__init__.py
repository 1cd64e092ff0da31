"""A herd of native EventSources behind nginx, and a server that is restarted under them."""
