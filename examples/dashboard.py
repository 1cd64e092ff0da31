"""A live dashboard of this machine, in a page of under 60 lines (dashboard.html).

Run `python -m examples.dashboard`, and open http://127.0.0.1:8000/.
"""

from examples.site import main, make_site

app, triode = make_site("dashboard.html", demo=True)

if __name__ == "__main__":
    main(app, __doc__)
