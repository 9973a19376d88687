"""What the tests of all assignments share: each test file gets the part it uses."""

import linecache


def expect_answer(got, what):
    """Say that there is no answer yet, before anything is said about a wrong one."""
    assert got is not ..., f"{what} has no answer yet."
    assert got is not None, (
        f"{what} has no answer yet: nothing came back. Is a `return` missing?"
    )


def say_where(error):
    """Add to an error where in the student's own code it happened."""
    place, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__") == "__main__":
            place = step
        step = step.tb_next
    if place is None:
        return
    text = str(error.args[0] if len(error.args) == 1 else error)
    missing = getattr(error, "name", None)
    if type(error) is NameError and missing:
        text += (
            f". Run the cell above that defines or imports `{missing}`; if there is "
            "none, the name is misspelled"
        )
    code = place.tb_frame.f_code
    line = linecache.getline(code.co_filename, place.tb_lineno).strip()
    where = f"In your `{code.co_qualname.replace('<locals>.', '')}`"
    where += f", line {place.tb_lineno - code.co_firstlineno + 1}"
    error.args = (f"{where}, `{line}`: {text}" if line else f"{where}: {text}",)
