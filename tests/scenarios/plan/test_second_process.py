"""A function called in a second process is the function."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.plan.second_process import SecondProcess


def _work(number):
    if number < 0:
        raise BadInput(f"number ({number}) is below 0")
    return number + 1, os.getpid()


def test_it_answers_as_the_function_does_and_raises_what_it_raises():
    with SecondProcess(_work, lambda: None) as second:
        assert [second(n)[0] for n in (1, 2, 3)] == [2, 3, 4]
        with pytest.raises(BadInput, match="below 0"):
            second(-1)
        assert second(7)[0] == 8


def test_its_process_is_gone_at_the_end_even_after_an_error():
    with pytest.raises(RuntimeError), SecondProcess(_work, lambda: None) as second:
        child = second._child
        raise RuntimeError
    if child:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def test_work_is_done_here_if_the_process_dies():
    with SecondProcess(_work, lambda: os._exit(1)) as second:
        assert second(1) == (2, os.getpid())
    with SecondProcess(_work, lambda: None) as second:
        if second._child:
            second(1)
            os.kill(second._child, signal.SIGKILL)
        assert second(1)[0] == 2


def test_beside_other_threads_there_is_no_second_process():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with SecondProcess(_work, lambda: None) as second:
            assert second(1) == (2, os.getpid())
    finally:
        stop.set()
        thread.join()
