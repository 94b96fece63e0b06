"""Threads, processes, signals and memory. What ends a process, or forks it, runs in a process of its own."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from conftest import SMALL

import fullconv

PICTURE = np.random.default_rng(5).integers(0, 256, (48, 64, 3), np.uint8)


def python(code, *options, seconds=120):
    """Runs code in another Python; its output. It fails if the code does."""
    head = f"import fullconv, numpy as np\nSMALL = {str(SMALL)!r}\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_eight_threads_get_their_own_masks():
    python(
        """
        import threading
        segmenter = fullconv.Segmenter(SMALL, device=0, cache=False)
        rng = np.random.default_rng(1)
        pictures = [rng.integers(0, 256, (32 + i, 40, 3), np.uint8) for i in range(8)]
        expected = [segmenter(picture).numpy().copy() for picture in pictures]
        wrong = []
        def work(i):
            for _ in range(20):
                if not np.array_equal(segmenter(pictures[i]).numpy(), expected[i]):
                    wrong.append(i)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not wrong, wrong
        """,
        "-X",
        "dev",
        "-W",
        "error",
    )


def test_other_threads_run_meanwhile(demo):
    picture = np.random.default_rng(2).integers(0, 256, (360, 480, 3), np.uint8)
    demo(picture)
    counts = []
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counts.append(time.perf_counter())
            time.sleep(0.001)

    counting = threading.Thread(target=count)
    counting.start()
    begin = time.perf_counter()
    for _ in range(5):
        demo(picture)
    taken = time.perf_counter() - begin
    stop.set()
    counting.join()
    # With the lock held it would have counted between the calls only.
    assert sum(begin < at < begin + taken for at in counts) > 20


def label(_):
    return fullconv.Segmenter(SMALL, device=0, cache=False)(PICTURE).numpy().copy()


def label_with(segmenter):
    return segmenter(PICTURE).numpy().copy()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_their_own(small, method):
    expected = small(PICTURE).numpy()
    with multiprocessing.get_context(method).Pool(2) as pool:
        for found in pool.map(label, range(4)):
            assert np.array_equal(found, expected)
        # A segmenter that is sent is opened anew, from its file.
        assert np.array_equal(pool.apply(label_with, (small,)), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_of_a_segmenter_in_use_raises_and_does_not_hang():
    out = python(
        """
        import os, signal, time
        segmenter = fullconv.Segmenter(SMALL, device=0, cache=False)
        picture = np.zeros((32, 32, 3), np.uint8)
        segmenter(picture)
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                segmenter(picture)
            except RuntimeError as error:
                print("raised:", error, flush=True)
                del segmenter
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        assert time.monotonic() - begin < 5
        segmenter(picture)
        """
    )
    assert "raised: fullconv was in use before the fork" in out and "spawn" in out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_segmenter_that_was_never_used_survives_a_fork():
    python(
        """
        import os
        segmenter = fullconv.Segmenter(SMALL, device=0, cache=False)
        child = os.fork()
        if child == 0:
            os._exit(0 if segmenter(np.zeros((32, 32, 3), np.uint8)).numpy().shape == (32, 32) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )


def test_data_loaders_workers_label():
    pytest.importorskip("torch")
    code = """
        import sys
        from torch.utils.data import DataLoader, Dataset
        class Pictures(Dataset):
            def __init__(self):
                self.segmenter = fullconv.Segmenter(SMALL, device=0, cache=False)
            def __len__(self):
                return 8
            def __getitem__(self, i):
                return np.array(self.segmenter(np.full((32, 40, 3), 30 * i, np.uint8)))
        loader = DataLoader(Pictures(), batch_size=2, num_workers=2)
        alone = Pictures()
        found = [batch.numpy() for batch in loader]
        expected = np.stack([alone[i] for i in range(8)])
        assert np.array_equal(np.concatenate(found), expected)
        """
    python(code)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of unix")
def test_ctrl_c_stops_the_wait_at_once():
    out = python(
        """
        import os, signal, threading, time
        # A job in the background of a shell begins with the signal ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        segmenter = fullconv.Segmenter.demo(device=0, cache=False)
        segmenter.warm_up((64, 64))
        tensor = np.zeros((1, 3, 1600, 2400), np.float32)
        asked = []
        def ask():
            time.sleep(0.5)
            asked.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=ask).start()
        try:
            segmenter.run(tensor)
            print("no wait")
        except KeyboardInterrupt:
            print(time.perf_counter() - asked[0])
        """
    )
    assert float(out) < 0.5


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells the memory")
def test_memory_stays_the_same_over_1000_pictures(small):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(200):
        small(PICTURE)
    before = resident()
    for _ in range(1000):
        small(PICTURE)
    assert resident() < before + (8 << 20)


def test_the_import_is_quick():
    code = """
import numpy, sys, time
begin = time.process_time()
import fullconv
print(time.process_time() - begin)
assert not {"torch", "PIL", "tqdm", "safetensors"} & set(sys.modules)
"""
    run = lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert min(float(run().stdout) for _ in range(5)) < 0.05
