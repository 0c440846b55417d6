"""One thread for linear algebra, whichever thread asks for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_info, threadpool_limits

from fmbdask.anomaly.threads import one_thread


def most() -> int:
    """Threads of the BLAS that has most."""
    return max(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")


def held() -> tuple[int, int]:
    with one_thread():
        with one_thread():
            inside = most()
        return inside, most()


def test_any_thread_can_ask_and_give_back() -> None:
    with threadpool_limits(2, "blas"):
        before = most()
        assert held() == (1, 1)
        assert most() == before
        for _ in range(2):  # each in a thread of its own
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(held).result() == (1, 1)
            assert most() == before
        # the first to come is not the last to go
        first, second = one_thread(), one_thread()
        first.__enter__()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(second.__enter__).result()
            first.__exit__(None, None, None)
            assert most() == 1
            pool.submit(second.__exit__, None, None, None).result()
        assert most() == before
