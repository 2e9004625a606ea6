"""Threads that compute one batch each."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import torch

from fusion_classifier.encoders.workers import batch_workers


def test_callers_who_overlap_leave_torch_its_threads() -> None:
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    inside, others_done = Event(), Event()

    def workers() -> int:
        with batch_workers(cpu) as (executor, count):
            executor.submit(torch.get_num_threads).result()
            return count

    def outer() -> None:
        with batch_workers(cpu) as (executor, _):
            executor.submit(torch.get_num_threads).result()  # its worker is there and has set torch's threads
            inside.set()
            others_done.wait(60)

    def workers_in_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as executor:  # its thread is new to torch
            return executor.submit(workers).result()

    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(outer)
            assert inside.wait(60)
            meanwhile = workers_in_a_new_thread()
            others_done.set()
            running.result()
        assert (meanwhile, workers_in_a_new_thread(), torch.get_num_threads()) == (2, 2, 2)
    finally:
        others_done.set()
        torch.set_num_threads(before)
