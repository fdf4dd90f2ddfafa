"""The queue: one at a time, in order, with words for what goes wrong."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from atbsn.app.page.jobs import MAX_PER_SESSION, MAX_WAITING, BusyError, JobQueue
from atbsn.utils.errors import UserError


def never(job: Any) -> None:
    pytest.fail("a job that was to be taken out runs")


@pytest.fixture
def jobs() -> Iterator[JobQueue]:
    jobs = JobQueue()
    yield jobs
    jobs.close()


class Gate:
    """Work that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Any) -> str:
        self.begun.set()
        assert self.open.wait(30)
        job.progress(0.5)
        return "through"


def test_one_at_a_time_in_order(jobs: JobQueue) -> None:
    gate, order = Gate(), []
    first = jobs.add("a", "result", gate)
    assert gate.begun.wait(30)
    second = jobs.add("b", "result", lambda job: order.append("second"))
    third = jobs.add("a", "noise", lambda job: order.append("third"))
    assert (first.state, second.state, third.state) == ("running", "waiting", "waiting")
    assert [jobs.position(job) for job in (first, second, third)] == [0, 1, 2]
    gate.open.set()
    assert third.wait(30)
    assert order == ["second", "third"]
    assert (first.state, first.result, jobs.position(third)) == ("done", "through", 0)


def test_a_waiting_job_is_taken_out_and_a_running_one_ends_at_its_next_step(jobs: JobQueue) -> None:
    gate = Gate()
    running = jobs.add("a", "result", gate)
    assert gate.begun.wait(30)
    waiting = jobs.add("a", "result", never)
    jobs.stop(waiting)
    assert waiting.state == "stopped"
    jobs.stop(running)
    assert running.state == "running"
    gate.open.set()
    assert running.wait(30)
    assert (running.state, running.result) == ("stopped", None)


def test_a_newer_one_of_the_same_kind_replaces_what_waits(jobs: JobQueue) -> None:
    gate = Gate()
    jobs.add("a", "result", gate)
    assert gate.begun.wait(30)
    old = jobs.add("a", "view", never)
    other = jobs.add("b", "view", lambda job: "of b")
    new = jobs.add("a", "view", lambda job: "of a", replace=True)
    gate.open.set()
    assert new.wait(30)
    assert other.wait(30)
    assert (old.state, other.result, new.result) == ("stopped", "of b", "of a")


def test_nobody_else_finds_it(jobs: JobQueue) -> None:
    job = jobs.add("a", "result", lambda job: None)
    assert jobs.get("a", job.id) is job
    assert jobs.get("b", job.id) is None
    assert jobs.get("a", "nosuch") is None


def test_the_queue_has_an_end(jobs: JobQueue) -> None:
    gate = Gate()
    jobs.add("first", "result", gate)
    assert gate.begun.wait(30)
    for _ in range(MAX_PER_SESSION):
        jobs.add("greedy", "result", lambda job: None)
    with pytest.raises(BusyError, match="of yours"):
        jobs.add("greedy", "result", lambda job: None)
    for number in range(MAX_WAITING - MAX_PER_SESSION):
        jobs.add(f"visitor {number}", "result", lambda job: None)
    with pytest.raises(BusyError, match="Too much is waiting"):
        jobs.add("late", "result", lambda job: None)
    gate.open.set()


def test_one_who_leaves_takes_his_jobs_along(jobs: JobQueue) -> None:
    gate = Gate()
    running = jobs.add("a", "result", gate)
    assert gate.begun.wait(30)
    waiting = jobs.add("a", "noise", never)
    other = jobs.add("b", "noise", lambda job: "done")
    threading.Timer(0.05, gate.open.set).start()
    jobs.forget("a")
    assert (running.state, waiting.state) == ("stopped", "stopped")
    assert jobs.get("a", running.id) is None
    assert other.wait(30)
    assert other.result == "done"


def test_what_is_about_a_picture_ends_with_it(jobs: JobQueue) -> None:
    gate = Gate()
    running = jobs.add("a", "result", gate, picture="one")
    assert gate.begun.wait(30)
    waiting = jobs.add("a", "view", never, picture="one")
    other = jobs.add("a", "view", lambda job: "of two", picture="two")
    stranger = jobs.add("b", "view", lambda job: "of b", picture="one")
    threading.Timer(0.05, gate.open.set).start()
    assert jobs.end_all("a", "one") == [running, waiting]
    assert (running.state, waiting.state) == ("stopped", "stopped")
    assert jobs.get("a", running.id) is running
    assert other.wait(30) and stranger.wait(30)
    assert (other.result, stranger.result) == ("of two", "of b")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("photo.png: is no picture"), "photo.png: is no picture"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("/secret/path"), r"should not \(KeyError\). The terminal says more"),
    ],
)
def test_what_goes_wrong_is_said_in_words_and_the_next_one_runs(jobs: JobQueue, error: Exception, words: str) -> None:
    def fail(job: Any) -> None:
        raise error

    failed = jobs.add("a", "result", fail)
    after = jobs.add("a", "result", lambda job: "fine")
    assert after.wait(30)
    assert failed.state == "failed"
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(failed.message)
    assert "/secret" not in failed.message
    assert after.result == "fine"
