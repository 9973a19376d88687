"""What keeps a notebook from spoiling its own grading.

grade.py puts the text of this file before the first cell of a submission, so it runs
in the student's kernel, before the student's code. It limits the time of each cell and
of each test, the output, the memory and the size of files; it reads the tests before
the student's code can touch them; and it writes down which cell and which test have
begun and ended, so that whatever ends the process can be found and left out.

None of this stops somebody who wants to break it: the code of the student and the
tests live in one process. See README.md.
"""

import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


# Neither is an Exception, so that `except Exception: pass` in a loop does not hold it.
class OutOfTime(BaseException):
    """A cell or a test ran longer than it may."""


class TooMuchOutput(BaseException):
    """A cell wrote more than it may."""


class LimitedOutput(io.TextIOBase):
    """Takes what is printed, keeps nothing, and stops those who print too much."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def write(self, text: str) -> int:
        self.left -= len(text)
        if self.left < 0:
            raise TooMuchOutput(f"more than {self.most:,} characters of output")
        return len(text)

    def isatty(self) -> bool:
        return False


class Guard:
    """The limits of one kernel, and its diary."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.cells = list(enumerate(settings["cells"]))
        self.output = LimitedOutput(settings["output"])
        self.diary = os.open(
            settings["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )
        self.tests = {p.stem: p.read_text("utf-8") for p in Path("tests").glob("*.py")}
        self.now: int | None = None
        self.process = os.getpid()

    def note(self, **entry: object) -> None:
        if os.getpid() != self.process:
            os._exit(0)  # a copy that the student's code made by fork ends here
        os.write(self.diary, json.dumps(entry).encode() + b"\n")

    def limit_process(self) -> None:
        for what, most in (
            (resource.RLIMIT_AS, self.settings["memory"]),
            (resource.RLIMIT_FSIZE, self.settings["file"]),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))
        for alarm in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(alarm, self.ring)

    def ring(self, signum: int, frame: object) -> None:
        raise OutOfTime("stopped because it took too long")

    def start_clocks(self, seconds: float) -> None:
        """Ring after so many seconds of computing, or of waiting several times as long.

        Computing is what counts: on a busy machine the clock on the wall runs ahead.
        They ring again every second, in case the first ring was caught.
        """
        signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
        signal.setitimer(signal.ITIMER_REAL, seconds * self.settings["patience"], 1.0)

    def stop_clocks(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        self.start_clocks(seconds)
        try:
            yield
        finally:
            self.stop_clocks()

    def limit_output(self, shell: object) -> None:
        def swallow(*args: object, **kwargs: object) -> None:
            return None

        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = self.output
        # What programs and libraries write past Python goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        shell.display_trap.hook = swallow
        shell.display_pub.publish = swallow
        shell._showtraceback = swallow
        shell.ask_exit = swallow  # exit() ends a cell, not the kernel

    def watch_cells(self, shell: object) -> None:
        shell.events.register("pre_run_cell", self.begin)
        shell.events.register("post_run_cell", self.end)

    def begin(self, info: object) -> None:
        digest = hashlib.sha256(info.raw_cell.encode()).hexdigest()
        self.output.left = self.output.most
        for place, (number, known) in enumerate(self.cells):
            if known == digest:
                del self.cells[: place + 1]
                self.now = number
                self.note(cell=number, event="begin")
                self.start_clocks(self.settings["cell"])
                return
        self.now = None

    def end(self, result: object) -> None:
        self.stop_clocks()
        if self.now is not None:
            error = result.error_in_exec or result.error_before_exec
            kind = type(error).__name__ if error is not None else None
            text = str(error)[:300] if error is not None else None
            self.note(cell=self.now, event="end", error=kind, text=text)

    def take_over_tests(self) -> None:
        """Let Otter take the tests from here, and survive whatever they raise."""
        from otter.execute import checker
        from otter.test_files.abstract_test import TestCaseResult
        from otter.test_files.exception_test import ExceptionTestFile

        def run(test: ExceptionTestFile, environment: dict) -> None:
            test.test_case_results = []
            ended = False
            for case in test.test_cases:
                ended = ended or case.name in self.settings["skip"]
                if ended:
                    passed, message = False, "The test ended the whole process."
                else:
                    passed, message = self.run_case(test, case, environment)
                result = TestCaseResult(case, message[:2000], passed)
                test.test_case_results.append(result)

        def create(path: str, *args: object, **kwargs: object) -> ExceptionTestFile:
            return ExceptionTestFile.from_string(self.tests[Path(path).stem], path)

        ExceptionTestFile.run = run
        checker.create_test_file = create

    def run_case(self, test: object, case: object, env: dict) -> tuple[bool, str]:
        self.note(test=case.name, event="begin")
        self.output.left = self.output.most
        try:
            with self.at_most(self.settings["test"]):
                case.body.call_func(env)
            passed, message = True, "passed"
        except BaseException as error:
            passed, message = False, f"{type(error).__name__}: {str(error)[:1500]}"
        self.note(test=case.name, event="end")
        return passed, message


def install(settings: dict) -> None:
    """Put the guard in place in this kernel."""
    shell = get_ipython()  # noqa: F821
    guard = Guard(settings)
    guard.limit_process()
    guard.limit_output(shell)
    guard.take_over_tests()
    guard.watch_cells(shell)
