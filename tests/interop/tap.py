"""Lines of the test protocol: `ok`, `not ok`, `ok # SKIP`; the caller sums them up (tools/interop)."""
import sys
import traceback

_failed = False


def ok(condition, name, detail=""):
    """One test. detail is printed behind the name: what was measured, or what went wrong."""
    global _failed
    _failed = _failed or not condition
    print("%s %s%s" % ("ok" if condition else "not ok", name, ": %s" % detail if detail else ""), flush=True)
    return bool(condition)


def skip(name, why):
    print("ok %s # SKIP %s" % (name, why), flush=True)


def note(text):
    print("# %s" % text, flush=True)


def run(*tests):
    """Runs each function; an exception fails it and the others go on. Ends the process."""
    global _failed
    for test in tests:
        try:
            test()
        except Exception:
            _failed = True
            print("not ok %s: exception" % test.__name__, flush=True)
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), flush=True)
    sys.exit(1 if _failed else 0)
